//! Whether the token does AES-GCM as its capabilities have it. Done once in each worker, before it serves.
//!
//! A token that makes its own IV and does not say so would hand out ciphertexts that nobody opens; one that takes the
//! same IV for everything would open them, and give plaintexts away to whoever sees two. So with one key and one
//! plaintext: one IV gives one ciphertext, an IV that differs in one bit gives another, the first opens to the
//! plaintext, and under the other IV it does not open. Where the token makes the IV: two that it makes differ, and so do
//! their ciphertexts; each opens what it is told with, and not what the other one is.

use cryptoki::object::ObjectHandle;

use super::gcm::{incompatible, open, seal};
use super::probe;
use crate::fault::Failure;
use crate::owner::Owner;
use model::ciphertext::IV_BYTES;
use model::profile::IvBy;
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
    let (module, session) = (&*owner.token.module, &owner.session);
    let seal = |iv| seal(module, session, canary, iv, AAD, &plaintext);
    let (used, sealed) = seal(iv)?;
    let other = if module.capabilities().gcm.iv == IvBy::Caller {
        if seal(iv)?.1 != sealed {
            return Err(incompatible("C_Encrypt", "uses another IV than the one that it is given"));
        }
        if seal(other)?.1 == sealed {
            return Err(incompatible("C_Encrypt", "takes no account of the IV that it is given"));
        }
        other
    } else {
        let (another, again) = seal(iv)?;
        if another == used || again == sealed {
            return Err(incompatible("C_Encrypt", "makes one IV twice"));
        }
        another
    };
    let open = |iv| open(module, session, canary, iv, AAD, &sealed);
    let opened = open(used).map_err(|failure| probe::its_own(failure, owner.codes()))?;
    if opened.expose() != plaintext {
        return Err(probe::otherwise());
    }
    match open(other) {
        Ok(_) => Err(incompatible("C_Decrypt", "opens a ciphertext under another IV than its own")),
        Err(failure) => match failure.class(owner.codes()) {
            Class::Request | Class::Ambiguous => Ok(()),
            // By the same code it would say that it has too much to do: not so where the right IV opens it right after.
            Class::AmbiguousOrBusy => open(used).map(drop).map_err(|again| probe::its_own(again, owner.codes()).into()),
            _ => Err(failure),
        },
    }
}
