//! Where a daemon's output leads, and what is read there: for tests that trouble it, pipes that nobody reads and a disk
//! that is full.

use std::fs::{self, File};
use std::io::{PipeReader, PipeWriter, Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::daemon::{Daemon, PROGRAM, Site};
use super::wait;

impl Site {
    /// Starts it as `keystored dev`, which writes its own configuration.
    pub(crate) fn launch_dev(mut self) -> Daemon {
        let command = self.dev();
        self.spawn(command)
    }

    fn dev(&mut self) -> Command {
        self.config = self.layout.config.clone();
        self.addresses = self.layout.env.clone();
        let mut command = Command::new(PROGRAM);
        command.args(["dev", "--listen", "127.0.0.1:0", "--ops", "127.0.0.1:0", "--dir"]).arg(self.path());
        command
    }

    /// Starts the daemon with its output led here.
    pub(crate) fn launch_into(self, out: impl Into<Stdio>, err: impl Into<Stdio>) -> Daemon {
        let mut command = self.serve();
        command.stdout(out).stderr(err);
        self.spawn_as_it_is(command)
    }

    /// Likewise, with these variables.
    pub(crate) fn launch_around(self, environment: &[(&str, PathBuf)], err: impl Into<Stdio>) -> Daemon {
        let mut command = self.serve();
        command.envs(environment.iter().map(|(name, value)| (name, value))).stdout(Stdio::null()).stderr(err);
        self.spawn_as_it_is(command)
    }

    /// Starts it so that no file that it writes may become longer than this, with its log led here.
    pub(crate) fn launch_limited(self, bytes: u64, err: impl Into<Stdio>) -> Daemon {
        let serve = self.serve();
        let mut command = Command::new("sh");
        // In blocks of 512 bytes.
        command.args(["-c", &format!("ulimit -f {} && exec \"$0\" \"$@\"", bytes / 512)]);
        command.arg(serve.get_program()).args(serve.get_args()).stdout(Stdio::null()).stderr(err);
        self.spawn_as_it_is(command)
    }

    /// Likewise, as `keystored dev`.
    pub(crate) fn launch_dev_into(mut self, out: impl Into<Stdio>, err: impl Into<Stdio>) -> Daemon {
        let mut command = self.dev();
        command.stdout(out).stderr(err);
        self.spawn_as_it_is(command)
    }
}

impl Daemon {
    /// Waits until its log says this: lines come there a moment after what they tell of.
    #[track_caller]
    pub(crate) fn wait_until_logged(&self, words: &str) {
        wait::until(&format!("the log says: {words}"), wait::LONG, || self.log().contains(words).then_some(()));
    }
}

/// A pipe that is read when the test wants, if ever.
pub(crate) struct Pipe {
    reader: Option<PipeReader>,
    writer: PipeWriter,
}

impl Pipe {
    pub(crate) fn new() -> Self {
        let (reader, writer) = std::io::pipe().unwrap();
        Self { reader: Some(reader), writer }
    }

    /// One that is full already.
    pub(crate) fn full() -> Self {
        let mut pipe = Self::new();
        while !pipe.is_full() {
            // As much as a pipe takes whole wherever poll says that it takes something.
            pipe.writer.write_all(&[b'\n'; 4_096]).unwrap();
        }
        pipe
    }

    /// One whose reader has gone away.
    pub(crate) fn broken() -> Self {
        let mut pipe = Self::new();
        pipe.goes_away();
        pipe
    }

    /// The end to write to.
    pub(crate) fn end(&self) -> PipeWriter {
        self.writer.try_clone().unwrap()
    }

    /// Whether a line of usual length would have its writer wait.
    pub(crate) fn is_full(&self) -> bool {
        let mut ask = [PollFd::new(&self.writer, PollFlags::OUT)];
        poll(&mut ask, Some(&Timespec::default())).unwrap() == 0
    }

    /// Nobody reads it any more.
    pub(crate) fn goes_away(&mut self) {
        self.reader = None;
    }
}

/// A disk of a quarter of a megabyte, in memory, that nobody else sees: mounted in a namespace of its own, which a process
/// that waits for this one's end keeps alive.
pub(crate) struct SmallDisk {
    keeper: Child,
    dir: PathBuf,
}

impl SmallDisk {
    /// Makes one, where this machine lets an ordinary user mount something for itself.
    pub(crate) fn mount() -> Option<Self> {
        let script = "mount -t tmpfs -o size=256k,mode=0777 small /mnt && echo mounted && read -r _";
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", script]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut keeper = command.process_group(0).spawn().ok()?;
        let mut said = [0; 8];
        let mounted = keeper.stdout.as_mut().unwrap().read_exact(&mut said).is_ok() && said == *b"mounted\n";
        let dir = PathBuf::from(format!("/proc/{}/root/mnt", keeper.id()));
        let disk = Self { keeper, dir };
        (mounted && fs::write(disk.dir.join("try"), "x").is_ok()).then_some(disk)
    }

    /// A file on it, to append to.
    pub(crate) fn open(&self, name: &str) -> File {
        File::options().create(true).append(true).open(self.dir.join(name)).unwrap()
    }

    pub(crate) fn read(&self, name: &str) -> String {
        String::from_utf8_lossy(&fs::read(self.dir.join(name)).unwrap()).into_owned()
    }

    /// Leaves no room on it.
    pub(crate) fn fill(&self) {
        let mut filler = self.open("filler");
        // First by pages, then by what is left of one.
        for piece in [&[0; 4_096][..], &[0]] {
            while filler.write_all(piece).is_ok() {}
        }
    }

    /// Room again.
    pub(crate) fn free(&self) {
        fs::remove_file(self.dir.join("filler")).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

/// How long a program may take to say its last words where nobody listens.
pub(crate) const LAST_WORDS: Duration = Duration::from_secs(30);
