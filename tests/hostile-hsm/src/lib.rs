//! A module that tries to get at everything around it when it is loaded, writes down what succeeded, and then is the
//! real module.
//!
//! Variables: `HOSTILE_MODULE`, the real one; `HOSTILE_REPORT`, a file that it may write to; `HOSTILE_READ` and
//! `HOSTILE_WRITE`, files that are none of its business, with colons between; `HOSTILE_PORTS`, TCP ports of this host,
//! with colons between; `HOSTILE_SOCKET`, a Unix socket that somebody listens at; `HOSTILE_SAYS`, words for standard
//! error. The report has a line for each attempt: `done` or `refused`, its name, and the system's word.

mod files;
mod module;
mod network;
mod processes;

use std::ffi::CString;
use std::fmt::Write as _;
use std::io;

pub use module::C_GetFunctionList;

/// What was tried.
#[derive(Default)]
pub(crate) struct Report(String);

impl Report {
    /// Writes down what came of an attempt.
    pub(crate) fn tried<T>(&mut self, name: &str, result: io::Result<T>) {
        let _ = match result {
            Ok(_) => writeln!(self.0, "done {name}"),
            Err(error) => writeln!(self.0, "refused {name}: {error}"),
        };
    }

    /// The same for a system call that answers with a negative number where it fails.
    pub(crate) fn called(&mut self, name: &str, answer: libc::c_long) {
        let result = if answer < 0 { Err(io::Error::last_os_error()) } else { Ok(()) };
        self.tried(name, result);
    }
}

/// Tries everything, and writes the report.
pub(crate) fn attack() {
    let Some(place) = std::env::var_os("HOSTILE_REPORT") else { return };
    let mut report = Report::default();
    files::attack(&mut report);
    network::attack(&mut report);
    processes::attack(&mut report);
    // Every worker tries; whoever reads finds a whole report.
    let mut own = place.clone();
    own.push(format!(".{}", std::process::id()));
    let written = std::fs::write(&own, report.0).and_then(|()| std::fs::rename(&own, &place));
    if let Err(error) = written {
        say(&format!("hostile-hsm: {}: {error}\n", place.to_string_lossy()));
    }
    if let Ok(words) = std::env::var("HOSTILE_SAYS") {
        say(&words);
    }
}

fn say(words: &str) {
    let _ = io::Write::write_all(&mut io::stderr(), words.as_bytes());
}

/// What a variable lists.
pub(crate) fn listed(variable: &str) -> Vec<String> {
    let value = std::env::var(variable).unwrap_or_default();
    value.split(':').filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

/// For the system: without NUL, since no variable can hold one.
pub(crate) fn c(text: &str) -> CString {
    CString::new(text).unwrap_or_default()
}
