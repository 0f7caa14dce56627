//! A daemon's wall clock, to be stepped. The clock that measures how long something takes goes on as it is.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

pub(super) struct SteppedClock {
    library: PathBuf,
    step: PathBuf,
    file: File,
}

impl SteppedClock {
    /// Builds what goes before libc, in this directory.
    pub(super) fn build(dir: &Path) -> Self {
        let (source, library, step) = (dir.join("clock.c"), dir.join("clock.so"), dir.join("clock.step"));
        std::fs::write(&source, include_str!("clock.c")).unwrap();
        let built = Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).status();
        assert!(built.expect("a C compiler (make deps)").success());
        std::fs::write(&step, 0i64.to_ne_bytes()).unwrap();
        let file = File::options().write(true).open(&step).unwrap();
        Self { library, step, file }
    }

    /// What has a program use it.
    pub(super) fn environment(&self) -> [(&'static str, PathBuf); 2] {
        [("LD_PRELOAD", self.library.clone()), ("STEPPED_CLOCK", self.step.clone())]
    }

    /// So many seconds before the real time from now on.
    pub(super) fn set(&self, seconds: i64) {
        self.file.write_all_at(&seconds.to_ne_bytes(), 0).unwrap();
    }
}
