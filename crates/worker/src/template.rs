//! What the objects in a token are: every attribute that matters is set, because modules' defaults differ and
//! SoftHSM's let a key wrap, sign and derive, by any mechanism. But for what an HSM is known not to take: its capabilities
//! say so.

mod kind;
#[cfg(test)]
mod tests;

use cryptoki::mechanism::MechanismType;
use cryptoki::object::{Attribute, CertificateType, KeyType, ObjectClass};

pub(super) use self::kind::{Kind, Use};
use self::kind::{no_use, only};
use model::id::KeyVersionId;
use model::profile::{Capabilities, Objects, Optional};

/// Bytes of an AES-256 key.
pub(super) const AES_256_BYTES: u64 = 32;
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

/// A label that no object has, for searches that find nothing.
pub(super) const NOWHERE: &str = "keystored nowhere";

/// A caller's key, unwrapped into a token.
pub(super) fn placed_key(of: &Capabilities, kind: Kind, key: KeyVersionId, label: &str) -> Vec<Attribute> {
    let mut template = bound(of, true, false, Use::Key(kind));
    template.extend(length_to_unwrap(of));
    template.extend([
        Attribute::Id(key.to_bytes().to_vec()),
        Attribute::Label(of.attributes.label(label).as_bytes().to_vec()),
        Attribute::Destroyable(true),
    ]);
    fit(of, "C_UnwrapKey", Objects::SecretKey, fixed(template))
}

/// A caller's key that is made in the token. There is nothing that could be made of it, or changed about it.
pub(super) fn key_made_in_place(of: &Capabilities, kind: Kind, key: KeyVersionId, label: &str) -> Vec<Attribute> {
    let more = vec![
        Attribute::Id(key.to_bytes().to_vec()),
        Attribute::Label(of.attributes.label(label).as_bytes().to_vec()),
        Attribute::Destroyable(true),
    ];
    made(of, bound(of, true, false, Use::Key(kind)), fixed(more))
}

/// A hot copy: the same key, unwrapped into this process's memory. Without an id, which some HSMs take for one object
/// alone.
pub(super) fn hot_copy(of: &Capabilities, kind: Kind) -> Vec<Attribute> {
    let mut template = bound(of, false, false, Use::Key(kind));
    template.extend(length_to_unwrap(of));
    fit(of, "C_UnwrapKey", Objects::SecretKey, fixed(template))
}

/// In what a hot copy differs that C_CopyObject makes.
pub(super) fn copied() -> [Attribute; 2] {
    [Attribute::Token(false), Attribute::Private(true)]
}

/// A new key of callers that exists for the time it takes to wrap it.
pub(super) fn passing_key(of: &Capabilities, kind: Kind) -> Vec<Attribute> {
    passing(of, Use::Key(kind))
}

/// A new cluster wrapping key, for the time it takes to wrap it to the cluster's tokens.
pub(super) fn new_wrapping_key(of: &Capabilities, kind: Kind) -> Vec<Attribute> {
    passing(of, Use::Wrapping(kind))
}

/// The cluster wrapping key on its way through this token to another one: it wraps a sample, by which it is known.
/// CKA_VALUE_LEN must not be named.
pub(super) fn passing_wrapping_key(of: &Capabilities, kind: Kind) -> Vec<Attribute> {
    fit(of, "C_UnwrapKey", Objects::SecretKey, bound(of, false, true, Use::Wrapping(kind)))
}

/// What is to become the cluster wrapping key, on trial. CKA_VALUE_LEN must not be named.
pub(super) fn wrapping_key_on_trial(of: &Capabilities, kind: Kind) -> Vec<Attribute> {
    fit(of, "C_UnwrapKey", Objects::SecretKey, bound(of, false, false, Use::Wrapping(kind)))
}

/// The key of a challenge, where it is made: of the kind that the wrapping key is for.
pub(super) fn challenge_key(of: &Capabilities, kind: Kind) -> Vec<Attribute> {
    made(of, bound(of, false, true, Use::Key(kind)), [])
}

/// The key of a challenge, where it is answered: all that a wrapping key may unwrap to.
pub(super) fn challenge_key_opened(of: &Capabilities, kind: Kind) -> Vec<Attribute> {
    let mut template = bound(of, false, false, Use::Key(kind));
    template.extend(length_to_unwrap(of));
    fit(of, "C_UnwrapKey", Objects::SecretKey, template)
}

/// The canary key.
pub(super) fn canary(of: &Capabilities) -> Vec<Attribute> {
    let more = vec![Attribute::Id(CANARY.as_bytes().to_vec()), Attribute::Label(CANARY.as_bytes().to_vec())];
    made(of, bound(of, true, false, Use::Key(Kind::Encryption)), fixed(more))
}

/// What stands in for the canary key where there is none: the same as an object of this process's memory.
pub(super) fn stand_in(of: &Capabilities) -> Vec<Attribute> {
    made(of, bound(of, false, false, Use::Key(Kind::Encryption)), [])
}

/// The wrapping key of keys of this kind, as it is unwrapped in its token.
pub(super) struct WrappingKey {
    /// Attributes before its unwrap template.
    pub(super) first: Vec<Attribute>,
    /// The unwrap template: what everything must be that it unwraps. Whoever has kmsuser's PIN and a wrapped key can
    /// unwrap that as nothing else, not even for himself.
    pub(super) unwraps_to: Vec<Attribute>,
    /// Attributes after it.
    pub(super) last: Vec<Attribute>,
}

/// See there.
pub(super) fn wrapping_key(of: &Capabilities, kind: Kind) -> WrappingKey {
    let mut first = bound(of, true, false, Use::Wrapping(kind));
    let label = kind.wrapping_key().as_bytes();
    first.extend([Attribute::Id(label.to_vec()), Attribute::Label(label.to_vec())]);
    let mut unwraps_to = vec![Attribute::Extractable(false), Attribute::Sensitive(true)];
    unwraps_to.extend(Use::Key(kind).uses());
    unwraps_to.extend(Use::Key(kind).mechanism(of));
    // Nobody may make a copy that decrypts blobs instead of unwrapping them, or change this one into such.
    let last = fixed(Vec::new());
    let [first, unwraps_to, last] =
        [first, unwraps_to, last].map(|part| fit(of, "C_UnwrapKey", Objects::SecretKey, part));
    WrappingKey { first, unwraps_to, last }
}

/// Public and private half of the identity pair.
pub(super) fn identity_pair(of: &Capabilities) -> (Vec<Attribute>, Vec<Attribute>) {
    pair(of, signing_pair(of, IDENTITY, &P_256, MechanismType::ECDSA))
}

/// The same of the log key, on this curve, which signs by this mechanism.
pub(super) fn log_pair(of: &Capabilities, curve: &[u8], signs: MechanismType) -> (Vec<Attribute>, Vec<Attribute>) {
    let (public, mut private) = signing_pair(of, LOG, curve, signs);
    // Modules that let a key sign so that the text can be had of the signature let all of them.
    private.push(Attribute::SignRecover(false));
    pair(of, (public, private))
}

fn signing_pair(
    of: &Capabilities,
    label: &str,
    curve: &[u8],
    signs: MechanismType,
) -> (Vec<Attribute>, Vec<Attribute>) {
    let mut public = vec![
        Attribute::Token(true),
        Attribute::Private(false),
        Attribute::EcParams(curve.to_vec()),
        Attribute::Verify(true),
        Attribute::Encrypt(false),
        Attribute::Wrap(false),
        only(signs),
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
        only(signs),
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
        only(MechanismType::RSA_PKCS_OAEP),
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
        only(MechanismType::RSA_PKCS_OAEP),
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
        only(MechanismType::RSA_PKCS_OAEP),
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
pub(super) fn made(
    of: &Capabilities,
    mut template: Vec<Attribute>,
    more: impl IntoIterator<Item = Attribute>,
) -> Vec<Attribute> {
    template.push(Attribute::ValueLen(AES_256_BYTES.into()));
    template.extend(more);
    fit(of, "C_GenerateKey", Objects::SecretKey, template)
}

/// What most modules refuse, since the blob tells, and some want.
fn length_to_unwrap(of: &Capabilities) -> Option<Attribute> {
    of.wrap.value_len.then(|| Attribute::ValueLen(AES_256_BYTES.into()))
}

fn pair(of: &Capabilities, (public, private): (Vec<Attribute>, Vec<Attribute>)) -> (Vec<Attribute>, Vec<Attribute>) {
    let fit = |object, template| fit(of, "C_GenerateKeyPair", object, template);
    (fit(Objects::PublicKey, public), fit(Objects::PrivateKey, private))
}

/// Without what the HSM does not take. A use that the object is for is never left out.
pub(super) fn fit(of: &Capabilities, function: &str, object: Objects, mut template: Vec<Attribute>) -> Vec<Attribute> {
    template.retain(|attribute| {
        optional(attribute).is_none_or(|optional| !of.attributes.leave_out(function, object, optional))
    });
    template
}

pub(super) fn optional(attribute: &Attribute) -> Option<Optional> {
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

/// Nobody may copy it into something else, or change it.
fn fixed(mut template: Vec<Attribute>) -> Vec<Attribute> {
    // The latter last: SoftHSM refuses whatever follows it.
    template.extend([Attribute::Copyable(false), Attribute::Modifiable(false)]);
    template
}

/// With its uses and the one mechanism by which it does them.
fn bound(of: &Capabilities, token: bool, extractable: bool, usage: Use) -> Vec<Attribute> {
    let mut template = secret_key(token, extractable, usage);
    template.extend(usage.mechanism(of));
    template
}

/// One that is only wrapped, to be used like this where it is unwrapped.
fn passing(of: &Capabilities, usage: Use) -> Vec<Attribute> {
    let mut template = described(false, true, no_use());
    template.extend(usage.mechanism(of));
    made(of, template, [])
}

pub(super) fn secret_key(token: bool, extractable: bool, usage: Use) -> Vec<Attribute> {
    described(token, extractable, usage.uses())
}

fn described(token: bool, extractable: bool, uses: Vec<Attribute>) -> Vec<Attribute> {
    let mut template = vec![
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::Token(token),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(extractable),
    ];
    template.extend(uses);
    template
}
