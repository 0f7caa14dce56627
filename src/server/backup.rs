//! `keystored backup`: a copy of the database, beside a running daemon or without one.

use std::io::Write;
use std::path::Path;

use super::{Error, parts};
use config::Config;
use model::clock::Clock;
use store::backup;

/// Copies the database of this configuration into a new file, and says what is in it.
///
/// Takes no lock that a daemon holds or wants: one may be started and stopped meanwhile.
pub async fn backup(config: &Config, target: &Path, clock: &Clock, out: &mut (dyn Write + Send)) -> Result<(), Error> {
    let made = backup::backup(&parts::database(config), target, clock).await;
    let made = made.map_err(|error| Error::Wrong(error.to_string()))?;
    // Whoever has gone away has the answer in the exit code.
    let _ = writeln!(
        out,
        "{}: {} bytes, at change {}; looked through and on the disk.\nkmsuser's PINs are in it, sealed: keep the seal key \
         apart from it.",
        target.display(),
        made.bytes,
        made.change
    );
    Ok(())
}
