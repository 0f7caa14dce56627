//! What the objects in a token are: every attribute that matters is set, because modules' defaults differ and
//! SoftHSM's let a key wrap, sign and derive.

use cryptoki::mechanism::MechanismType;
use cryptoki::object::{Attribute, CertificateType, KeyType, ObjectClass};

use model::id::KeyVersionId;

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

/// A caller's key, unwrapped into a token. CKA_VALUE_LEN must not be named: the blob tells.
pub(super) fn placed_key(key: KeyVersionId, label: &str) -> Vec<Attribute> {
    let mut template = secret_key(true, false, Use::Data);
    template.extend([
        Attribute::AllowedMechanisms(vec![MechanismType::AES_GCM]),
        Attribute::Id(key.to_bytes().to_vec()),
        Attribute::Label(label.as_bytes().to_vec()),
        // Hot copies are made by C_CopyObject, for which SoftHSM wants both: the copy differs in CKA_TOKEN.
        Attribute::Copyable(true),
        Attribute::Modifiable(true),
        Attribute::Destroyable(true),
    ]);
    template
}

/// A hot copy: the same key as an object of this process's memory.
pub(super) fn hot_copy() -> [Attribute; 2] {
    [Attribute::Token(false), Attribute::Private(true)]
}

/// A new key that exists for the time it takes to wrap it.
pub(super) fn passing_key() -> Vec<Attribute> {
    let mut template = secret_key(false, true, Use::Nothing);
    template.push(Attribute::ValueLen(AES_256_BYTES.into()));
    template
}

/// The cluster wrapping key on its way through this token to another one: it wraps a sample, by which it is known.
/// CKA_VALUE_LEN must not be named.
pub(super) fn passing_wrapping_key() -> Vec<Attribute> {
    secret_key(false, true, Use::Wrapping)
}

/// What is to become the cluster wrapping key, on trial. CKA_VALUE_LEN must not be named.
pub(super) fn wrapping_key_on_trial() -> Vec<Attribute> {
    secret_key(false, false, Use::Wrapping)
}

/// The key of a challenge, where it is made.
pub(super) fn challenge_key() -> Vec<Attribute> {
    let mut template = secret_key(false, true, Use::Data);
    template.push(Attribute::ValueLen(AES_256_BYTES.into()));
    template
}

/// The key of a challenge, where it is answered. CKA_VALUE_LEN must not be named.
pub(super) fn challenge_key_opened() -> Vec<Attribute> {
    secret_key(false, false, Use::Data)
}

/// The canary key.
pub(super) fn canary() -> Vec<Attribute> {
    let mut template = secret_key(true, false, Use::Data);
    template.extend([
        Attribute::ValueLen(AES_256_BYTES.into()),
        Attribute::AllowedMechanisms(vec![MechanismType::AES_GCM]),
        Attribute::Id(CANARY.as_bytes().to_vec()),
        Attribute::Label(CANARY.as_bytes().to_vec()),
        Attribute::Copyable(false),
        // Last: SoftHSM refuses whatever follows it.
        Attribute::Modifiable(false),
    ]);
    template
}

/// What stands in for the canary key where there is none: the same as an object of this process's memory.
pub(super) fn stand_in() -> Vec<Attribute> {
    let mut template = secret_key(false, false, Use::Data);
    template.push(Attribute::ValueLen(AES_256_BYTES.into()));
    template
}

/// The cluster wrapping key: attributes before its unwrap template, the unwrap template, attributes after it.
pub(super) fn wrapping_key() -> (Vec<Attribute>, [Attribute; 2], [Attribute; 2]) {
    let mut first = secret_key(true, false, Use::Wrapping);
    first.extend([Attribute::Id(WRAPPING.as_bytes().to_vec()), Attribute::Label(WRAPPING.as_bytes().to_vec())]);
    let unwraps_to = [Attribute::Extractable(false), Attribute::Sensitive(true)];
    // Nobody may make a copy that decrypts blobs instead of unwrapping them, or change this one into such.
    let last = [Attribute::Copyable(false), Attribute::Modifiable(false)];
    (first, unwraps_to, last)
}

/// Public and private half of the identity pair.
pub(super) fn identity_pair() -> (Vec<Attribute>, Vec<Attribute>) {
    signing_pair(IDENTITY, &P_256)
}

/// The same of the log key, on this curve.
pub(super) fn log_pair(curve: &[u8]) -> (Vec<Attribute>, Vec<Attribute>) {
    let (public, mut private) = signing_pair(LOG, curve);
    // Modules that let a key sign so that the text can be had of the signature let all of them.
    private.push(Attribute::SignRecover(false));
    (public, private)
}

fn signing_pair(label: &str, curve: &[u8]) -> (Vec<Attribute>, Vec<Attribute>) {
    let name = [Attribute::Id(label.as_bytes().to_vec()), Attribute::Label(label.as_bytes().to_vec())];
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
    public.extend(name.clone());
    private.extend(name);
    (public, private)
}

/// The certificate of a key pair of the ceremony. Public, so that it can be read before anybody logs in.
pub(super) fn certificate(label: &str, der: &[u8], subject: &[u8]) -> Vec<Attribute> {
    vec![
        Attribute::Class(ObjectClass::CERTIFICATE),
        Attribute::CertificateType(CertificateType::X_509),
        Attribute::Token(true),
        Attribute::Private(false),
        Attribute::Id(label.as_bytes().to_vec()),
        Attribute::Label(label.as_bytes().to_vec()),
        Attribute::Subject(subject.to_vec()),
        Attribute::Value(der.to_vec()),
    ]
}

/// Public and private half of the transport pair.
pub(super) fn transport_pair() -> (Vec<Attribute>, Vec<Attribute>) {
    let name = [Attribute::Id(TRANSPORT.as_bytes().to_vec()), Attribute::Label(TRANSPORT.as_bytes().to_vec())];
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
    public.extend(name.clone());
    private.extend(name);
    (public, private)
}

/// The public half of some token's transport pair, imported to wrap to it.
pub(super) fn transport_public(modulus: &[u8], exponent: &[u8]) -> Vec<Attribute> {
    vec![
        Attribute::Class(ObjectClass::PUBLIC_KEY),
        Attribute::KeyType(KeyType::RSA),
        Attribute::Token(false),
        Attribute::Private(false),
        Attribute::Modulus(modulus.to_vec()),
        Attribute::PublicExponent(exponent.to_vec()),
        Attribute::Wrap(true),
        Attribute::Encrypt(false),
        Attribute::Verify(false),
    ]
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
