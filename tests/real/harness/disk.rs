//! A small disk of its own for what a daemon writes: a tmpfs in a mount namespace, which lives as long as this does.
//!
//! Programs are run inside the namespace and see the disk in the place of a directory; the tests reach it through the
//! process that holds the namespace open. Root needs nothing else for that. Other users get a user namespace as well,
//! where the kernel allows it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::geteuid;

use super::daemon::Site;
use super::tool;

/// What fills the disk.
const FILLER: &str = "somebody-else-s-file";
const BLOCK: usize = 4096;

/// The disk. Dropping it ends the process that holds it, and with that the disk.
pub(crate) struct Disk {
    holder: Child,
    at: PathBuf,
}

/// Somebody who takes every byte that is free, as soon as it is. Dropping it ends it; what it has taken stays taken.
pub(crate) struct Neighbour(Child);

impl Disk {
    /// Puts a disk of this many bytes in the place of a directory.
    pub(crate) fn over(at: &Path, bytes: u64) -> Self {
        Self::mounted(at, r#"mount -t tmpfs -o "size=$1,mode=0700" tmpfs "$0""#, &bytes.to_string())
    }

    /// Puts a disk of this many bytes in the place of a directory that is one in a file: with a file system that can fail. Takes
    /// root, and a kernel with loop devices.
    pub(crate) fn that_can_fail(at: &Path, bytes: u64) -> Self {
        let image = at.with_extension("image");
        File::create(&image).unwrap().set_len(bytes).unwrap();
        tool::run(Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image)).ok();
        let mount = r#"mount -t ext4 -o loop,errors=remount-ro "$1" "$0""#;
        Self::mounted(at, mount, image.to_str().unwrap())
    }

    fn mounted(at: &Path, mount: &str, argument: &str) -> Self {
        let script = format!("{mount} && echo there && read -r _");
        let mut command = Command::new("unshare");
        if !geteuid().is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        command.args(["--mount", "sh", "-c", &script]).arg(at).arg(argument);
        // It reads until this process closes the pipe, however it ends.
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = command.spawn().expect("unshare is part of util-linux");
        let mut said = String::new();
        BufReader::new(holder.stdout.as_mut().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(
            said.trim(),
            "there",
            "no small disk can be made; these tests need root with CAP_SYS_ADMIN, or a kernel that lets ordinary users \
             make user namespaces (sysctl kernel.unprivileged_userns_clone, user.max_user_namespaces); one that can fail, \
             root with loop devices"
        );
        Self { holder, at: at.to_owned() }
    }

    /// The disk as the tests reach it.
    pub(crate) fn path(&self) -> PathBuf {
        let inside = self.at.strip_prefix("/").unwrap();
        Path::new(&format!("/proc/{}/root", self.holder.id())).join(inside)
    }

    /// A program that finds the disk in its place. What is started is the program itself: nobody stands between.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command.arg("--target").arg(self.holder.id().to_string()).arg("--mount");
        if !geteuid().is_root() {
            command.args(["--user", "--preserve-credentials"]);
        }
        command.arg("--").arg(program);
        command
    }

    /// keystorectl with these arguments, to its end.
    pub(crate) fn keystorectl(&self, environment: BTreeMap<String, String>, arguments: &[&str]) -> tool::Ran {
        tool::run(self.command(env!("CARGO_BIN_EXE_keystorectl")).args(arguments).envs(environment))
    }

    /// keystored with these arguments, to its end.
    pub(crate) fn keystored(&self, arguments: &[&OsStr]) -> tool::Ran {
        tool::run(self.command(env!("CARGO_BIN_EXE_keystored")).args(arguments))
    }

    /// Takes all that is free.
    pub(crate) fn fill(&self) {
        self.fill_but(0);
    }

    /// Takes all that is free but so many blocks of 4 KiB.
    pub(crate) fn fill_but(&self, blocks: u64) {
        let mut filler = File::options().create(true).append(true).open(self.path().join(FILLER)).unwrap();
        let block = [0x5a; BLOCK];
        loop {
            match filler.write_all(&block) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => panic!("the disk cannot be filled: {error}"),
            }
        }
        let length = filler.metadata().unwrap().len();
        filler.set_len(length.saturating_sub(blocks * BLOCK as u64)).unwrap();
    }

    /// Takes no writes any more, or takes them again.
    pub(crate) fn read_only(&self, read_only: bool) {
        let options = if read_only { "remount,ro" } else { "remount,rw" };
        tool::run(self.command("mount").args(["-o", options]).arg(&self.at)).ok();
    }

    /// Has its file system find an error in itself, as of a broken disk: from then on it takes no writes, and no remount helps.
    pub(crate) fn fail(&self) {
        let mounts = fs::read_to_string(format!("/proc/{}/mounts", self.holder.id())).unwrap();
        let at = self.at.to_str().unwrap();
        let device =
            mounts.lines().rev().find_map(|line| line.split_once(' ').filter(|(_, rest)| rest.starts_with(at)));
        let device = device.unwrap().0.rsplit('/').next().unwrap();
        fs::write(format!("/sys/fs/ext4/{device}/trigger_fs_error"), "1").unwrap();
    }

    /// Puts another disk in its place that has a copy of what is on it. Whoever has files open on the former one keeps them.
    pub(crate) fn replace_by_a_copy(&self, bytes: u64) {
        let script = r#"mount -t tmpfs -o "size=$1,mode=0700" tmpfs "$2" && cp -a "$0/." "$2" && umount -l "$0" && mount --move "$2" "$0""#;
        let beside = self.at.with_extension("copy");
        fs::create_dir(&beside).unwrap();
        let mut command = self.command("sh");
        tool::run(command.args(["-c", script]).arg(&self.at).arg(bytes.to_string()).arg(beside)).ok();
    }

    /// Gives all of it back.
    pub(crate) fn free(&self) {
        fs::remove_file(self.path().join(FILLER)).unwrap();
    }

    /// Fills it, and takes whatever becomes free, every two milliseconds.
    pub(crate) fn neighbour(&self) -> Neighbour {
        self.fill();
        // Before others where that may be had, or a busy machine lets the daemon find room that this was to have taken.
        let script = r#"renice -n -10 -p $$ >/dev/null 2>&1
            while test -d "$0"; do dd if=/dev/zero bs=4096 count=1024 2>/dev/null >>"$0/$1"; sleep 0.002; done"#;
        let mut command = self.command("sh");
        command.args(["-c", script]).arg(&self.at).arg(FILLER).stdin(Stdio::null());
        Neighbour(command.spawn().unwrap())
    }
}

impl Site {
    /// Gives the daemon's state a disk of its own with so many bytes.
    pub(crate) fn with_disk(mut self, bytes: u64) -> Self {
        self.disk = Some(Disk::over(&self.path().join("state"), bytes));
        self
    }

    /// Gives the audit log a disk of its own with so many bytes.
    pub(crate) fn with_audit_disk(mut self, bytes: u64) -> Self {
        let at = self.path().join("audit");
        fs::create_dir_all(&at).unwrap();
        self.disk = Some(Disk::over(&at, bytes));
        self
    }

    /// The same, of one that can fail.
    pub(crate) fn with_audit_disk_that_can_fail(mut self, bytes: u64) -> Self {
        let at = self.path().join("audit");
        fs::create_dir_all(&at).unwrap();
        self.disk = Some(Disk::that_can_fail(&at, bytes));
        self
    }

    /// The disk of [`Site::with_disk`] or [`Site::with_audit_disk`].
    pub(crate) fn disk(&self) -> &Disk {
        self.disk.as_ref().unwrap()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
