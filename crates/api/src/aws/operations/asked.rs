//! What requests hold, in the types that use cases take.

use std::collections::BTreeMap;

use crate::aws::error::Failure;
use crate::aws::model::{Input, Object};
use model::id::ALIAS_PREFIX;
use model::secret::Secret;
use service::{Extras, GrantTokens};

/// A text; empty where it is absent, which is what use cases take for "none".
pub(super) fn text(asked: &Object, member: &str) -> String {
    asked.text(member).unwrap_or_default().to_owned()
}

/// A number. One that is none here is none that any use case takes.
pub(super) fn number(asked: &Object, member: &str) -> Option<u32> {
    asked.integer(member).map(|number| u32::try_from(number).unwrap_or(u32::MAX))
}

/// A flag; false where it is absent.
pub(super) fn flag(asked: &Object, member: &str) -> bool {
    asked.boolean(member).unwrap_or_default()
}

/// Texts; none where they are absent.
pub(super) fn texts(asked: &Object, member: &str) -> Vec<String> {
    asked.list_of_texts(member).unwrap_or_default()
}

/// Pairs of texts by name.
pub(super) fn map(asked: &Object, member: &str) -> BTreeMap<String, String> {
    asked.map_of_texts(member).unwrap_or_default()
}

/// Bytes, moved out of the request.
pub(super) fn take(asked: &mut Input, member: &str) -> Option<Secret> {
    asked.take_blob(member).map(|mut bytes| Secret::new(std::mem::take(&mut *bytes)))
}

/// A text that is to be wiped.
pub(super) fn secret(asked: &Object, member: &str) -> Option<Secret> {
    asked.text(member).map(|text| Secret::new(text.as_bytes().to_vec()))
}

/// Whether a text names a key by an alias, or by an alias's ARN, whether there is one or not.
pub(super) fn names_alias(key_id: &str) -> bool {
    let resource = key_id.strip_prefix("arn:").map_or(Some(key_id), |behind| behind.splitn(5, ':').nth(4));
    resource.is_some_and(|resource| resource.starts_with(ALIAS_PREFIX))
}

/// The grant tokens of a request.
pub(super) fn grant_tokens(asked: &Object) -> GrantTokens {
    texts(asked, "GrantTokens").into()
}

/// The one modifier of a dry run: the ciphertext is neither needed nor looked at.
const IGNORE_CIPHERTEXT: &str = "IGNORE_CIPHERTEXT";

/// Whether a request says that it comes without a ciphertext.
pub(super) fn ignores_ciphertext(asked: &Object) -> bool {
    texts(asked, "DryRunModifiers").iter().any(|modifier| modifier == IGNORE_CIPHERTEXT)
}

/// What may come with requests that use keys.
pub(super) fn extras(asked: &Object) -> Extras {
    Extras {
        dry_run: flag(asked, "DryRun"),
        ignore_ciphertext: ignores_ciphertext(asked),
        unknown_modifier: texts(asked, "DryRunModifiers").iter().any(|modifier| modifier != IGNORE_CIPHERTEXT),
        grant_tokens: grant_tokens(asked),
        recipient: asked.has("Recipient"),
    }
}

/// Refuses members that ask for what there is not here: passed over, the caller would have something else than it asked
/// for.
pub(super) fn without(asked: &Object, members: &[&str], why: &str) -> Result<(), Failure> {
    match members.iter().find(|member| asked.has(member)) {
        Some(member) => Err(Failure::unsupported(format!("{member}: {why}"))),
        None => Ok(()),
    }
}
