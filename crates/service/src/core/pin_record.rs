//! What is put on record of kmsuser's PIN.

use crate::Error;
use crate::core::Core;
use cluster::kmsuser::{Said, said};
use model::exception::Exception;
use model::id::{HsmId, KeyStoreId};
use model::pin::{Pin, PinChange};

/// How often records of PINs that change meanwhile are read again.
pub(crate) const READS: u32 = 8;

/// What goes on record of what an operator says of one PIN, in the place of what is known.
pub(crate) fn said_of(
    core: &Core,
    id: &KeyStoreId,
    known: &[(HsmId, Pin)],
    record: &HsmId,
    what: Said<'_>,
) -> Result<Option<PinChange>, Error> {
    let before = known.iter().find(|(of, _)| of == record).map(|(_, pin)| pin.clone());
    let seals = core.registry().seals.load();
    let after = said(&seals, id, record, before.as_ref(), what).map_err(|why| Error::internal(&why))?;
    Ok(after.map(|after| PinChange { hsm: record.clone(), before, after }))
}

/// The record of a PIN was never the one that had just been read.
pub(crate) fn busy() -> Error {
    Error::transient(
        Exception::CustomKeyStoreInvalidState,
        "logins are under way that change what is on record of the PIN; try again in a moment",
    )
}
