//! What the objects in a token are: every attribute that matters is set, because modules' defaults differ and
//! SoftHSM's let a key wrap, sign and derive. But for what an HSM is known not to take: its capabilities say so.

use cryptoki::mechanism::MechanismType;
use cryptoki::object::{Attribute, CertificateType, KeyType, ObjectClass};

use model::id::KeyVersionId;
use model::profile::{Capabilities, Objects, Optional};

/// Bytes of an AES-256 key.
const AES_256_BYTES: u64 = 32;
/// Bits of the RSA transport keys. They are used once per ceremony.
const TRANSPORT_BITS: u64 = 2_048;
/// The curve of Ed25519 by its name, DER: a PrintableString. SoftHSM knows it by no other.
pub(super) const EDWARDS_25519_NAME: [u8; 14] = *b"\x13\x0cedwards25519";
/// The same by its object identifier, as PKCS#11 3 has it too.
pub(super) const EDWARDS_25519: [u8; 5] = [0x06, 0x03, 0x2b, 0x65, 0x70];
/// DER of P-256's object identifier.
pub(super) const P_256: [u8; 10] = [0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];

/// Label of the identity key pair and of its certificate.
pub(super) const IDENTITY: &str = "keystored-identity";
/// Label of the canary key.
pub(super) const CANARY: &str = "keystored-canary";
/// Label of the RSA transport pair.
pub(super) const TRANSPORT: &str = "keystored-transport";
/// Label of the key pair that signs heads of audit logs.
pub(super) const LOG: &str = "keystored audit log";
/// Label of the cluster wrapping key.
pub(super) const WRAPPING: &str = "keystored-cluster-wrapping";

/// What a secret key may be used for. All else is refused by the token.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    /// Encrypt and decrypt.
    Data,
    /// Wrap and unwrap.
    Wrapping,
    /// Nothing but being wrapped.
    Nothing,
}

/// A caller's key, unwrapped into a token.
pub(super) fn placed_key(of: &Capabilities, key: KeyVersionId, label: &str) -> Vec<Attribute> {
    let mut template = secret_key(true, false, Use::Data);
    template.extend(length_to_unwrap(of));
    template.extend(only_gcm(of));
    template.extend([
        Attribute::Id(key.to_bytes().to_vec()),
        Attribute::Label(of.attributes.label(label).as_bytes().to_vec()),
        // Hot copies are made by C_CopyObject, for which SoftHSM wants both: the copy differs in CKA_TOKEN.
        Attribute::Copyable(true),
        Attribute::Modifiable(true),
        Attribute::Destroyable(true),
    ]);
    fit(of, "C_UnwrapKey", Objects::SecretKey, template)
}

/// A caller's key that is made in the token. There is nothing that could be made of it, or changed about it.
pub(super) fn key_made_in_place(of: &Capabilities, key: KeyVersionId, label: &str) -> Vec<Attribute> {
    let more = [
        Attribute::Id(key.to_bytes().to_vec()),
        Attribute::Label(of.attributes.label(label).as_bytes().to_vec()),
        Attribute::Copyable(false),
        Attribute::Destroyable(true),
        // Last: SoftHSM refuses whatever follows it.
        Attribute::Modifiable(false),
    ];
    made(of, secret_key(true, false, Use::Data), only_gcm(of).into_iter().chain(more))
}

/// A hot copy: the same key as an object of this process's memory.
pub(super) fn hot_copy() -> [Attribute; 2] {
    [Attribute::Token(false), Attribute::Private(true)]
}

/// A new key that exists for the time it takes to wrap it.
pub(super) fn passing_key(of: &Capabilities) -> Vec<Attribute> {
    made(of, secret_key(false, true, Use::Nothing), [])
}

/// The cluster wrapping key on its way through this token to another one: it wraps a sample, by which it is known.
/// CKA_VALUE_LEN must not be named.
pub(super) fn passing_wrapping_key(of: &Capabilities) -> Vec<Attribute> {
    fit(of, "C_UnwrapKey", Objects::SecretKey, secret_key(false, true, Use::Wrapping))
}

/// What is to become the cluster wrapping key, on trial. CKA_VALUE_LEN must not be named.
pub(super) fn wrapping_key_on_trial(of: &Capabilities) -> Vec<Attribute> {
    fit(of, "C_UnwrapKey", Objects::SecretKey, secret_key(false, false, Use::Wrapping))
}

/// The key of a challenge, where it is made.
pub(super) fn challenge_key(of: &Capabilities) -> Vec<Attribute> {
    made(of, secret_key(false, true, Use::Data), [])
}

/// The key of a challenge, where it is answered.
pub(super) fn challenge_key_opened(of: &Capabilities) -> Vec<Attribute> {
    let mut template = secret_key(false, false, Use::Data);
    template.extend(length_to_unwrap(of));
    fit(of, "C_UnwrapKey", Objects::SecretKey, template)
}

/// The canary key.
pub(super) fn canary(of: &Capabilities) -> Vec<Attribute> {
    let more = [
        Attribute::Id(CANARY.as_bytes().to_vec()),
        Attribute::Label(CANARY.as_bytes().to_vec()),
        Attribute::Copyable(false),
        // Last: SoftHSM refuses whatever follows it.
        Attribute::Modifiable(false),
    ];
    made(of, secret_key(true, false, Use::Data), only_gcm(of).into_iter().chain(more))
}

/// What stands in for the canary key where there is none: the same as an object of this process's memory.
pub(super) fn stand_in(of: &Capabilities) -> Vec<Attribute> {
    made(of, secret_key(false, false, Use::Data), [])
}

/// The cluster wrapping key: attributes before its unwrap template, the unwrap template, attributes after it.
pub(super) fn wrapping_key(of: &Capabilities) -> (Vec<Attribute>, [Attribute; 2], Vec<Attribute>) {
    let mut first = secret_key(true, false, Use::Wrapping);
    first.extend([Attribute::Id(WRAPPING.as_bytes().to_vec()), Attribute::Label(WRAPPING.as_bytes().to_vec())]);
    let unwraps_to = [Attribute::Extractable(false), Attribute::Sensitive(true)];
    // Nobody may make a copy that decrypts blobs instead of unwrapping them, or change this one into such.
    let last = vec![Attribute::Copyable(false), Attribute::Modifiable(false)];
    let [first, last] = [first, last].map(|part| fit(of, "C_UnwrapKey", Objects::SecretKey, part));
    (first, unwraps_to, last)
}

/// Public and private half of the identity pair.
pub(super) fn identity_pair(of: &Capabilities) -> (Vec<Attribute>, Vec<Attribute>) {
    pair(of, signing_pair(of, IDENTITY, &P_256))
}

/// The same of the log key, on this curve.
pub(super) fn log_pair(of: &Capabilities, curve: &[u8]) -> (Vec<Attribute>, Vec<Attribute>) {
    let (public, mut private) = signing_pair(of, LOG, curve);
    // Modules that let a key sign so that the text can be had of the signature let all of them.
    private.push(Attribute::SignRecover(false));
    pair(of, (public, private))
}

fn signing_pair(of: &Capabilities, label: &str, curve: &[u8]) -> (Vec<Attribute>, Vec<Attribute>) {
    let mut public = vec![
        Attribute::Token(true),
        Attribute::Private(false),
        Attribute::EcParams(curve.to_vec()),
        Attribute::Verify(true),
        Attribute::Encrypt(false),
        Attribute::Wrap(false),
    ];
    let mut private = vec![
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Sign(true),
        Attribute::Decrypt(false),
        Attribute::Unwrap(false),
        Attribute::Derive(false),
    ];
    public.extend(named(of, label, PUBLIC));
    private.extend(named(of, label, PRIVATE));
    (public, private)
}

/// The certificate of a key pair of the ceremony. Public, so that it can be read before anybody logs in.
pub(super) fn certificate(of: &Capabilities, label: &str, der: &[u8], subject: &[u8]) -> Vec<Attribute> {
    let mut template = vec![
        Attribute::Class(ObjectClass::CERTIFICATE),
        Attribute::CertificateType(CertificateType::X_509),
        Attribute::Token(true),
        Attribute::Private(false),
    ];
    template.extend(named(of, label, CERTIFICATE));
    template.extend([Attribute::Subject(subject.to_vec()), Attribute::Value(der.to_vec())]);
    fit(of, "C_CreateObject", Objects::Certificate, template)
}

/// Public and private half of the transport pair.
pub(super) fn transport_pair(of: &Capabilities) -> (Vec<Attribute>, Vec<Attribute>) {
    let mut public = vec![
        Attribute::Token(true),
        Attribute::Private(false),
        Attribute::ModulusBits(TRANSPORT_BITS.into()),
        Attribute::PublicExponent(vec![1, 0, 1]),
        Attribute::Wrap(true),
        Attribute::Encrypt(false),
        Attribute::Verify(false),
        Attribute::VerifyRecover(false),
    ];
    let mut private = vec![
        Attribute::Token(true),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Unwrap(true),
        Attribute::Decrypt(false),
        Attribute::Sign(false),
        Attribute::SignRecover(false),
        Attribute::Derive(false),
    ];
    public.extend(named(of, TRANSPORT, PUBLIC));
    private.extend(named(of, TRANSPORT, PRIVATE));
    pair(of, (public, private))
}

/// The public half of some token's transport pair, imported to wrap to it.
pub(super) fn transport_public(of: &Capabilities, modulus: &[u8], exponent: &[u8]) -> Vec<Attribute> {
    let template = vec![
        Attribute::Class(ObjectClass::PUBLIC_KEY),
        Attribute::KeyType(KeyType::RSA),
        Attribute::Token(false),
        Attribute::Private(false),
        Attribute::Modulus(modulus.to_vec()),
        Attribute::PublicExponent(exponent.to_vec()),
        Attribute::Wrap(true),
        Attribute::Encrypt(false),
        Attribute::Verify(false),
    ];
    fit(of, "C_CreateObject", Objects::PublicKey, template)
}

/// What the id of an object says beside its pair's label, where it must be another one for each.
const PRIVATE: &str = "";
const PUBLIC: &str = "-public";
const CERTIFICATE: &str = "-certificate";

fn named(of: &Capabilities, label: &str, part: &str) -> [Attribute; 2] {
    let id = if of.attributes.shared_ids { label.to_owned() } else { format!("{label}{part}") };
    [Attribute::Id(id.into_bytes()), Attribute::Label(label.as_bytes().to_vec())]
}

/// A secret key that is made in the token.
fn made(of: &Capabilities, mut template: Vec<Attribute>, more: impl IntoIterator<Item = Attribute>) -> Vec<Attribute> {
    template.push(Attribute::ValueLen(AES_256_BYTES.into()));
    template.extend(more);
    fit(of, "C_GenerateKey", Objects::SecretKey, template)
}

/// What most modules refuse, since the blob tells, and some want.
fn length_to_unwrap(of: &Capabilities) -> Option<Attribute> {
    of.wrap.value_len.then(|| Attribute::ValueLen(AES_256_BYTES.into()))
}

fn only_gcm(of: &Capabilities) -> Option<Attribute> {
    // Every number that is not the standard's own is a vendor's, which cryptoki takes as well.
    let gcm = MechanismType::try_from(of.gcm.mechanism).ok()?;
    Some(Attribute::AllowedMechanisms(vec![gcm]))
}

fn pair(of: &Capabilities, (public, private): (Vec<Attribute>, Vec<Attribute>)) -> (Vec<Attribute>, Vec<Attribute>) {
    let fit = |object, template| fit(of, "C_GenerateKeyPair", object, template);
    (fit(Objects::PublicKey, public), fit(Objects::PrivateKey, private))
}

/// Without what the HSM does not take. A use that the object is for is never left out.
fn fit(of: &Capabilities, function: &str, object: Objects, mut template: Vec<Attribute>) -> Vec<Attribute> {
    template.retain(|attribute| {
        optional(attribute).is_none_or(|optional| !of.attributes.leave_out(function, object, optional))
    });
    template
}

fn optional(attribute: &Attribute) -> Option<Optional> {
    Some(match attribute {
        Attribute::AllowedMechanisms(_) => Optional::AllowedMechanisms,
        Attribute::Copyable(_) => Optional::Copyable,
        Attribute::Modifiable(_) => Optional::Modifiable,
        Attribute::Destroyable(_) => Optional::Destroyable,
        Attribute::Private(_) => Optional::Private,
        Attribute::Encrypt(false) => Optional::Encrypt,
        Attribute::Decrypt(false) => Optional::Decrypt,
        Attribute::Wrap(false) => Optional::Wrap,
        Attribute::Unwrap(false) => Optional::Unwrap,
        Attribute::Sign(false) => Optional::Sign,
        Attribute::SignRecover(false) => Optional::SignRecover,
        Attribute::Verify(false) => Optional::Verify,
        Attribute::VerifyRecover(false) => Optional::VerifyRecover,
        Attribute::Derive(false) => Optional::Derive,
        _ => return None,
    })
}

fn secret_key(token: bool, extractable: bool, usage: Use) -> Vec<Attribute> {
    vec![
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::Token(token),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(extractable),
        Attribute::Encrypt(usage == Use::Data),
        Attribute::Decrypt(usage == Use::Data),
        Attribute::Wrap(usage == Use::Wrapping),
        Attribute::Unwrap(usage == Use::Wrapping),
        Attribute::Sign(false),
        Attribute::Verify(false),
        Attribute::Derive(false),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::id::KeyId;
    use model::profile::{LeftOut, Profile};

    fn of(profile: Profile) -> Capabilities {
        config::capabilities(profile).unwrap()
    }

    fn key() -> KeyVersionId {
        KeyVersionId { key: KeyId::from_bytes([7; 16]), version: 1 }
    }

    fn ids(template: &[Attribute]) -> Vec<&[u8]> {
        template.iter().filter_map(|of| if let Attribute::Id(id) = of { Some(&id[..]) } else { None }).collect()
    }

    #[test]
    fn what_an_hsm_does_not_take_is_not_named() {
        let names = |template: &[Attribute]| template.iter().filter_map(optional).collect::<Vec<_>>();
        let softhsm = of(Profile::SoftHsm);
        assert!(names(&placed_key(&softhsm, key(), "k")).contains(&Optional::AllowedMechanisms));
        let cloudhsm = of(Profile::CloudHsm);
        for template in [placed_key(&cloudhsm, key(), "k"), canary(&cloudhsm), wrapping_key(&cloudhsm).2] {
            let named = names(&template);
            assert!(!named.contains(&Optional::AllowedMechanisms) && !named.contains(&Optional::Copyable), "{named:?}");
        }
        let (public, private) = transport_pair(&cloudhsm);
        for template in [&public, &private] {
            let named = names(template);
            assert!(!named.contains(&Optional::SignRecover) && !named.contains(&Optional::VerifyRecover), "{named:?}");
        }
        assert!(!names(&public).contains(&Optional::Private) && names(&private).contains(&Optional::Private));
    }

    /// Whatever is left out: what a key is for, and what keeps it from being read, is said.
    #[test]
    fn what_matters_most_is_always_named() {
        let mut none = of(Profile::Generic);
        let names = [
            Optional::AllowedMechanisms,
            Optional::Copyable,
            Optional::Modifiable,
            Optional::Destroyable,
            Optional::Private,
            Optional::Encrypt,
            Optional::Decrypt,
            Optional::Wrap,
            Optional::Unwrap,
            Optional::Sign,
            Optional::SignRecover,
            Optional::Verify,
            Optional::VerifyRecover,
            Optional::Derive,
        ];
        let objects = vec![Objects::SecretKey, Objects::PrivateKey, Objects::PublicKey, Objects::Certificate];
        none.attributes.left_out = vec![LeftOut { functions: vec!["*".to_owned()], objects, names: names.to_vec() }];
        let placed = placed_key(&none, key(), "k");
        for wanted in [
            Attribute::Sensitive(true),
            Attribute::Extractable(false),
            Attribute::Token(true),
            Attribute::Encrypt(true),
            Attribute::Decrypt(true),
        ] {
            assert!(placed.contains(&wanted), "{wanted:?}");
        }
        assert!(!placed.contains(&Attribute::Wrap(false)));
        assert!(wrapping_key(&none).0.contains(&Attribute::Unwrap(true)));
        assert!(identity_pair(&none).1.contains(&Attribute::Sign(true)));
    }

    /// Nothing of it can be changed, copied, wrapped or read.
    #[test]
    fn a_key_made_in_place_stays_as_it_is() {
        for profile in Profile::ALL {
            let template = key_made_in_place(&of(profile), key(), "k");
            let kept = [Attribute::Sensitive(true), Attribute::Extractable(false), Attribute::Modifiable(false)];
            assert!(kept.iter().all(|attribute| template.contains(attribute)), "{profile:?}: {template:?}");
            assert!(template.contains(&Attribute::ValueLen(AES_256_BYTES.into())), "{profile:?}");
            let copyable = of(profile).attributes.leave_out("C_GenerateKey", Objects::SecretKey, Optional::Copyable);
            assert_eq!(template.contains(&Attribute::Copyable(false)), !copyable, "{profile:?}");
        }
    }

    #[test]
    fn halves_have_ids_of_their_own_where_they_must() {
        let (public, private) = identity_pair(&of(Profile::SoftHsm));
        assert_eq!(ids(&public), ids(&private));
        let cloudhsm = of(Profile::CloudHsm);
        let (public, private) = identity_pair(&cloudhsm);
        let certificate = certificate(&cloudhsm, IDENTITY, b"der", b"subject");
        let mut all = [ids(&public), ids(&private), ids(&certificate)].concat();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 3);
    }

    #[test]
    fn the_length_is_named_where_it_is_wanted() {
        let length = Attribute::ValueLen(AES_256_BYTES.into());
        for (profile, wanted) in [(Profile::SoftHsm, false), (Profile::Luna, true), (Profile::CloudHsm, false)] {
            let of = of(profile);
            assert_eq!(placed_key(&of, key(), "k").contains(&length), wanted, "{profile:?}");
            assert_eq!(challenge_key_opened(&of).contains(&length), wanted, "{profile:?}");
            assert!(!wrapping_key_on_trial(&of).contains(&length), "that is RSA's");
            assert!(passing_key(&of).contains(&length));
        }
    }
}
