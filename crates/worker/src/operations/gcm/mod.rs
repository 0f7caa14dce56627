//! AES-GCM as keystored uses it: 12 bytes of IV, 16 bytes of tag behind the ciphertext. Who makes the IV is one of the
//! HSM's capabilities.
//!
//! A token that does it otherwise than its capabilities have it is noticed here, for each item, where it says so in the
//! parameters or by a length. What it does not say is found by [`super::self_test`] and the probes.

mod told;

use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;

use crate::fault::Failure;
use crate::module::Module;
use model::ciphertext::{IV_BYTES, TAG_BYTES};
use model::secret::Secret;
use protocol::Class;

const TAG_BITS: u64 = TAG_BYTES as u64 * 8;
/// What all such failures end with.
const NOT_USABLE: &str = "it cannot be used with what its profile says of AES-GCM: see capabilities.gcm";

/// C_Encrypt: the IV that was used, ciphertext and tag. `iv` is used where the HSM makes none.
pub(super) fn seal(
    module: &Module,
    session: &Session,
    key: ObjectHandle,
    iv: [u8; IV_BYTES],
    aad: &[u8],
    plaintext: &[u8],
) -> Result<([u8; IV_BYTES], Vec<u8>), Failure> {
    if !module.gcm_is_plain() {
        return told::seal(module, &module.capabilities().gcm, session, key, iv, aad, plaintext);
    }
    let mut given = iv;
    let mechanism = Mechanism::AesGcm(GcmParams::new(&mut given, aad, TAG_BITS.into())?);
    let sealed = session.encrypt(&mechanism, key, plaintext)?;
    is_as_given("C_Encrypt", given, iv)?;
    is_as_long("C_Encrypt", sealed.len(), plaintext.len().checked_add(TAG_BYTES))?;
    Ok((iv, sealed))
}

/// C_Decrypt.
pub(super) fn open(
    module: &Module,
    session: &Session,
    key: ObjectHandle,
    iv: [u8; IV_BYTES],
    aad: &[u8],
    sealed: &[u8],
) -> Result<Secret, Failure> {
    if !module.gcm_is_plain() {
        return told::open(module, &module.capabilities().gcm, session, key, iv, aad, sealed);
    }
    let mut given = iv;
    let mechanism = Mechanism::AesGcm(GcmParams::new(&mut given, aad, TAG_BITS.into())?);
    let opened = Secret::new(session.decrypt(&mechanism, key, sealed)?);
    is_as_given("C_Decrypt", given, iv)?;
    is_as_long("C_Decrypt", opened.len(), sealed.len().checked_sub(TAG_BYTES))?;
    Ok(opened)
}

/// The same two in a way that is not the token's by its capabilities: whether that would be the right one.
pub(super) mod as_if {
    pub(in crate::operations) use super::told::{open, seal};
}

/// The token does not do AES-GCM as its capabilities have it.
pub(super) fn incompatible(function: &'static str, what: &str) -> Failure {
    Failure::own(Class::Incompatible, function, format!("the token {what}; {NOT_USABLE}"))
}

fn is_as_given(function: &'static str, now: [u8; IV_BYTES], before: [u8; IV_BYTES]) -> Result<(), Failure> {
    match now == before {
        true => Ok(()),
        false => Err(incompatible(function, "wrote an IV of its own in the place of the one that it was given")),
    }
}

fn is_as_long(function: &'static str, length: usize, expected: Option<usize>) -> Result<(), Failure> {
    match expected {
        Some(expected) if length == expected => Ok(()),
        Some(expected) => {
            let what = format!("gave {length} bytes where AES-GCM gives {expected}, as if it added an IV of its own");
            Err(incompatible(function, &what))
        }
        None => Err(incompatible(function, "opened what is shorter than a tag")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::profile::Capabilities;

    #[test]
    fn another_iv_or_length_is_no_answer() {
        let codes = Capabilities::standard().codes;
        let class = |outcome: Result<(), Failure>| outcome.map_err(|failure| failure.class(&codes));
        assert_eq!(class(is_as_given("C_Encrypt", [7; IV_BYTES], [7; IV_BYTES])), Ok(()));
        for byte in 0..IV_BYTES {
            let mut other = [7; IV_BYTES];
            other[byte] ^= 1;
            assert_eq!(class(is_as_given("C_Encrypt", other, [7; IV_BYTES])), Err(Class::Incompatible));
        }
        assert_eq!(class(is_as_long("C_Encrypt", 16, 0_usize.checked_add(TAG_BYTES))), Ok(()));
        for length in [0, 15, 17, 28, 32] {
            assert_eq!(class(is_as_long("C_Encrypt", length, Some(16))), Err(Class::Incompatible), "{length}");
        }
        assert_eq!(class(is_as_long("C_Decrypt", 0, 15_usize.checked_sub(TAG_BYTES))), Err(Class::Incompatible));
        let says = is_as_long("C_Encrypt", 60, Some(48)).unwrap_err().into_fault(&codes).to_string();
        assert!(says.contains("60 bytes") && says.contains("48") && says.contains("profile"), "{says}");
    }
}
