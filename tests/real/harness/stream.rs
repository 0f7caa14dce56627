//! Where a daemon's output leads, and what is read there: for tests that trouble it, pipes that nobody reads.

use std::io::{PipeReader, PipeWriter, Write as _};
use std::path::PathBuf;
use std::process::{Command, Stdio};
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
        command
            .args(["dev", "--listen", "127.0.0.1:0", "--aws", "127.0.0.1:0", "--ops", "127.0.0.1:0", "--dir"])
            .arg(self.path());
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

/// How long a program may take to say its last words where nobody listens.
pub(crate) const LAST_WORDS: Duration = Duration::from_secs(30);
