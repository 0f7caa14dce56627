//! AES key wrap and RSA-OAEP, there and back.

use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, AttributeType, ObjectHandle};

use super::bench::{Bench, Settled, nothing_works, said};
use super::templates;
use crate::fault::Failure;
use crate::module::key_wrap_by;
use crate::operations::ceremony::oaep;
use crate::operations::gcm;
use crate::operations::self_test::AAD;
use crate::owner::lock;
use crate::template::{self, Kind, Use};
use model::ciphertext::IV_BYTES;
use model::profile::examination::{KeyWrapBy, Setting, Tried};
use model::profile::{CKM_AES_KEY_WRAP, Capabilities, OaepHash};
use protocol::{Class, TransportKey};

/// Numbers by which vendors call AES key wrap without padding: the standard's, Luna's and CloudHSM's.
const NUMBERS: [u64; 3] = [CKM_AES_KEY_WRAP, 0x8000_0170, 0x8000_2109];
/// Bytes of a wrapped AES-256 key.
const WRAPPED_BYTES: usize = 40;

/// What came of wrapping.
pub(super) struct Wrapped {
    /// For the report.
    pub(super) found: Setting<KeyWrapBy>,
    /// How it works, where it does.
    pub(super) by: Option<KeyWrapBy>,
    /// The key, wrapped.
    pub(super) blob: Vec<u8>,
}

/// The mechanism.
pub(super) fn mechanism(by: KeyWrapBy) -> Result<Mechanism<'static>, Failure> {
    key_wrap_by(by.number)
}

/// Whether `key` comes out of what it was wrapped into; `encrypts` says whether that can be seen by a ciphertext.
pub(super) fn key_wrap(
    bench: &mut Bench<'_>,
    wrapping: ObjectHandle,
    key: ObjectHandle,
    encrypts: bool,
) -> Result<Wrapped, Failure> {
    let of = &bench.of().wrap;
    let first = KeyWrapBy { number: of.key_wrap, value_len: of.value_len };
    let round_trip =
        |bench: &mut Bench<'_>, by| bench.settle(|bench| there_and_back(bench, wrapping, key, by, encrypts));
    let fault = match round_trip(bench, first)? {
        Settled::Done(blob) => return Ok(Wrapped { found: Setting::works(), by: Some(first), blob }),
        Settled::NotJudged(fault) => {
            return Ok(Wrapped { found: Setting::not_judged(said(&fault)), by: None, blob: Vec::new() });
        }
        Settled::Refused(fault) => fault,
    };
    let mut unjudged = None;
    let numbers = std::iter::once(first.number).chain(NUMBERS.into_iter().filter(|number| *number != first.number));
    for number in numbers {
        for value_len in [first.value_len, !first.value_len] {
            let by = KeyWrapBy { number, value_len };
            if by == first {
                continue;
            }
            match round_trip(bench, by)? {
                Settled::Done(blob) => {
                    let found = Setting { as_said: Tried::Fails(said(&fault)), instead: Some(by), unjudged: None };
                    return Ok(Wrapped { found, by: Some(by), blob });
                }
                Settled::NotJudged(fault) => unjudged = Some(said(&fault)),
                Settled::Refused(_) => {}
            }
        }
    }
    Ok(Wrapped { found: nothing_works(fault, unjudged)?, by: None, blob: Vec::new() })
}

fn there_and_back(
    bench: &mut Bench<'_>,
    wrapping: ObjectHandle,
    key: ObjectHandle,
    by: KeyWrapBy,
    encrypts: bool,
) -> Result<Vec<u8>, Failure> {
    let mechanism = mechanism(by)?;
    let blob = bench.module().extra().wrap_key(&bench.desk, &mechanism, wrapping, key)?;
    if blob.len() != WRAPPED_BYTES {
        let detail = format!("gave {} bytes where a key of 32 bytes is {WRAPPED_BYTES} without padding", blob.len());
        return Err(Failure::own(Class::Refused, "C_WrapKey", detail));
    }
    let template = templates::unwrapped(bench.of(), by, false, Use::Key(Kind::Encryption), []);
    let back = bench.unwrap(&mechanism, wrapping, &blob, &template)?;
    if encrypts {
        let mut iv = [0; IV_BYTES];
        Bench::random(&mut iv)?;
        let (iv, sealed) = gcm::seal(bench.module(), &bench.desk, key, iv, AAD, b"there and back")?;
        if gcm::open(bench.module(), &bench.desk, back, iv, AAD, &sealed)?.expose() != b"there and back" {
            return Err(Failure::own(Class::Refused, "C_UnwrapKey", "another key comes out than was wrapped"));
        }
    }
    Ok(blob)
}

/// Whether what is wrapped to the token's transport key by RSA-OAEP is opened, by the hash that the cluster has.
pub(super) fn oaep_hash(bench: &mut Bench<'_>, key: ObjectHandle) -> Result<Setting<OaepHash>, Failure> {
    let Some((transport, public)) = transport(bench)? else { return Ok(Setting::default()) };
    let of = bench.of().wrap.oaep_hash;
    let as_said = bench.tried(|bench| opens(bench, transport, &public, key, of))?;
    let Tried::Fails(_) = as_said else { return Ok(Setting { as_said, instead: None, unjudged: None }) };
    let mut unjudged = None;
    for hash in OaepHash::ALL.into_iter().filter(|hash| *hash != of) {
        match bench.tried(|bench| opens(bench, transport, &public, key, hash))? {
            Tried::Works => return Ok(Setting { as_said, instead: Some(hash), unjudged: None }),
            Tried::NotJudged(said) => unjudged = Some(said),
            Tried::Not | Tried::Fails(_) => {}
        }
    }
    Ok(Setting { as_said, instead: None, unjudged })
}

/// The token's transport key, where the login has found one that shows its public half.
fn transport(bench: &mut Bench<'_>) -> Result<Option<(ObjectHandle, TransportKey)>, Failure> {
    let Some(private) = *lock(&bench.owner().token.transport) else { return Ok(None) };
    let wanted = [AttributeType::Modulus, AttributeType::PublicExponent];
    let shown = bench.need(|bench| Ok(bench.desk.get_attributes(private, &wanted)?))?;
    Ok(match &shown[..] {
        [Attribute::Modulus(modulus), Attribute::PublicExponent(exponent)] if !exponent.is_empty() => {
            Some((private, TransportKey::new(modulus, exponent)))
        }
        _ => None,
    })
}

fn opens(
    bench: &mut Bench<'_>,
    transport: ObjectHandle,
    public: &TransportKey,
    key: ObjectHandle,
    hash: OaepHash,
) -> Result<(), Failure> {
    let mut of: Capabilities = bench.of().clone();
    of.wrap.oaep_hash = hash;
    let public = bench.keeper().create_object(&template::transport_public(&of, &public.modulus, &public.exponent))?;
    bench.keep(public);
    let blob = bench.module().extra().wrap_key(&bench.desk, &oaep(&of), public, key)?;
    bench.unwrap(&oaep(&of), transport, &blob, &template::wrapping_key_on_trial(&of, Kind::Encryption)).map(drop)
}
