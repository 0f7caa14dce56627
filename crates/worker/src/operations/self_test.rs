//! Whether the token does AES-GCM as its capabilities have it. Done once in each worker, before it serves.
//!
//! A token that makes its own IV and does not say so would hand out ciphertexts that nobody opens; one that takes the
//! same IV for everything would open them, and give plaintexts away to whoever sees two. So with one key and one
//! plaintext: one IV gives one ciphertext, an IV that differs in one bit gives another, the first opens to the
//! plaintext, and under the other IV it does not open. Where the token makes the IV: two that it makes differ, and so do
//! their ciphertexts; each opens what it is told with, and not what the other one is.

use cryptoki::object::ObjectHandle;

use super::gcm::{self, incompatible};
use super::probe;
use crate::fault::Failure;
use crate::owner::Owner;
use model::ciphertext::IV_BYTES;
use model::profile::{Codes, IvBy};
use model::secret::Secret;
use protocol::{Class, Reply};

/// What is authenticated.
pub(super) const AAD: &[u8] = b"keystored self-test";

/// Random bytes that a test wants.
pub(super) struct Drawn {
    /// What is encrypted.
    pub(super) plaintext: [u8; 16],
    /// An IV.
    pub(super) iv: [u8; IV_BYTES],
    /// One that differs from it in one bit.
    pub(super) other: [u8; IV_BYTES],
}

impl Drawn {
    /// Fills it by what gives random bytes.
    pub(super) fn by(mut fill: impl FnMut(&mut [u8]) -> Result<(), Failure>) -> Result<Self, Failure> {
        let (mut iv, mut plaintext, mut random) = ([0; IV_BYTES], [0; 16], [0; 2]);
        for bytes in [&mut iv[..], &mut plaintext, &mut random] {
            fill(bytes)?;
        }
        // Over many starts every bit of it has its turn.
        let mut other = iv;
        other[usize::from(random[0]) % IV_BYTES] ^= 1 << (random[1] % 8);
        Ok(Self { plaintext, iv, other })
    }
}

pub(super) fn run(owner: &mut Owner) -> Result<Reply, Failure> {
    owner.token_info()?;
    probe::with_canary(owner, test)?;
    Ok(Reply::Done)
}

fn test(owner: &mut Owner, canary: ObjectHandle) -> Result<(), Failure> {
    let drawn = Drawn::by(|bytes| owner.random(bytes))?;
    let (module, session) = (&*owner.token.module, &owner.session);
    let seal = |iv| gcm::seal(module, session, canary, iv, AAD, &drawn.plaintext);
    let open = |iv, sealed: &[u8]| gcm::open(module, session, canary, iv, AAD, sealed);
    does_so(module.capabilities().gcm.iv, &drawn, seal, open, owner.codes())
}

/// Whether `seal` and `open` do with one key what somebody who makes IVs in this way does.
pub(super) fn does_so(
    by: IvBy,
    drawn: &Drawn,
    seal: impl Fn([u8; IV_BYTES]) -> Result<([u8; IV_BYTES], Vec<u8>), Failure>,
    open: impl Fn([u8; IV_BYTES], &[u8]) -> Result<Secret, Failure>,
    codes: &Codes,
) -> Result<(), Failure> {
    let (used, sealed) = seal(drawn.iv)?;
    let other = if by == IvBy::Caller {
        if seal(drawn.iv)?.1 != sealed {
            return Err(incompatible("C_Encrypt", "uses another IV than the one that it is given"));
        }
        if seal(drawn.other)?.1 == sealed {
            return Err(incompatible("C_Encrypt", "takes no account of the IV that it is given"));
        }
        drawn.other
    } else {
        let (another, again) = seal(drawn.iv)?;
        if another == used || again == sealed {
            return Err(incompatible("C_Encrypt", "makes one IV twice"));
        }
        another
    };
    let opened = open(used, &sealed).map_err(|failure| probe::its_own(failure, codes))?;
    if opened.expose() != drawn.plaintext {
        return Err(probe::otherwise());
    }
    match open(other, &sealed) {
        Ok(_) => Err(incompatible("C_Decrypt", "opens a ciphertext under another IV than its own")),
        Err(failure) => match failure.class(codes) {
            Class::Request | Class::Ambiguous => Ok(()),
            // By the same code it would say that it has too much to do: not so where the right IV opens it right after.
            Class::AmbiguousOrBusy => {
                open(used, &sealed).map(drop).map_err(|again| probe::its_own(again, codes).into())
            }
            _ => Err(failure),
        },
    }
}
