//! Whether anybody may do anything.

use std::io::{self, Write};

use crate::server::administrators::NOBODY;
use crate::server::parts;
use config::Config;
use store::backup;

/// Says who the administrators are; false when something must be mended. The database is not opened beside a daemon, so
/// that principals are known of only where there is none yet.
pub(super) fn examine(config: &Config, out: &mut (dyn Write + Send)) -> io::Result<bool> {
    if !config.administrators.is_empty() {
        let names: Vec<&str> = config.administrators.iter().map(String::as_str).collect();
        writeln!(out, "administrators: {}", names.join(", "))?;
        return Ok(true);
    }
    if let Ok(false) = backup::is_as_left(&parts::database(config)) {
        writeln!(out, "administrators: none\n    wrong: {NOBODY}")?;
        return Ok(false);
    }
    writeln!(
        out,
        "administrators: none\n    note: only principals that are in the database already may do anything; where there \
         are none, nobody may, until `administrators` names somebody"
    )?;
    Ok(true)
}
