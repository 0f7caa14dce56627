//! AES-GCM of HSMs that make the IV themselves, or want the parameters otherwise than the standard has them.
//!
//! The IV that the HSM tells is given out with the ciphertext, and nobody can look whether it is the one that was used but
//! by opening: the self-test does, and whoever looks at what was wrapped.

use cryptoki::object::ObjectHandle;
use cryptoki::session::Session;
use zeroize::Zeroizing;

use super::{TAG_BITS, incompatible, is_as_given, is_as_long};
use crate::fault::Failure;
use crate::module::Module;
use model::ciphertext::{IV_BYTES, TAG_BYTES};
use model::profile::{Gcm, IvBy};
use model::secret::Secret;

/// What a buffer has beyond what is expected, so that more than that is seen and named. Longer IVs would have 16 bytes.
const SPARE_BYTES: usize = 64;
/// What the HSM is to write over.
const ZEROES: [u8; IV_BYTES] = [0; IV_BYTES];

pub(in crate::operations) fn seal(
    module: &Module,
    gcm: &Gcm,
    session: &Session,
    key: ObjectHandle,
    iv: [u8; IV_BYTES],
    aad: &[u8],
    plaintext: &[u8],
) -> Result<([u8; IV_BYTES], Vec<u8>), Failure> {
    let mut written = if gcm.iv == IvBy::Caller { iv } else { ZEROES };
    let given = matches!(gcm.iv, IvBy::Caller | IvBy::ZeroedWriteback).then_some(&mut written);
    let mut made = vec![0; plaintext.len() + TAG_BYTES + IV_BYTES + SPARE_BYTES];
    let length = module.extra().encrypt(session, key, parameters(gcm, given, aad), plaintext, &mut made)?;
    made.truncate(length);
    taken_apart(gcm.iv, iv, written, made, plaintext.len())
}

pub(in crate::operations) fn open(
    module: &Module,
    gcm: &Gcm,
    session: &Session,
    key: ObjectHandle,
    iv: [u8; IV_BYTES],
    aad: &[u8],
    sealed: &[u8],
) -> Result<Secret, Failure> {
    let mut opened = Zeroizing::new(vec![0; sealed.len() + SPARE_BYTES]);
    let length = if gcm.iv == IvBy::NullPrepended {
        let whole = [&iv, sealed].concat();
        module.extra().decrypt(session, key, parameters(gcm, None, aad), &whole, &mut opened)?
    } else {
        let mut given = iv;
        let length =
            module.extra().decrypt(session, key, parameters(gcm, Some(&mut given), aad), sealed, &mut opened)?;
        is_as_given("C_Decrypt", given, iv)?;
        length
    };
    is_as_long("C_Decrypt", length, sealed.len().checked_sub(TAG_BYTES))?;
    opened.truncate(length);
    Ok(Secret::new(std::mem::take(&mut *opened)))
}

fn parameters<'p>(gcm: &Gcm, iv: Option<&'p mut [u8; IV_BYTES]>, aad: &'p [u8]) -> pkcs11_extra::Gcm<'p> {
    pkcs11_extra::Gcm {
        mechanism: gcm.mechanism,
        iv: iv.map(|iv| &mut iv[..]),
        iv_bits: gcm.iv_bits,
        aad,
        tag_bits: TAG_BITS,
    }
}

/// The IV that was used, ciphertext and tag; from the IV that was to be used, what the parameters hold afterwards, and what
/// came out.
fn taken_apart(
    by: IvBy,
    chosen: [u8; IV_BYTES],
    written: [u8; IV_BYTES],
    mut made: Vec<u8>,
    plaintext: usize,
) -> Result<([u8; IV_BYTES], Vec<u8>), Failure> {
    let sealed = plaintext + TAG_BYTES;
    let iv = match by {
        IvBy::Caller => {
            is_as_given("C_Encrypt", written, chosen)?;
            is_as_long("C_Encrypt", made.len(), Some(sealed))?;
            return Ok((chosen, made));
        }
        IvBy::ZeroedWriteback => {
            is_as_long("C_Encrypt", made.len(), Some(sealed))?;
            written
        }
        IvBy::NullAppended | IvBy::NullPrepended if made.len() != sealed + IV_BYTES => {
            let what = format!(
                "gave {} bytes where ciphertext, tag and an IV of {IV_BYTES} bytes are {}",
                made.len(),
                sealed + IV_BYTES
            );
            return Err(incompatible("C_Encrypt", &what));
        }
        IvBy::NullAppended => taken(made.drain(sealed..)),
        IvBy::NullPrepended => taken(made.drain(..IV_BYTES)),
    };
    if iv == ZEROES {
        return Err(incompatible("C_Encrypt", "told no IV, where it is to make one"));
    }
    Ok((iv, made))
}

fn taken(bytes: impl Iterator<Item = u8>) -> [u8; IV_BYTES] {
    let mut iv = ZEROES;
    iv.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    iv
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::profile::Capabilities;
    use protocol::Class;

    const CHOSEN: [u8; IV_BYTES] = [3; IV_BYTES];
    const OWN: [u8; IV_BYTES] = [9; IV_BYTES];

    fn class(outcome: Result<([u8; IV_BYTES], Vec<u8>), Failure>) -> Class {
        outcome.unwrap_err().class(&Capabilities::standard().codes)
    }

    #[test]
    fn the_iv_is_taken_from_where_the_hsm_puts_it() {
        let sealed: Vec<u8> = (100..120).collect();
        let with = |parts: &[&[u8]]| parts.concat();
        for (by, written, made, iv) in [
            (IvBy::Caller, CHOSEN, sealed.clone(), CHOSEN),
            (IvBy::ZeroedWriteback, OWN, sealed.clone(), OWN),
            (IvBy::NullAppended, ZEROES, with(&[&sealed, &OWN]), OWN),
            (IvBy::NullPrepended, ZEROES, with(&[&OWN, &sealed]), OWN),
        ] {
            let (told, left) = taken_apart(by, CHOSEN, written, made, 4).unwrap();
            assert_eq!((told, &left), (iv, &sealed), "{by:?}");
        }
    }

    #[test]
    fn an_iv_that_is_not_told_is_no_answer() {
        let ways = [IvBy::Caller, IvBy::ZeroedWriteback, IvBy::NullAppended, IvBy::NullPrepended];
        for by in ways {
            // None at all, as from a token that takes the zeroes for the IV.
            let none = if matches!(by, IvBy::NullAppended | IvBy::NullPrepended) { 32 } else { 20 };
            assert_eq!(class(taken_apart(by, CHOSEN, ZEROES, vec![0; none], 4)), Class::Incompatible, "{by:?}");
            // Of another length, or in another place.
            for wrong in [0, 11, 16, 19, 21, 31, 33, 36] {
                let outcome = taken_apart(by, CHOSEN, OWN, vec![7; wrong], 4);
                assert_eq!(class(outcome), Class::Incompatible, "{by:?} {wrong}");
            }
        }
    }

    #[test]
    fn sixteen_bytes_of_iv_are_named() {
        let failure = taken_apart(IvBy::NullAppended, CHOSEN, ZEROES, vec![7; 36], 4).unwrap_err();
        let says = failure.into_fault(&Capabilities::standard().codes).to_string();
        assert!(says.contains("36 bytes") && says.contains("32") && says.contains("capabilities.gcm"), "{says}");
    }
}
