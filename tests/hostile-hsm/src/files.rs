//! Other people's files: opened, changed, moved, lent.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use super::{Report, c, listed};

pub(crate) fn attack(report: &mut Report) {
    let home = std::env::var_os("HOSTILE_REPORT").map(PathBuf::from).unwrap_or_default();
    let home = home.parent().unwrap_or(Path::new("/")).to_owned();
    for path in listed("HOSTILE_READ") {
        report.tried(&format!("read {path}"), read(Path::new(&path)));
        let around = format!("/proc/self/root{path}");
        report.tried(&format!("read {around}"), read(Path::new(&around)));
        let link = home.join("hostile-link");
        let _ = fs::remove_file(&link);
        let linked = std::os::unix::fs::symlink(&path, &link).and_then(|()| read(&link));
        report.tried(&format!("read {path} through a symlink"), linked);
        let _ = fs::remove_file(&link);
        let hard = fs::hard_link(&path, &link).and_then(|()| read(&link));
        report.tried(&format!("read {path} through a hard link"), hard);
        let _ = fs::remove_file(&link);
    }
    for path in listed("HOSTILE_WRITE") {
        let name = c(&path);
        let file = Path::new(&path);
        report.tried(&format!("write {path}"), File::options().write(true).open(file));
        report.tried(&format!("append to {path}"), File::options().append(true).open(file));
        // To the length that it has: nobody is to miss anything if it succeeds.
        let length = fs::metadata(file).map_or(0, |meta| meta.len());
        // SAFETY: a path that ends with NUL.
        let cut = unsafe { libc::truncate(name.as_ptr(), length as libc::off_t) };
        report.called(&format!("truncate {path}"), cut.into());
        report.tried(&format!("rename {path}"), fs::rename(file, home.join("hostile-moved")));
        report.tried(&format!("make a file beside {path}"), File::create(file.with_extension("hostile")));
        report.tried(&format!("make a directory beside {path}"), fs::create_dir(file.with_extension("hostile-dir")));
        // Nothing is changed by any of these that succeeds.
        let mode = fs::metadata(file).map_or(0o600, |meta| std::os::unix::fs::MetadataExt::mode(&meta)) & 0o7777;
        // SAFETY: paths that end with NUL, and null where the system takes null for now.
        unsafe {
            report.called(&format!("chmod {path}"), libc::chmod(name.as_ptr(), mode).into());
            report.called(&format!("fchmodat {path}"), libc::fchmodat(libc::AT_FDCWD, name.as_ptr(), mode, 0).into());
            let nobody = u32::MAX;
            report.called(&format!("chown {path}"), libc::chown(name.as_ptr(), nobody, nobody).into());
            report.called(&format!("lchown {path}"), libc::lchown(name.as_ptr(), nobody, nobody).into());
            let now = libc::utimensat(libc::AT_FDCWD, name.as_ptr(), std::ptr::null(), 0);
            report.called(&format!("touch {path}"), now.into());
            let user = c("user.hostile");
            let set = libc::setxattr(name.as_ptr(), user.as_ptr(), c"x".as_ptr().cast(), 1, 0);
            report.called(&format!("setxattr {path}"), set.into());
        }
    }
    for path in ["/etc/shadow", "/etc/hostname", "/root", "/home", "/tmp", "/var", "/sys/kernel", "/proc/1/status"] {
        report.tried(&format!("read {path}"), read(Path::new(path)));
    }
    devices(report, &home);
    for path in ["/dev/shm/hostile-hsm", "/tmp/hostile-hsm"] {
        report.tried(&format!("write to {path}"), File::create(path));
        let _ = fs::remove_file(path);
    }
}

/// Devices where it may make files: as root, one of a disk would be all that is on it. These are of no disk.
fn devices(report: &mut Report, home: &Path) {
    let place = home.join("hostile-device");
    let name = c(&place.display().to_string());
    for (what, kind, number) in
        [("a character device", libc::S_IFCHR, (1, 3)), ("a block device", libc::S_IFBLK, (7, 0))]
    {
        let _ = fs::remove_file(&place);
        // SAFETY: a path that ends with NUL, and numbers.
        let made = unsafe { libc::mknod(name.as_ptr(), kind | 0o600, libc::makedev(number.0, number.1)) };
        report.called(&format!("make {what}"), made.into());
        let _ = fs::remove_file(&place);
    }
}

/// Whether anything of it can be had.
fn read(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return fs::read_dir(path).map(drop);
    }
    File::open(path)?.read(&mut [0; 1]).map(drop)
}
