//! `keystorectl audit keys`

use audit::layout::KEYS;

use super::{ANSWER, Log, keys_of, read_keys};
use crate::Context;
use crate::failure::Failure;

/// Printed as the file is: it is to be handed on. Who compares the authorities' fingerprints has them beside it.
pub(super) async fn run(context: &Context, log: &Log) -> Result<(), Failure> {
    let (keys, believed) = match log.place()? {
        Some(place) => read_keys(&place.directory().join(KEYS))?,
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
