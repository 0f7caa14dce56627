//! Other programs: keystorectl, and independent witnesses.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::sync::mpsc;

use rustix::process::Signal;

use super::{process, wait};

/// What a program did.
#[derive(Debug)]
pub(crate) struct Ran {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Ran {
    /// Standard output of a program that succeeded.
    #[track_caller]
    pub(crate) fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{}{}", self.out, self.err);
        self.out
    }
}

/// keystorectl with these variables.
pub(crate) fn keystorectl(environment: BTreeMap<String, String>, arguments: &[&str]) -> Ran {
    run(Command::new(env!("CARGO_BIN_EXE_keystorectl")).args(arguments).envs(environment))
}

/// keystored with these arguments, to its end.
pub(crate) fn keystored(arguments: &[&OsStr]) -> Ran {
    run(Command::new(env!("CARGO_BIN_EXE_keystored")).args(arguments))
}

/// Runs a program to its end, which it must come to by itself.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> Ran {
    let name = format!("{:?}", command.get_program());
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.unwrap_or_else(|error| panic!("{name} cannot be started (make deps): {error}"));
    let (pid, (ended, end)) = (child.id(), mpsc::channel());
    std::thread::spawn(move || drop(ended.send(child.wait_with_output())));
    let late = end.recv_timeout(2 * wait::LONG);
    if late.is_err() {
        process::signal(pid, Signal::KILL);
    }
    let output = late.or_else(|_| end.recv_timeout(wait::LONG)).unwrap().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let ran = Ran { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) };
    assert!(output.status.signal() != Some(Signal::KILL.as_raw()), "{name} did not end: {ran:?}");
    ran
}
