//! Whether there is somebody to approve what others have to approve.

use std::io::{self, Write};

use crate::server::{parts, requests};
use config::Config;
use store::backup;

/// Says which calls wait for others, and where it is known that there are too few of these. The database is not opened
/// beside a daemon, so that principals are known of only where there is none yet. Nothing of it must be mended before a
/// start: those who are missing are made after it.
pub(super) fn examine(config: &Config, out: &mut (dyn Write + Send)) -> io::Result<()> {
    let config::Approvals { operations, required, .. } = &config.approvals;
    if operations.is_empty() {
        return Ok(());
    }
    let names: Vec<&str> = operations.iter().map(|operation| operation.name()).collect();
    writeln!(out, "approvals: {required} others for {}", names.join(", "))?;
    if let Ok(false) = backup::is_as_left(&parts::database(config)) {
        return match requests::too_few(operations, *required, config.administrators.len()) {
            Some(sentence) => writeln!(out, "    note: {sentence}"),
            None => Ok(()),
        };
    }
    writeln!(out, "    note: whether so many may approve is looked at when the daemon starts; its log warns where not")
}
