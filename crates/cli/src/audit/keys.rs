//! `keystorectl audit keys`

use std::path::Path;

use audit::keys::{Believed, PublicKeys};
use audit::layout::KEYS;
use audit::within::Directory;

use super::{ANSWER, FILE_BYTES, Log, keys_of};
use crate::Context;
use crate::failure::Failure;

/// Printed as the file is: it is to be handed on. Who compares the authorities' fingerprints has them beside it.
pub(super) async fn run(context: &Context, log: &Log) -> Result<(), Failure> {
    let (keys, believed) = match log.place()? {
        Some(place) => of_directory(place.directory())?,
        None => keys_of(context.connection.connect().await?.get_audit_keys().await?.as_bytes(), &ANSWER)?,
    };
    for hsm in &believed.hsms {
        let anchor = keys.trust_anchors.get(hsm.anchor);
        let fingerprint = anchor.and_then(|pem| audit::keys::anchor_fingerprint(pem).ok()).unwrap_or_default();
        context.printer.note(format!(
            "HSM {} (token {}) vouches for its key, and for the HSM the authority with SHA-256 {fingerprint}",
            hsm.hsm, hsm.serial
        ));
    }
    let json = keys.to_json().map_err(|error| Failure::local(error.to_string()))?;
    context.printer.bytes(&json)
}

/// The file in a log's directory. Whoever can write to that may have put a pipe there, which holds who opens it.
fn of_directory(directory: &Path) -> Result<(PublicKeys, Believed), Failure> {
    let path = directory.join(KEYS);
    let failed = |why: String| Failure::local(format!("cannot read {}: {why}", path.display()));
    let limit = usize::try_from(FILE_BYTES).unwrap_or(usize::MAX);
    let read = Directory::open(directory).and_then(|directory| directory.read(Path::new(KEYS), limit));
    let bytes = read.map_err(|error| failed(error.to_string()))?.ok_or_else(|| failed("it is not there".to_owned()))?;
    keys_of(&bytes, &path.display())
}
