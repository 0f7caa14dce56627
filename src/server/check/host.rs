//! A look at what the host gives: descriptors, and the directory of login locks.

use std::io::{self, Write};

use crate::server::files::Fit;
use config::Config;
use supervisor::look_at_lock_dir;

/// Prints whether as many connections fit as the configuration allows, under the limits of this very process; the
/// daemon's may be others. False when none fits.
pub(super) fn files(config: &Config, out: &mut (dyn Write + Send)) -> io::Result<bool> {
    let fit = Fit::to_be(config);
    match (fit.refusal(), fit.sentence()) {
        (Some(refusal), _) => {
            writeln!(out, "open files:\n    wrong: {refusal}")?;
            return Ok(false);
        }
        (None, Some(sentence)) => writeln!(out, "open files:\n    note: {sentence}")?,
        (None, None) => writeln!(out, "open files: {} connections fit", fit.connections())?,
    }
    Ok(true)
}

/// Prints whether logins can have their locks; false when they cannot.
pub(super) fn locks(config: &Config, out: &mut (dyn Write + Send)) -> io::Result<bool> {
    match look_at_lock_dir(&config.lock_dir) {
        Ok(()) => writeln!(out, "lock_dir: {} can be used", config.lock_dir.display())?,
        Err(error) => {
            writeln!(out, "{error}\n    to do: {}", error.remedy())?;
            return Ok(false);
        }
    }
    Ok(true)
}
