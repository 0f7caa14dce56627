//! Whether the database is the one that keystored left.

use std::io::{self, Write};

use crate::server::parts;
use config::Config;
use store::backup;

/// Looks at the files and opens none; false when something must be mended.
pub(super) fn examine(config: &Config, out: &mut (dyn Write + Send)) -> io::Result<bool> {
    match backup::is_as_left(&parts::database(config)) {
        Ok(true) => writeln!(out, "database: as keystored left it")?,
        Ok(false) => writeln!(out, "database: none yet; the first start makes one")?,
        Err(error) => {
            writeln!(out, "database: {error}")?;
            return Ok(false);
        }
    }
    Ok(true)
}
