//! Whether the token does AES-GCM as keystored uses it. Done once in each worker, before it serves.
//!
//! A token that makes its own IV and does not say so would hand out ciphertexts that nobody opens; one that takes the
//! same IV for everything would open them, and give plaintexts away to whoever sees two. So with one key and one
//! plaintext: one IV gives one ciphertext, an IV that differs in one bit gives another, the first opens to the
//! plaintext, and under the other IV it does not open.

use cryptoki::object::ObjectHandle;

use super::gcm::{incompatible, open, seal};
use super::probe;
use crate::fault::Failure;
use crate::owner::Owner;
use model::ciphertext::IV_BYTES;
use protocol::{Class, Reply};

/// What is authenticated.
const AAD: &[u8] = b"keystored self-test";

pub(super) fn run(owner: &mut Owner) -> Result<Reply, Failure> {
    owner.token_info()?;
    probe::with_canary(owner, test)?;
    Ok(Reply::Done)
}

fn test(owner: &mut Owner, canary: ObjectHandle) -> Result<(), Failure> {
    let (mut iv, mut plaintext, mut random) = ([0; IV_BYTES], [0; 16], [0; 2]);
    for bytes in [&mut iv[..], &mut plaintext, &mut random] {
        owner.random(bytes)?;
    }
    // Over many starts every bit of it has its turn.
    let mut other = iv;
    other[usize::from(random[0]) % IV_BYTES] ^= 1 << (random[1] % 8);
    let (session, profile) = (&owner.session, owner.profile());
    let sealed = seal(session, canary, iv, AAD, &plaintext)?;
    if seal(session, canary, iv, AAD, &plaintext)? != sealed {
        return Err(incompatible("C_Encrypt", "uses another IV than the one that it is given"));
    }
    if seal(session, canary, other, AAD, &plaintext)? == sealed {
        return Err(incompatible("C_Encrypt", "takes no account of the IV that it is given"));
    }
    let opened = open(session, canary, iv, AAD, &sealed).map_err(|failure| probe::its_own(failure, profile))?;
    if opened.expose() != plaintext {
        return Err(probe::otherwise());
    }
    match open(session, canary, other, AAD, &sealed) {
        Ok(_) => Err(incompatible("C_Decrypt", "opens a ciphertext under another IV than its own")),
        Err(failure) => match failure.class(profile) {
            Class::Request | Class::Ambiguous => Ok(()),
            _ => Err(failure),
        },
    }
}
