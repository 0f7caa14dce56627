//! Looking for objects in the token. Each search costs SoftHSM 11 µs and more for each object that the token holds, and
//! each look at an object as much, whatever is looked for: so a token is looked at once, and no search is made per
//! operation.

use std::collections::HashSet;
use std::num::NonZeroUsize;

use bytes::Bytes;
use cryptoki::object::{Attribute, AttributeType, CertificateType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;

use super::fault::Failure;
use super::module::Module;
use super::template;
use model::id::KeyVersionId;
use model::profile::Capabilities;
use protocol::{CeremonyObjects, Class};

/// Handles that one call of C_FindObjects brings, where all objects are looked for, and where few are.
const AT_ONCE: NonZeroUsize = NonZeroUsize::new(1_024).unwrap();
const FEW_AT_ONCE: NonZeroUsize = NonZeroUsize::new(10).unwrap();
/// More versions than the answer to a login has room for (`protocol::MAX_FRAME_BYTES`), whatever else the token holds. A search
/// that finds more has no end, and would fill the memory for as long as this process is let live.
const MOST_FOUND: usize = 1 << 20;
/// The same of a search for few objects.
const MOST_OF_FEW: usize = 250_000;

/// Length of an uncompressed point of P-256.
const POINT_BYTES: usize = 65;
/// Length of a public key of Ed25519.
const ED25519_BYTES: usize = 32;

/// What a look at a token's objects found.
#[derive(Default)]
pub(super) struct Found {
    /// Keys, with the version that their CKA_ID names. Two with one id only after a disturbed unwrapping.
    pub(super) keys: Vec<(KeyVersionId, ObjectHandle)>,
    /// All other keys and halves of pairs that have a label.
    others: Vec<(ObjectClass, Vec<u8>, ObjectHandle)>,
}

impl Found {
    /// See [`named`].
    pub(super) fn named(&self, class: ObjectClass, label: &'static str) -> Result<Option<ObjectHandle>, Failure> {
        let is_meant = |other: &&(ObjectClass, Vec<u8>, ObjectHandle)| other.0 == class && other.1 == label.as_bytes();
        one(&self.others.iter().filter(is_meant).map(|other| other.2).collect::<Vec<_>>(), label)
    }

    /// Which objects of the ceremony are among them.
    pub(super) fn ceremony(&self) -> Result<CeremonyObjects, Failure> {
        present(|class, label| self.named(class, label))
    }
}

/// One search for few objects. All searches are made here and by [`look`].
pub(super) fn find(session: &Session, wanted: &[Attribute]) -> Result<Vec<ObjectHandle>, Failure> {
    at_most(session.iter_objects_with_cache_size(wanted, FEW_AT_ONCE)?, MOST_OF_FEW)
}

/// What a search finds, which ends with it, or fails.
fn at_most<H, E: Into<Failure>>(search: impl Iterator<Item = Result<H, E>>, most: usize) -> Result<Vec<H>, Failure> {
    let mut found = Vec::new();
    for handle in search {
        if found.len() == most {
            let detail = format!("the search has found more than {most} objects, and has no end");
            return Err(Failure::own(Class::Token, "C_FindObjects", detail));
        }
        found.push(handle.map_err(Into::into)?);
    }
    Ok(found)
}

/// Looks at all token objects whose handle is not in `known`: one search, and one call for each object. Hot copies are no
/// token objects.
pub(super) fn look(module: &Module, session: &Session, known: &[ObjectHandle]) -> Result<Found, Failure> {
    let known: HashSet<u64> = known.iter().map(ObjectHandle::handle).collect();
    // The search has to end before anything else is asked in this session.
    let all = at_most(session.iter_objects_with_cache_size(&[Attribute::Token(true)], AT_ONCE)?, MOST_FOUND)?;
    let mut found = Found::default();
    for handle in all.into_iter().filter(|handle| !known.contains(&handle.handle())) {
        let identity = match module.extra().identity(session, handle).map_err(Failure::from) {
            Ok(identity) => identity,
            // An object that another process destroys meanwhile is simply not there.
            Err(failure) if failure.class(module.codes()) == Class::KeyAbsent => continue,
            // One that cannot be read is: left out, it would look like a key that somebody removed.
            Err(failure) => return Err(failure),
        };
        let key = identity.id.as_deref().and_then(KeyVersionId::from_bytes);
        match (identity.class, key) {
            (Some(ObjectClass::SECRET_KEY), Some(key)) => found.keys.push((key, handle)),
            (Some(class @ (ObjectClass::SECRET_KEY | ObjectClass::PRIVATE_KEY | ObjectClass::PUBLIC_KEY)), _) => {
                if let Some(label) = label(module, session, handle)? {
                    found.others.push((class, label, handle));
                }
            }
            _ => {}
        }
    }
    Ok(found)
}

/// Whether the object under this handle is there and is this version's: a handle that went stale may name another one.
pub(super) fn is_of_key(
    module: &Module,
    session: &Session,
    handle: ObjectHandle,
    key: KeyVersionId,
) -> Result<bool, Failure> {
    match module.extra().identity(session, handle).map_err(Failure::from) {
        Ok(identity) => {
            let id = identity.id.as_deref().and_then(KeyVersionId::from_bytes);
            Ok(identity.class == Some(ObjectClass::SECRET_KEY) && id == Some(key))
        }
        Err(failure) if failure.class(module.codes()) == Class::KeyAbsent => Ok(false),
        Err(failure) => Err(failure),
    }
}

/// Whether the object under this handle is there and has this class and label.
pub(super) fn is_named(
    module: &Module,
    session: &Session,
    handle: ObjectHandle,
    class: ObjectClass,
    name: &'static str,
) -> Result<bool, Failure> {
    let identity = match module.extra().identity(session, handle).map_err(Failure::from) {
        Err(failure) if failure.class(module.codes()) == Class::KeyAbsent => return Ok(false),
        identity => identity?,
    };
    Ok(identity.class == Some(class) && label(module, session, handle)?.is_some_and(|label| label == name.as_bytes()))
}

fn label(module: &Module, session: &Session, handle: ObjectHandle) -> Result<Option<Vec<u8>>, Failure> {
    match session.get_attributes(handle, &[AttributeType::Label]).map_err(Failure::from) {
        Ok(attributes) => Ok(attributes.into_iter().find_map(|attribute| match attribute {
            Attribute::Label(label) => Some(label),
            _ => None,
        })),
        Err(failure) if failure.class(module.codes()) == Class::KeyAbsent => Ok(None),
        Err(failure) => Err(failure),
    }
}

/// All objects of one version; more than one only after a disturbed unwrapping.
pub(super) fn of_key(session: &Session, key: KeyVersionId) -> Result<Vec<ObjectHandle>, Failure> {
    let id = Attribute::Id(key.to_bytes().to_vec());
    find(session, &[Attribute::Class(ObjectClass::SECRET_KEY), Attribute::Token(true), id])
}

/// The object of the ceremony with this class and label. Two of them are an error: nobody could say which is meant.
pub(super) fn named(
    session: &Session,
    class: ObjectClass,
    label: &'static str,
) -> Result<Option<ObjectHandle>, Failure> {
    one(&all_named(session, class, label)?, label)
}

/// The same, however many there are.
pub(super) fn all_named(session: &Session, class: ObjectClass, label: &str) -> Result<Vec<ObjectHandle>, Failure> {
    let label = Attribute::Label(label.as_bytes().to_vec());
    find(session, &[Attribute::Class(class), Attribute::Token(true), label])
}

/// All objects with this label, whatever they are, each with its class: one search.
pub(super) fn labelled(
    module: &Module,
    session: &Session,
    label: &str,
) -> Result<Vec<(ObjectClass, ObjectHandle)>, Failure> {
    let found = find(session, &[Attribute::Token(true), Attribute::Label(label.as_bytes().to_vec())])?;
    let mut labelled = Vec::with_capacity(found.len());
    for handle in found {
        match module.extra().identity(session, handle).map_err(Failure::from) {
            Ok(identity) => labelled.extend(identity.class.map(|class| (class, handle))),
            // Another process has taken it away meanwhile.
            Err(failure) if failure.class(module.codes()) == Class::KeyAbsent => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(labelled)
}

/// The only one of them, if any. Two are an error: nobody could say which is meant.
pub(super) fn one(found: &[ObjectHandle], label: &'static str) -> Result<Option<ObjectHandle>, Failure> {
    match *found {
        [] => Ok(None),
        [handle] => Ok(Some(handle)),
        _ => {
            let detail = format!("the token holds {} objects '{label}'; remove the wrong ones", found.len());
            Err(Failure::own(Class::Refused, "find object", detail))
        }
    }
}

/// Where a key is from, as its token has it.
struct Origin {
    local: Option<bool>,
    sensitive: bool,
    extractable: bool,
    /// Not every vendor shows what it was at all times.
    always_kept: bool,
}

impl Origin {
    fn of(session: &Session, key: ObjectHandle) -> Result<Self, Failure> {
        let asked = [
            AttributeType::Local,
            AttributeType::Sensitive,
            AttributeType::Extractable,
            AttributeType::AlwaysSensitive,
            AttributeType::NeverExtractable,
        ];
        let mut shown = Self { local: None, sensitive: false, extractable: true, always_kept: true };
        for attribute in session.get_attributes(key, &asked)? {
            match attribute {
                Attribute::Local(value) => shown.local = Some(value),
                Attribute::Sensitive(value) => shown.sensitive = value,
                Attribute::Extractable(value) => shown.extractable = value,
                Attribute::AlwaysSensitive(value) | Attribute::NeverExtractable(value) => shown.always_kept &= value,
                _ => {}
            }
        }
        Ok(shown)
    }

    /// Why somebody may have a copy. `local`: what it is where the token does not say.
    fn suspicion(&self, local: bool) -> Option<&'static str> {
        match (self.local.unwrap_or(local), self.sensitive && !self.extractable, self.always_kept) {
            (false, ..) => Some("was not made in this token"),
            (true, false, _) => Some("is not kept from leaving this token"),
            (true, true, false) => Some("was not kept from leaving this token at all times"),
            (true, true, true) => None,
        }
    }
}

/// Fails where a private key was not made in this token, or can leave it, or could before: somebody may have a copy.
pub(super) fn made_here(session: &Session, private: ObjectHandle, label: &'static str) -> Result<(), Failure> {
    let Some(why) = Origin::of(session, private)?.suspicion(false) else { return Ok(()) };
    let then = if label == template::LOG { "another one is made then" } else { "certify the token again" };
    let detail =
        format!("the private key '{label}' {why}, so that somebody may have a copy of it; remove the pair, and {then}");
    Err(Failure::own(Class::Refused, "private key", detail))
}

/// Fails where these are not one object of a version that was made in this token and never could leave it, as far as the
/// token shows that.
pub(super) fn never_left(session: &Session, found: &[ObjectHandle], key: KeyVersionId) -> Result<(), Failure> {
    let refused = |why: &str| Err(Failure::own(Class::Refused, "key made in place", format!("key {key} {why}")));
    match found {
        [] => Err(Failure::own(Class::KeyAbsent, "find key", format!("the token holds no object of key {key}"))),
        [only] => Origin::of(session, *only)?.suspicion(true).map_or(Ok(()), refused),
        _ => refused("has several objects in this token"),
    }
}

/// The point that a public key on a curve shows, as the token gives it.
pub(super) fn ec_point(session: &Session, public: ObjectHandle) -> Result<Option<Vec<u8>>, Failure> {
    match session.get_attributes(public, &[AttributeType::EcPoint])?.pop() {
        Some(Attribute::EcPoint(point)) => Ok(Some(point)),
        _ => Ok(None),
    }
}

/// An uncompressed point of P-256. The standard has it as a DER octet string; some vendors give it bare.
pub(super) fn p256_point(point: &[u8]) -> Option<&[u8]> {
    let bare = point.strip_prefix(&[0x04, 0x41]).filter(|bare| bare.len() == POINT_BYTES).unwrap_or(point);
    (bare.len() == POINT_BYTES && bare.first() == Some(&0x04)).then_some(bare)
}

/// A public key of Ed25519: 32 bytes, bare, or as an octet string or a bit string of DER.
pub(super) fn ed25519_point(point: &[u8]) -> Option<&[u8]> {
    let bare = [&[0x04, 0x20][..], &[0x03, 0x21, 0x00]]
        .into_iter()
        .find_map(|prefix| point.strip_prefix(prefix).filter(|bare| bare.len() == ED25519_BYTES))
        .unwrap_or(point);
    (bare.len() == ED25519_BYTES).then_some(bare)
}

/// The certificates with this label. Public objects: they need no login.
pub(super) fn certificates(session: &Session, label: &'static str) -> Result<Vec<ObjectHandle>, Failure> {
    let wanted = [
        Attribute::Class(ObjectClass::CERTIFICATE),
        Attribute::CertificateType(CertificateType::X_509),
        Attribute::Token(true),
        Attribute::Label(label.as_bytes().to_vec()),
    ];
    find(session, &wanted)
}

/// DER of the certificate with this label, where the token holds exactly one. None is looked for where it holds none.
pub(super) fn certificate(session: &Session, of: &Capabilities, label: &'static str) -> Result<Option<Bytes>, Failure> {
    if of.objects.in_host_file() {
        return Ok(None);
    }
    let found = certificates(session, label)?;
    // Two of them leave open which is meant, and the proof fails for want of one.
    let [handle] = found[..] else { return Ok(None) };
    match session.get_attributes(handle, &[AttributeType::Value])?.pop() {
        Some(Attribute::Value(der)) => Ok(Some(der.into())),
        _ => Ok(None),
    }
}

/// Which objects of the ceremony the token holds.
pub(super) fn ceremony(session: &Session) -> Result<CeremonyObjects, Failure> {
    present(|class, label| named(session, class, label))
}

fn present(
    named: impl Fn(ObjectClass, &'static str) -> Result<Option<ObjectHandle>, Failure>,
) -> Result<CeremonyObjects, Failure> {
    Ok(CeremonyObjects {
        identity: named(ObjectClass::PRIVATE_KEY, template::IDENTITY)?.is_some(),
        transport: named(ObjectClass::PRIVATE_KEY, template::TRANSPORT)?.is_some(),
        canary: named(ObjectClass::SECRET_KEY, template::CANARY)?.is_some(),
        wrapping: named(ObjectClass::SECRET_KEY, template::WRAPPING)?.is_some(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::profile::Codes;

    #[test]
    fn a_search_without_an_end_is_given_up() {
        let endless = at_most(std::iter::repeat_with(|| Ok::<_, Failure>(7)), 100);
        let fault = endless.unwrap_err().into_fault(&Codes { meaning: Vec::new() });
        assert!(fault.class == Class::Token && fault.to_string().contains("more than 100 objects"), "{fault}");
        let whole = at_most((0..100).map(Ok::<_, Failure>), 100);
        assert_eq!(whole.unwrap().len(), 100);
        let failed =
            (0..).map(|at| if at < 3 { Ok(at) } else { Err(Failure::own(Class::Session, "C_FindObjects", "")) });
        assert_eq!(at_most(failed, 100).unwrap_err().class(&Codes { meaning: Vec::new() }), Class::Session);
    }

    #[test]
    fn points_are_read_as_vendors_give_them() {
        let ed = [7; 32];
        for given in [&ed[..], &[&[0x04, 0x20][..], &ed].concat(), &[&[0x03, 0x21, 0x00][..], &ed].concat()] {
            assert_eq!(ed25519_point(given), Some(&ed[..]), "{given:02x?}");
        }
        // One that begins as if it were wrapped is not cut.
        let alike = [&[0x04, 0x20][..], &[1; 30]].concat();
        assert_eq!(ed25519_point(&alike), Some(&alike[..]));
        let p256 = [&[4][..], &[0x41; 64]].concat();
        for given in [p256.clone(), [&[0x04, 0x41][..], &p256].concat()] {
            assert_eq!(p256_point(&given), Some(&p256[..]), "{given:02x?}");
        }
        for wrong in [&[][..], &[4], &[7; 33], &[4; 66], &[3; 65], &[2; 65]] {
            assert_eq!((ed25519_point(wrong), p256_point(wrong)), (None, None), "{wrong:02x?}");
        }
    }
}
