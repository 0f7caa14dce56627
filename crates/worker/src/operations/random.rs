//! Random bytes.

use crate::fault::Failure;
use crate::owner::Owner;
use model::secret::Secret;
use protocol::Reply;

/// So many random bytes.
pub(super) fn run(owner: &mut Owner, length: u16) -> Result<Reply, Failure> {
    secret(owner, length).map(Reply::Random)
}

/// The same, for a data key.
pub(super) fn secret(owner: &mut Owner, length: u16) -> Result<Secret, Failure> {
    // Wiped also when filling it fails half-way.
    let mut bytes = zeroize::Zeroizing::new(vec![0; usize::from(length)]);
    owner.random(&mut bytes)?;
    Ok(Secret::new(std::mem::take(&mut *bytes)))
}
