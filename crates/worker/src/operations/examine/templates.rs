//! What keys of an examination are, and whether the token takes what callers' keys are described by.

use cryptoki::object::{Attribute, AttributeType, ObjectHandle};

use super::bench::Bench;
use super::wrapping::mechanism;
use crate::fault::Failure;
use crate::template::{self, Kind, Use};
use model::id::{KeyId, KeyVersionId};
use model::profile::examination::{KeyWrapBy, Setting, Tried};
use model::profile::{Capabilities, Objects, Optional};
use protocol::Class;

/// As long as the id of any object of keystored's may be, and the shortest maximum that is not refused at start.
const LEAST: usize = 32;
/// As long as the ARN of a key may be: region and account leave it below that.
const ARN: usize = 100;

/// A key that encrypts, by whatever mechanism, and may be wrapped: other numbers of AES-GCM are tried with it, too.
pub(in crate::operations) fn passing(of: &Capabilities) -> Vec<Attribute> {
    template::made(of, template::secret_key(false, true, Use::Key(Kind::Encryption)), [])
}

/// A key that wraps.
pub(in crate::operations) fn wrapping(of: &Capabilities) -> Vec<Attribute> {
    template::made(of, template::secret_key(false, false, Use::Wrapping(Kind::Encryption)), [])
}

/// A key that wraps and may be wrapped itself.
pub(super) fn passing_wrapping(of: &Capabilities) -> Vec<Attribute> {
    template::made(of, template::secret_key(false, true, Use::Wrapping(Kind::Encryption)), [])
}

/// A key that is unwrapped.
pub(in crate::operations) fn unwrapped(
    of: &Capabilities,
    by: KeyWrapBy,
    extractable: bool,
    usage: Use,
    more: impl IntoIterator<Item = Attribute>,
) -> Vec<Attribute> {
    let mut template = template::secret_key(false, extractable, usage);
    template.extend(length(by));
    template.extend(more);
    template::fit(of, "C_UnwrapKey", Objects::SecretKey, template)
}

/// A wrapping key as its token is given it, but for CKA_TOKEN: with all that it is told of what it may unwrap to. It is
/// unwrapped by another AES key here.
pub(super) fn told_wrapping(of: &Capabilities, by: KeyWrapBy) -> template::WrappingKey {
    let mut told = template::wrapping_key(of, Kind::Encryption);
    told.first = told.first.into_iter().map(in_memory).chain(length(by)).collect();
    told
}

/// A key of callers as such a key unwraps it, or, where `extractable`, as it must not.
pub(super) fn as_told(of: &Capabilities, extractable: bool) -> Vec<Attribute> {
    let allowed = template::challenge_key_opened(of, Kind::Encryption).into_iter();
    let asked = allowed.map(|attribute| match attribute {
        Attribute::Extractable(_) => Attribute::Extractable(extractable),
        other => other,
    });
    asked.collect()
}

fn in_memory(attribute: Attribute) -> Attribute {
    match attribute {
        Attribute::Token(_) => Attribute::Token(false),
        other => other,
    }
}

/// What some modules want to be told, and most refuse.
fn length(by: KeyWrapBy) -> Option<Attribute> {
    by.value_len.then(|| Attribute::ValueLen(template::AES_256_BYTES.into()))
}

/// Whether a label and an id of the usual length come back whole; how long they may be where they do not.
pub(super) fn names(bench: &mut Bench<'_>) -> Result<(Setting<u64>, Setting<u64>), Failure> {
    let label_max = usize::try_from(bench.of().attributes.label_max).unwrap_or(usize::MAX);
    let id_max = usize::try_from(bench.of().attributes.id_max).unwrap_or(usize::MAX);
    let (label, id) = (label_max.min(ARN), id_max.min(LEAST));
    let both = bench.tried(|bench| named(bench, label, id))?;
    if both == Tried::Works {
        return Ok((Setting::works(), Setting::works()));
    }
    if let Tried::NotJudged(said) = both {
        return Ok((Setting::not_judged(said.clone()), Setting::not_judged(said)));
    }
    let of_id = bench.tried(|bench| named(bench, 1, id))?;
    let of_label = bench.tried(|bench| named(bench, label, 1))?;
    let of_label = match of_label {
        Tried::Fails(_) => longest(bench, label, of_label)?,
        as_said => Setting { as_said, instead: None, unjudged: None },
    };
    Ok((of_label, Setting { as_said: of_id, instead: None, unjudged: None }))
}

fn longest(bench: &mut Bench<'_>, refused: usize, as_said: Tried) -> Result<Setting<u64>, Failure> {
    let mut unjudged = None;
    for length in [64, LEAST].into_iter().filter(|length| *length < refused) {
        match bench.tried(|bench| named(bench, length, 1))? {
            Tried::Works => return Ok(Setting { as_said, instead: Some(length as u64), unjudged: None }),
            Tried::NotJudged(said) => unjudged = Some(said),
            Tried::Not | Tried::Fails(_) => {}
        }
    }
    Ok(Setting { as_said, instead: None, unjudged })
}

fn named(bench: &mut Bench<'_>, label: usize, id: usize) -> Result<(), Failure> {
    let (label, id) = (vec![b'k'; label], vec![0x6b; id]);
    let mut template = template::secret_key(false, false, Use::Key(Kind::Encryption));
    template.extend([Attribute::Id(id.clone()), Attribute::Label(label.clone())]);
    let key = bench.generate(&template::made(bench.of(), template, []))?;
    let shown = bench.desk.get_attributes(key, &[AttributeType::Id, AttributeType::Label])?;
    match shown.contains(&Attribute::Id(id)) && shown.contains(&Attribute::Label(label)) {
        true => Ok(()),
        false => Err(Failure::own(Class::Refused, "C_GetAttributeValue", "another one comes back")),
    }
}

/// Whether the template by which keys of callers are placed is taken, but for CKA_TOKEN.
pub(super) fn placed(
    bench: &mut Bench<'_>,
    wrapping: ObjectHandle,
    blob: &[u8],
    by: KeyWrapBy,
) -> Result<Setting<Vec<Optional>>, Failure> {
    let template = as_placed(bench.of(), by);
    let as_said = bench.tried(|bench| taken(bench, wrapping, blob, by, &template))?;
    let Tried::Fails(_) = as_said else { return Ok(Setting { as_said, instead: None, unjudged: None }) };
    let mut unjudged = None;
    let mut optional: Vec<Optional> = template.iter().filter_map(template::optional).collect();
    optional.dedup();
    for without in optional {
        let rest: Vec<Attribute> =
            template.iter().filter(|attribute| template::optional(attribute) != Some(without)).cloned().collect();
        match bench.tried(|bench| taken(bench, wrapping, blob, by, &rest))? {
            Tried::Works => return Ok(Setting { as_said, instead: Some(vec![without]), unjudged: None }),
            Tried::NotJudged(said) => unjudged = Some(said),
            Tried::Not | Tried::Fails(_) => {}
        }
    }
    Ok(Setting { as_said, instead: None, unjudged })
}

fn as_placed(of: &Capabilities, by: KeyWrapBy) -> Vec<Attribute> {
    let key = KeyVersionId { key: KeyId::from_bytes([0x6b; 16]), version: 1 };
    // A short label: how long one may be is a question of its own.
    let placed = template::placed_key(of, Kind::Encryption, key, "k");
    // Named or not as it works, which is a question of its own.
    let template = placed.into_iter().filter(|attribute| !matches!(attribute, Attribute::ValueLen(_)));
    let mut template: Vec<Attribute> = template.map(in_memory).collect();
    // Not at the end: what comes after CKA_MODIFIABLE = false may be refused.
    if let Some(length) = length(by) {
        template.insert(0, length);
    }
    template
}

fn taken(
    bench: &mut Bench<'_>,
    wrapping: ObjectHandle,
    blob: &[u8],
    by: KeyWrapBy,
    template: &[Attribute],
) -> Result<(), Failure> {
    bench.unwrap(&mechanism(by)?, wrapping, blob, template).map(drop)
}
