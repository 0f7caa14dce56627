//! Other programs: keystorectl, and independent witnesses.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::process::Command;

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

/// Runs a program to its end.
pub(crate) fn run(command: &mut Command) -> Ran {
    let output = match command.output() {
        Ok(output) => output,
        Err(error) => panic!("{:?} cannot be started (make deps): {error}", command.get_program()),
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
}
