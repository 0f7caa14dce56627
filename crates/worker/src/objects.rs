//! Looking for objects in the token. Each search costs SoftHSM about 11 µs per object that the token holds, so none
//! is made per operation.

use std::collections::HashSet;

use bytes::Bytes;
use cryptoki::error::RvError;
use cryptoki::object::{Attribute, AttributeType, CertificateType, ObjectClass, ObjectHandle};
use cryptoki::session::Session;

use super::fault::Failure;
use super::template;
use model::id::KeyVersionId;
use protocol::{CeremonyObjects, Class};

/// All key objects whose handle is not in `known`, with the version that their CKA_ID names. Hot copies carry the same
/// CKA_ID, hence CKA_TOKEN in the search.
pub(super) fn new_keys(
    session: &Session,
    known: &[ObjectHandle],
) -> Result<Vec<(KeyVersionId, ObjectHandle)>, Failure> {
    let known: HashSet<u64> = known.iter().map(ObjectHandle::handle).collect();
    let all = session.find_objects(&[Attribute::Class(ObjectClass::SECRET_KEY), Attribute::Token(true)])?;
    let mut found = Vec::new();
    for handle in all.into_iter().filter(|handle| !known.contains(&handle.handle())) {
        let attributes = match session.get_attributes(handle, &[AttributeType::Id]) {
            Ok(attributes) => attributes,
            // An object that another process destroys meanwhile is simply not there.
            Err(cryptoki::error::Error::Pkcs11(RvError::ObjectHandleInvalid, _)) => continue,
            // One that cannot be read is: left out, it would look like a key that somebody removed.
            Err(error) => return Err(error.into()),
        };
        if let Some(Attribute::Id(id)) = attributes.first()
            && let Some(key) = KeyVersionId::from_bytes(id)
        {
            found.push((key, handle));
        }
    }
    Ok(found)
}

/// All objects of one version; more than one only after a disturbed unwrapping.
pub(super) fn of_key(session: &Session, key: KeyVersionId) -> Result<Vec<ObjectHandle>, Failure> {
    let id = Attribute::Id(key.to_bytes().to_vec());
    Ok(session.find_objects(&[Attribute::Class(ObjectClass::SECRET_KEY), Attribute::Token(true), id])?)
}

/// The object of the ceremony with this class and label. Two of them are an error: nobody could say which is meant.
pub(super) fn named(
    session: &Session,
    class: ObjectClass,
    label: &'static str,
) -> Result<Option<ObjectHandle>, Failure> {
    let label_attribute = Attribute::Label(label.as_bytes().to_vec());
    let found = session.find_objects(&[Attribute::Class(class), Attribute::Token(true), label_attribute])?;
    match found[..] {
        [] => Ok(None),
        [handle] => Ok(Some(handle)),
        _ => {
            let detail = format!("the token holds {} objects '{label}'; remove the wrong ones", found.len());
            Err(Failure::own(Class::Refused, "find object", detail))
        }
    }
}

/// Fails where a private key was not made in this token, or can leave it, or could before: somebody may have a copy.
pub(super) fn made_here(session: &Session, private: ObjectHandle, label: &'static str) -> Result<(), Failure> {
    let asked = [
        AttributeType::Local,
        AttributeType::Sensitive,
        AttributeType::Extractable,
        AttributeType::AlwaysSensitive,
        AttributeType::NeverExtractable,
    ];
    let (mut local, mut sensitive, mut extractable, mut always_kept) = (false, false, true, true);
    for attribute in session.get_attributes(private, &asked)? {
        match attribute {
            Attribute::Local(value) => local = value,
            Attribute::Sensitive(value) => sensitive = value,
            Attribute::Extractable(value) => extractable = value,
            // Not every vendor shows these two.
            Attribute::AlwaysSensitive(value) | Attribute::NeverExtractable(value) => always_kept &= value,
            _ => {}
        }
    }
    let why = match (local, sensitive && !extractable, always_kept) {
        (false, ..) => "was not made in this token",
        (true, false, _) => "is not kept from leaving this token",
        (true, true, false) => "was not kept from leaving this token at all times",
        (true, true, true) => return Ok(()),
    };
    let detail = format!(
        "the private key '{label}' {why}, so that somebody may have a copy of it; remove the pair and certify the token again"
    );
    Err(Failure::own(Class::Refused, "private key", detail))
}

/// The certificates with this label. Public objects: they need no login.
pub(super) fn certificates(session: &Session, label: &'static str) -> Result<Vec<ObjectHandle>, Failure> {
    let wanted = [
        Attribute::Class(ObjectClass::CERTIFICATE),
        Attribute::CertificateType(CertificateType::X_509),
        Attribute::Token(true),
        Attribute::Label(label.as_bytes().to_vec()),
    ];
    Ok(session.find_objects(&wanted)?)
}

/// DER of the certificate with this label, where the token holds exactly one.
pub(super) fn certificate(session: &Session, label: &'static str) -> Result<Option<Bytes>, Failure> {
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
    Ok(CeremonyObjects {
        identity: named(session, ObjectClass::PRIVATE_KEY, template::IDENTITY)?.is_some(),
        transport: named(session, ObjectClass::PRIVATE_KEY, template::TRANSPORT)?.is_some(),
        canary: named(session, ObjectClass::SECRET_KEY, template::CANARY)?.is_some(),
        wrapping: named(session, ObjectClass::SECRET_KEY, template::WRAPPING)?.is_some(),
    })
}
