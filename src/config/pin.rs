//! Reading a PIN from a file that an operator names.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use zeroize::Zeroize as _;

use super::Error;
use crate::model::secret::{Secret, exposed};

/// The longest PIN that SoftHSM takes; others take less.
const PIN_BYTES: usize = 255;

/// Reads a PIN. One newline at the end is not part of it. A file that everybody may read or write is refused.
pub fn read_pin(path: &Path) -> Result<Secret, Error> {
    let error = |message: String| Error { file: path.to_owned(), line: None, message };
    let file = File::open(path).map_err(|cause| error(format!("the PIN cannot be read ({cause})")))?;
    let metadata = file.metadata().map_err(|cause| error(cause.to_string()))?;
    if !metadata.is_file() {
        return Err(error("that is no file".to_owned()));
    }
    if let Some(why) = exposed(metadata.mode(), "the PIN") {
        return Err(error(format!("{why}; chmod 0400 it, then change the PIN")));
    }
    if metadata.mode() & 0o070 != 0 && !in_credentials(path) {
        tracing::warn!(file = %path.display(), "the group may read the PIN; chmod 0400 is better");
    }
    // Reserved at once: growing would leave an unwiped copy behind.
    let mut bytes = Vec::with_capacity(PIN_BYTES + 2);
    if let Err(cause) = file.take(PIN_BYTES as u64 + 2).read_to_end(&mut bytes) {
        bytes.zeroize();
        return Err(error(cause.to_string()));
    }
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
    }
    let pin = Secret::new(bytes);
    match pin.len() {
        0 => Err(error("the PIN is empty".to_owned())),
        1..=PIN_BYTES => Ok(pin),
        _ => Err(error(format!("longer than {PIN_BYTES} bytes: that is no PIN"))),
    }
}

/// systemd guards its credentials by directory, and gives the group a read bit where it uses access lists.
fn in_credentials(path: &Path) -> bool {
    std::env::var_os("CREDENTIALS_DIRECTORY").is_some_and(|directory| path.starts_with(directory))
}
