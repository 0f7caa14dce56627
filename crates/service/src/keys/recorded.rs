//! Keys as records of calls have them: by CloudTrail's names.

use std::collections::BTreeMap;

use super::describe_key::KeyMetadata;
use crate::core::Core;
use crate::core::authority::{KEY_ORIGIN, KEY_SPEC, KEY_USAGE};
use crate::core::keyring::Entry;
use crate::core::notes::Notes;
use audit::event::{Fields, Value, time};
use model::key::KeyState;
use store::{Key, Version};

const MONTHS: [&str; 12] = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];

/// Parameters of CreateKey that are the same for each key here.
pub(crate) fn constant(fields: Fields) -> Fields {
    let fields = fields.text("keyUsage", KEY_USAGE).text("keySpec", KEY_SPEC).text("customerMasterKeySpec", KEY_SPEC);
    fields.text("origin", KEY_ORIGIN).flag("multiRegion", false)
}

/// What CreateKey answers.
pub(crate) fn recorded(made: &KeyMetadata) -> Fields {
    let algorithms = vec![Value::from(KEY_SPEC)];
    Fields::new()
        .text("aWSAccountId", &made.account)
        .text("keyId", &made.id.to_string())
        .text("arn", &made.arn)
        .text("creationDate", &date_for_people(made.created_at))
        .flag("enabled", made.state == KeyState::Enabled)
        .text("description", &made.description)
        .text("keyUsage", KEY_USAGE)
        .text("keyState", made.state.name())
        .text("origin", KEY_ORIGIN)
        .text("keyManager", "CUSTOMER")
        .text("customKeyStoreId", made.key_store.as_str())
        .text("cloudHsmClusterId", &made.cluster)
        .text("customerMasterKeySpec", KEY_SPEC)
        .text("keySpec", KEY_SPEC)
        .with("encryptionAlgorithms", Value::List(algorithms))
        .flag("multiRegion", false)
        .text("currentKeyMaterialId", &made.current_material_id)
}

/// Where the material of a key that was made is.
pub(crate) fn note_material(notes: &Notes, entry: &Entry) {
    if let Some(version) = entry.key.current() {
        notes.add("backingKey", shown(&handle(version)).as_str());
    }
}

/// The material of a key that is to go, and where it is.
pub(crate) fn note_backing_keys(notes: &Notes, core: &Core, key: &Key) {
    let cluster = core.store().catalogue().key_store(&key.key_store).map(|store| store.cluster.to_string());
    notes.add("customKeyStoreId", key.key_store.as_str());
    notes.add("clusterId", cluster.unwrap_or_default().as_str());
    notes.add("backingKeys", backing_keys(key).as_str());
}

/// The versions of a key as CloudTrail has them: JSON in a string.
pub(crate) fn backing_keys(key: &Key) -> String {
    let keys: Vec<String> = key.versions.iter().map(|version| shown(&handle(version))).collect();
    format!("[{}]", keys.join(","))
}

/// The same with what became of each: gone from every HSM, not to be destroyed in one so far, or not yet seen to be gone.
pub(crate) fn deletion_status(key: &Key) -> String {
    let status = |version: &Version| {
        let left = || version.destructions.values().filter(|one| one.destroyed_at.is_none());
        let status = match left().next() {
            None => "SUCCESS",
            Some(_) if left().any(|one| one.failure.is_some()) => "FAILURE",
            Some(_) => "PENDING",
        };
        let mut told = handle(version);
        told.insert("deletionStatus", status.to_owned());
        shown(&told)
    };
    format!("[{}]", key.versions.iter().map(status).collect::<Vec<_>>().join(","))
}

/// An HSM's own handles last as long as a session, so that the object is named by what it is found by: the key and the
/// version's number.
fn handle(version: &Version) -> BTreeMap<&'static str, String> {
    BTreeMap::from([("backingKeyId", version.material_id.to_string()), ("keyHandle", version.id.to_string())])
}

/// Neither names nor values hold anything that JSON would escape.
fn shown(members: &BTreeMap<&'static str, String>) -> String {
    let members: Vec<String> = members.iter().map(|(name, value)| format!("\"{name}\":\"{value}\"")).collect();
    format!("{{{}}}", members.join(","))
}

/// A time as CloudTrail has it where AWS answers one: `Nov 28, 2025, 2:03:05 PM`. From milliseconds since the Unix epoch.
pub(crate) fn date_for_people(unix_millis: i64) -> String {
    let time = time(unix_millis);
    let number =
        |from: usize, to: usize| time.get(from..to).and_then(|digits| digits.parse::<usize>().ok()).unwrap_or(0);
    let month = MONTHS.get(number(5, 7).wrapping_sub(1)).copied().unwrap_or_default();
    let (hour, half) = match number(11, 13) {
        0 => (12, "AM"),
        morning @ 1..12 => (morning, "AM"),
        12 => (12, "PM"),
        later => (later - 12, "PM"),
    };
    format!("{month} {}, {}, {hour}:{:02}:{:02} {half}", number(8, 10), number(0, 4), number(14, 16), number(17, 19))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_as_cloudtrail_writes_them() {
        for (millis, shown) in [
            (1_764_338_585_123, "Nov 28, 2025, 2:03:05 PM"),
            (0, "Jan 1, 1970, 12:00:00 AM"),
            (43_200_000, "Jan 1, 1970, 12:00:00 PM"),
            (39_599_000, "Jan 1, 1970, 10:59:59 AM"),
        ] {
            assert_eq!(date_for_people(millis), shown);
        }
    }
}
