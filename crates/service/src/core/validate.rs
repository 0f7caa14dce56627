//! Bounds on what callers send, with AWS's limits and AWS's texts.

use std::collections::{BTreeMap, BTreeSet};

use crate::Error;
use model::context::EncryptionContext;
use model::exception::Exception;
use model::id::{ALIAS_PREFIX, AliasName, ClusterId, HsmId, Scope};
use model::key::DataKeySpec;
use model::limits;
use model::secret::Secret;
use model::text;

/// What AWS says of an alias without its prefix.
const NO_PREFIX: &str = "Alias must start with the prefix \"alias/\". Please see \
                         https://docs.aws.amazon.com/kms/latest/developerguide/kms-alias.html";
/// What AWS says where a key would have more tags than it may.
pub(crate) const TOO_MANY_TAGS: &str = "Too many tags";

/// Items and bytes of one call.
pub(crate) fn batch(items: usize, bytes: usize, member: &str) -> Result<(), Error> {
    length("items", items, 1, limits::BATCH_ITEMS)?;
    if bytes > limits::BATCH_BYTES {
        let longest = limits::BATCH_BYTES;
        return Err(violated(&format!("Value at '{member}'"), &at_most("length over all items", longest)));
    }
    Ok(())
}

/// A length in bytes, characters or items.
pub(crate) fn length(member: &str, actual: usize, least: usize, most: usize) -> Result<(), Error> {
    let value = || format!("Value at '{member}'");
    if actual < least {
        return Err(violated(&value(), &at_least("length", least)));
    }
    if actual > most {
        return Err(violated(&value(), &at_most("length", most)));
    }
    Ok(())
}

/// A number.
pub(crate) fn number(member: &str, actual: u32, least: u32, most: u32) -> Result<u32, Error> {
    let value = || format!("Value '{actual}' at '{member}'");
    if actual < least {
        return Err(violated(&value(), &at_least("value", least)));
    }
    if actual > most {
        return Err(violated(&value(), &at_most("value", most)));
    }
    Ok(actual)
}

/// The text that names a key. Counted in bytes: a legal one has no others.
pub(crate) fn key_reference(text: &str) -> Result<(), Error> {
    length("keyId", text.len(), 1, limits::KEY_REFERENCE_CHARS)
}

/// The name of a key store.
pub(crate) fn key_store_name(name: &str) -> Result<(), Error> {
    length("customKeyStoreName", name.chars().count(), 1, limits::KEY_STORE_NAME_CHARS)?;
    text::key_store_name(name).map_err(|wrong| Error::validation(format!("customKeyStoreName: {wrong}.")))
}

/// The description of a key.
pub(crate) fn description(description: &str) -> Result<(), Error> {
    let most = limits::DESCRIPTION_CHARS;
    text::description(description).map_err(|_| violated("Value at 'description'", &at_most("length", most)))
}

/// What may stand where an alias is named, whether there is one or not. AWS lets a colon through here.
pub(crate) fn alias_name(name: &str) -> Result<&str, Error> {
    length("aliasName", name.len(), 1, limits::ALIAS_CHARS)?;
    if !name.starts_with(ALIAS_PREFIX) {
        return Err(Error::validation(NO_PREFIX));
    }
    let legal = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b':' | b'/' | b'_' | b'-');
    if !name.bytes().all(legal) {
        let pattern = "Member must satisfy regular expression pattern: ^[a-zA-Z0-9:/_-]+$";
        return Err(violated(&format!("Value '{}' at 'aliasName'", shown(name)), pattern));
    }
    Ok(name)
}

/// The name of an alias that is to be made.
pub(crate) fn new_alias(name: &str) -> Result<AliasName, Error> {
    let invalid = |why: &str| Error::permanent(Exception::InvalidAliasName, format!("{name} {why}"));
    match AliasName::parse(alias_name(name)?) {
        Some(alias) if alias.is_reserved() => {
            Err(invalid("is no name for an alias: those that begin with alias/aws/ are reserved"))
        }
        Some(alias) => Ok(alias),
        None if name == ALIAS_PREFIX => Err(invalid("is no name for an alias: nothing follows the prefix")),
        None => Err(invalid("is no name for an alias: behind the prefix are letters, digits, '/', '_' and '-' alone")),
    }
}

/// Tags that a key is to have; no name stands among them twice. AWS's texts.
pub(crate) fn tags(tags: Vec<(String, String)>, most: usize) -> Result<BTreeMap<String, String>, Error> {
    let (count, names) = (tags.len(), tags.iter().map(|(name, _)| name.as_str()));
    tag_names(names, most, |number| format!("tags.{number}.member.tagKey"))?;
    for ((_, value), number) in tags.iter().zip(1..) {
        length(&format!("tags.{number}.member.tagValue"), value.chars().count(), 0, limits::TAG_VALUE_CHARS)?;
    }
    let tags: BTreeMap<String, String> = tags.into_iter().collect();
    if tags.len() == count { Ok(tags) } else { Err(Error::permanent(Exception::Tag, "Duplicate tag keys")) }
}

/// What could be tags of a key, by their number and length. It is told to everybody: conditions of policies are to look at no
/// more than there can be, and a request has room for hundreds of thousands.
pub(crate) fn can_be_tags<'a>(tags: impl ExactSizeIterator<Item = (&'a str, &'a str)>) -> Result<(), Error> {
    if tags.len() > limits::MOST_TAGS_PER_KEY {
        return Err(Error::permanent(Exception::Tag, TOO_MANY_TAGS));
    }
    for ((name, value), number) in tags.zip(1..) {
        length(&format!("tags.{number}.member.tagKey"), name.chars().count(), 0, limits::TAG_KEY_CHARS)?;
        length(&format!("tags.{number}.member.tagValue"), value.chars().count(), 0, limits::TAG_VALUE_CHARS)?;
    }
    Ok(())
}

/// Names of tags that a key is not to have any more.
pub(crate) fn tag_keys(names: Vec<String>, most: usize) -> Result<BTreeSet<String>, Error> {
    tag_names(names.iter().map(String::as_str), most, |number| format!("tagKeys.{number}.member"))?;
    Ok(names.into_iter().collect())
}

fn tag_names<'a>(
    names: impl ExactSizeIterator<Item = &'a str>,
    most: usize,
    member: impl Fn(usize) -> String,
) -> Result<(), Error> {
    let refused = |what: &str| Err(Error::permanent(Exception::Tag, what));
    if names.len() > most {
        return refused(TOO_MANY_TAGS);
    }
    for (name, number) in names.zip(1..) {
        length(&member(number), name.chars().count(), 1, limits::TAG_KEY_CHARS)?;
        if name.get(..4).is_some_and(|start| start.eq_ignore_ascii_case("aws:")) {
            return refused("Tags beginning with aws: are reserved");
        }
    }
    Ok(())
}

/// The ARN of a principal, of whatever account.
pub(crate) fn principal_arn(scope: &Scope, member: &str, arn: &str) -> Result<(), Error> {
    length(member, arn.len(), 1, limits::PRINCIPAL_ARN_BYTES)?;
    let legal = |c: u8| c.is_ascii_alphanumeric() || b"+=,.@_/-".contains(&c);
    let named = |kind: &str, resource: &str| {
        resource.strip_prefix(kind).is_some_and(|name| !name.is_empty() && name.bytes().all(legal))
    };
    let is_one = match arn.splitn(6, ':').collect::<Vec<_>>()[..] {
        ["arn", partition, "iam", "", account, resource] => {
            *partition == *scope.partition
                && account.len() == 12
                && account.bytes().all(|c| c.is_ascii_digit())
                && (named("user/", resource) || named("role/", resource))
        }
        _ => false,
    };
    if is_one {
        return Ok(());
    }
    let (shown, partition) = (shown(arn), &scope.partition);
    let what = format!(
        "{member}: '{shown}' is no ARN of a principal; it must look like arn:{partition}:iam::ACCOUNT:user/NAME, with an \
         account of twelve digits"
    );
    Err(Error::permanent(Exception::InvalidArn, what))
}

/// Whom a grant may name: a principal, or an account as a whole by its root.
pub(crate) fn party_arn(scope: &Scope, member: &str, arn: &str) -> Result<(), Error> {
    match scope.account_of_root(arn) {
        Some(_) => Ok(()),
        None => principal_arn(scope, member, arn),
    }
}

/// The name of a certificate.
pub(crate) fn identity(identity: &str) -> Result<(), Error> {
    text::identity(identity).map_err(|wrong| Error::validation(format!("identity: '{}': {wrong}", shown(identity))))
}

/// The name of a group or of an identity policy.
pub(crate) fn access_name<'t>(member: &str, name: &'t str) -> Result<&'t str, Error> {
    length(member, name.len(), 1, limits::ACCESS_NAME_CHARS)?;
    if name.bytes().all(|c| c.is_ascii_alphanumeric() || b"+=,.@_-".contains(&c)) {
        return Ok(name);
    }
    let pattern = "Member must satisfy regular expression pattern: [A-Za-z0-9+=,.@_-]+";
    Err(violated(&format!("Value '{}' at '{member}'", shown(name)), pattern))
}

/// The id of a grant.
pub(crate) fn grant_id(id: &str) -> Result<(), Error> {
    length("grantId", id.len(), 1, limits::GRANT_ID_CHARS)?;
    if id.bytes().all(|c| c.is_ascii_hexdigit()) {
        return Ok(());
    }
    Err(Error::permanent(Exception::InvalidGrantId, format!("'{}' is no id of a grant", shown(id))))
}

/// The token that makes a create repeatable.
pub(crate) fn client_token(token: &str) -> Result<(), Error> {
    length("clientToken", token.chars().count(), 0, limits::CLIENT_TOKEN_CHARS)
}

/// The id of a cluster.
pub(crate) fn cluster_id(id: &str) -> Result<ClusterId, Error> {
    ClusterId::parse(id).ok_or_else(|| {
        let pattern = "Member must satisfy regular expression pattern: cluster-[2-7a-zA-Z]{11,16}";
        violated(&format!("Value '{}' at 'clusterId'", shown(id)), pattern)
    })
}

/// The id of an HSM.
pub(crate) fn hsm_id(member: &str, id: &str) -> Result<HsmId, Error> {
    HsmId::parse(id).ok_or_else(|| {
        let pattern = "Member must satisfy regular expression pattern: [a-zA-Z0-9_-][a-zA-Z0-9._-]{0,63}";
        violated(&format!("Value '{}' at '{member}'", shown(id)), pattern)
    })
}

/// kmsuser's PIN. The message says nothing of what it is.
pub(crate) fn pin(pin: &Secret) -> Result<(), Error> {
    let (least, most) = limits::PIN_BYTES;
    length("keyStorePassword", pin.len(), least, most)?;
    text::pin(pin.expose()).map_err(|wrong| Error::validation(format!("keyStorePassword: {wrong}.")))
}

/// Callers' text as it comes back in an error: cut to what a name may have, and nothing in it is obeyed.
pub(crate) fn shown(text: &str) -> String {
    let cut: String = text.chars().take(limits::KEY_STORE_NAME_CHARS).collect();
    text::shown(&cut).into_owned()
}

/// The encryption context.
pub(crate) fn context(pairs: BTreeMap<String, String>) -> Result<EncryptionContext, Error> {
    let most = limits::CONTEXT_BYTES;
    EncryptionContext::new(pairs)
        .map_err(|_| violated("Value at 'encryptionContext'", &at_most("encoded length", most)))
}

/// The length of a data key, named by exactly one of its two parameters.
pub(crate) fn data_key_length(spec: Option<DataKeySpec>, number_of_bytes: Option<u32>) -> Result<u16, Error> {
    match (spec, number_of_bytes) {
        (Some(spec), None) => Ok(u16::try_from(spec.bytes()).unwrap_or(u16::MAX)),
        (None, Some(bytes)) => random_length(bytes),
        (None, None) | (Some(_), Some(_)) => {
            Err(Error::validation("Please specify either number of bytes or key spec."))
        }
    }
}

/// A number of random bytes.
pub(crate) fn random_length(bytes: u32) -> Result<u16, Error> {
    let most = u32::try_from(limits::RANDOM_BYTES).unwrap_or(u32::MAX);
    number("numberOfBytes", bytes, 1, most).map(|bytes| u16::try_from(bytes).unwrap_or(u16::MAX))
}

/// How many entries a page holds.
pub(crate) fn page_limit(limit: Option<u32>) -> Result<usize, Error> {
    page_limit_of(limit, limits::LIST_DEFAULT, limits::LIST_LIMIT)
}

/// The same, of a list with bounds of its own.
pub(crate) fn page_limit_of(limit: Option<u32>, default: u32, most: u32) -> Result<usize, Error> {
    let limit = number("limit", limit.unwrap_or(default), 1, most)?;
    Ok(usize::try_from(limit).unwrap_or(usize::MAX))
}

fn at_least(measure: &str, least: impl std::fmt::Display) -> String {
    format!("Member must have {measure} greater than or equal to {least}")
}

fn at_most(measure: &str, most: impl std::fmt::Display) -> String {
    format!("Member must have {measure} less than or equal to {most}")
}

fn violated(value: &str, constraint: &str) -> Error {
    Error::validation(format!("1 validation error detected: {value} failed to satisfy constraint: {constraint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
        let error = result.unwrap_err();
        assert_eq!((error.exception, error.retryable), (Exception::Validation, false));
        error.message
    }

    #[test]
    fn texts_are_aws_s() {
        assert_eq!(
            message(length("plaintext", 4_097, 1, limits::PLAINTEXT_BYTES)),
            "1 validation error detected: Value at 'plaintext' failed to satisfy constraint: \
             Member must have length less than or equal to 4096"
        );
        assert_eq!(
            message(random_length(1_025)),
            "1 validation error detected: Value '1025' at 'numberOfBytes' failed to satisfy constraint: \
             Member must have value less than or equal to 1024"
        );
        assert_eq!(
            message(key_reference("")),
            "1 validation error detected: Value at 'keyId' failed to satisfy constraint: \
             Member must have length greater than or equal to 1"
        );
    }

    #[test]
    fn bounds_are_inclusive() {
        for ok in [1, limits::PLAINTEXT_BYTES] {
            length("plaintext", ok, 1, limits::PLAINTEXT_BYTES).unwrap();
        }
        assert!(length("plaintext", 0, 1, limits::PLAINTEXT_BYTES).is_err());
        assert_eq!((random_length(1).unwrap(), random_length(1_024).unwrap()), (1, 1_024));
        assert!(random_length(0).is_err());
        batch(limits::BATCH_ITEMS, limits::BATCH_BYTES, "plaintext").unwrap();
        assert!(batch(0, 0, "plaintext").is_err());
        assert!(batch(limits::BATCH_ITEMS + 1, 0, "plaintext").is_err());
        assert!(batch(1, limits::BATCH_BYTES + 1, "plaintext").is_err());
        assert_eq!(page_limit(None).unwrap(), 100);
        assert!(page_limit(Some(0)).is_err() && page_limit(Some(1_001)).is_err());
        let context_of = |bytes: usize| context([("k".to_owned(), "v".repeat(bytes - 5))].into());
        context_of(limits::CONTEXT_BYTES).unwrap();
        assert!(context_of(limits::CONTEXT_BYTES + 1).is_err());
    }

    #[test]
    fn aliases_are_named_as_aws_has_it() {
        let longest = format!("alias/{}", "x".repeat(limits::ALIAS_CHARS - 6));
        for name in ["alias/a", "alias/aws", "alias/Aws/x", "alias/a/b_c-D9", &longest] {
            assert_eq!(new_alias(name).unwrap().as_str(), name);
        }
        let cases = [
            ("", "Member must have length greater than or equal to 1"),
            (&format!("{longest}x"), "Member must have length less than or equal to 256"),
            ("payroll", "Alias must start with the prefix \"alias/\"."),
            ("arn:aws:kms:eu-central-1:1:alias/a", "Alias must start with the prefix \"alias/\"."),
            ("alias/a b", "Value 'alias/a b' at 'aliasName' failed to satisfy constraint: Member must satisfy regular"),
            ("alias/ä", "^[a-zA-Z0-9:/_-]+$"),
        ];
        for (name, text) in cases {
            let (said, again) = (message(new_alias(name)), message(alias_name(name)));
            assert!(said.contains(text) && said == again, "{name}: {said}");
        }
        for (name, text) in
            [("alias/aws/x", "reserved"), ("alias/a:b", "letters, digits"), ("alias/", "nothing follows")]
        {
            let error = new_alias(name).unwrap_err();
            assert_eq!(error.exception, Exception::InvalidAliasName);
            assert!(error.message.contains(text), "{error}");
            assert_eq!(alias_name(name).unwrap(), name, "whoever asks for it is told that there is none");
        }
    }

    #[test]
    fn tags_are_as_aws_has_it() {
        let tag = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let most = |count: usize| (0..count).map(|at| (format!("{at}"), String::new())).collect::<Vec<_>>();
        let (key, value) = ("ä".repeat(limits::TAG_KEY_CHARS), "ä".repeat(limits::TAG_VALUE_CHARS));
        assert_eq!(tags(vec![tag(&key, &value), tag("a", ""), tag("A", ""), tag("aws", "")], 4).unwrap().len(), 4);
        assert_eq!(tags(most(50), 50).unwrap().len(), 50);
        assert_eq!(
            message(tags(vec![tag("a", ""), tag("", "")], 50)),
            "1 validation error detected: Value at \
             'tags.2.member.tagKey' failed to satisfy constraint: Member must have length greater than or equal to 1"
        );
        assert!(message(tags(vec![tag(&format!("{key}ä"), "")], 50)).contains("'tags.1.member.tagKey'"));
        assert!(message(tags(vec![tag("a", &format!("{value}ä"))], 50)).contains("'tags.1.member.tagValue'"));
        assert!(message(tag_keys(vec!["a".into(), String::new()], 50)).contains("'tagKeys.2.member'"));
        assert_eq!(tag_keys(vec!["a".into(), "a".into()], 50).unwrap().len(), 1);
        let refusals = [
            (tags(most(51), 50).map(drop), "Too many tags"),
            (tag_keys(most(51).into_iter().map(|(name, _)| name).collect(), 50).map(drop), "Too many tags"),
            (tags(vec![tag("a", "1"), tag("a", "1")], 50).map(drop), "Duplicate tag keys"),
            (tags(vec![tag("aws:a", "")], 50).map(drop), "Tags beginning with aws: are reserved"),
            (tag_keys(vec!["AWS:".into()], 50).map(drop), "Tags beginning with aws: are reserved"),
        ];
        for (refused, text) in refusals {
            let error = refused.unwrap_err();
            assert_eq!((error.exception, error.message.as_str()), (Exception::Tag, text));
        }
    }

    #[test]
    fn a_data_key_has_one_length() {
        assert_eq!(data_key_length(Some(DataKeySpec::Aes256), None).unwrap(), 32);
        assert_eq!(data_key_length(Some(DataKeySpec::Aes128), None).unwrap(), 16);
        assert_eq!(data_key_length(None, Some(7)).unwrap(), 7);
        let text = "Please specify either number of bytes or key spec.";
        assert_eq!(message(data_key_length(None, None)), text);
        assert_eq!(message(data_key_length(Some(DataKeySpec::Aes256), Some(32))), text);
    }
}
