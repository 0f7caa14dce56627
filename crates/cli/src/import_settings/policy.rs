//! A key policy with the names of the account made to those that stand for them here.
//!
//! The text stays as it is but for the strings that are changed, so that people find their policy again. What applications
//! send themselves is not changed: values of encryption contexts, and tags.

use std::collections::{BTreeMap, BTreeSet};

use super::mapping::Mapping;
use model::limits::POLICY_BYTES;

/// Condition keys, in lower case, whose values are no names: what applications and tags have in them.
const DATA: &[&str] =
    &["kms:encryptioncontext", "aws:principaltag/", "aws:resourcetag/", "aws:requesttag/", "aws:tagkeys"];

/// By what a policy is rewritten.
pub(super) struct Names<'a> {
    /// The ARN of the key whose policy it is.
    pub(super) own: &'a str,
    /// The ARNs of all keys that are imported, with their new ones where there are any yet.
    pub(super) keys: &'a BTreeMap<String, Option<String>>,
    pub(super) mapping: &'a Mapping,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Rewritten {
    pub(super) document: String,
    /// Keys that have no new ARN yet: their old ones stand in the document.
    pub(super) waits_for: BTreeSet<String>,
    /// What the document names of principals and accounts.
    pub(super) principals: BTreeSet<String>,
    /// What it has as resources beside `*`.
    pub(super) resources: BTreeSet<String>,
}

/// Rewrites a policy; else what is wrong with the text, and where.
pub(super) fn rewritten(document: &str, names: &Names<'_>) -> Result<Rewritten, String> {
    if document.len() > POLICY_BYTES {
        return Err(format!("it has {} bytes, and a policy at most {POLICY_BYTES}", document.len()));
    }
    // What follows counts on well-formed JSON.
    serde_json::from_str::<serde::de::IgnoredAny>(document).map_err(|error| error.to_string())?;
    let mut out = Rewritten { document: String::with_capacity(document.len()), ..Rewritten::default() };
    let (mut stack, mut rest) = (Vec::new(), document);
    while let Some(first) = rest.bytes().next() {
        if first != b'"' {
            match first {
                b'{' => stack.push(Inside::Object { member: String::new(), value: false }),
                b'[' => stack.push(Inside::Array),
                b'}' | b']' => drop(stack.pop()),
                b':' | b',' => {
                    if let Some(Inside::Object { value, .. }) = stack.last_mut() {
                        *value = first == b':';
                    }
                }
                _ => {}
            }
            let length = rest.chars().next().map_or(1, char::len_utf8);
            out.document.push_str(&rest[..length]);
            rest = &rest[length..];
            continue;
        }
        let (token, behind) = rest.split_at(string_length(rest));
        rest = behind;
        let text: String = serde_json::from_str(token).map_err(|error| error.to_string())?;
        let changed = match stack.last_mut() {
            Some(Inside::Object { member, value: false }) => {
                member.clone_from(&text);
                None
            }
            _ => value(&text, &path(&stack), names, &mut out).filter(|new| *new != text),
        };
        match changed {
            // A String is written whatever is in it.
            Some(new) => out.document.push_str(&serde_json::Value::from(new).to_string()),
            None => out.document.push_str(token),
        }
    }
    Ok(out)
}

/// Where the text is.
enum Inside {
    /// In this member, or before its value.
    Object {
        member: String,
        value: bool,
    },
    Array,
}

/// The members around a place, from without.
fn path(stack: &[Inside]) -> Vec<&str> {
    let members = stack.iter().filter_map(|inside| match inside {
        Inside::Object { member, .. } => Some(member.as_str()),
        Inside::Array => None,
    });
    members.collect()
}

/// Bytes of the JSON string that a text begins with.
fn string_length(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

/// What stands for a value at this place; `None` where it stays.
fn value(text: &str, path: &[&str], names: &Names<'_>, out: &mut Rewritten) -> Option<String> {
    match path {
        ["Statement", "Principal" | "NotPrincipal", "AWS"] => {
            let new = names.mapping.of(text);
            out.principals.insert(new.clone());
            Some(new)
        }
        ["Statement", "Resource" | "NotResource"] => {
            // In the policy of a key that is the key.
            if text == names.own || text == "*" {
                return Some("*".to_owned());
            }
            let new = named(text, names, out);
            out.resources.insert(new.clone());
            Some(new)
        }
        ["Statement", "Condition", _, key] => {
            let key = key.to_ascii_lowercase();
            (!DATA.iter().any(|data| key.starts_with(data))).then(|| named(text, names, out))
        }
        _ => None,
    }
}

fn named(text: &str, names: &Names<'_>, out: &mut Rewritten) -> String {
    match names.keys.get(text) {
        Some(Some(new)) => new.clone(),
        Some(None) => {
            out.waits_for.insert(text.to_owned());
            text.to_owned()
        }
        None => names.mapping.of(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &str = "arn:aws:kms:us-east-1:111122223333:key/own";
    const OTHER: &str = "arn:aws:kms:us-east-1:111122223333:key/other";
    const NEW: &str = "arn:aws:kms:eu-central-1:000000000000:key/new";

    fn of(document: &str, other: Option<&str>) -> Result<Rewritten, String> {
        let keys = [(OWN.to_owned(), None), (OTHER.to_owned(), other.map(str::to_owned))].into();
        let pairs = [
            ("111122223333", "000000000000"),
            ("arn:aws:iam::111122223333:role/app", "arn:aws:iam::000000000000:user/app"),
        ];
        let mapping = Mapping::new(pairs.map(|(old, new)| (old.to_owned(), new.to_owned()))).unwrap();
        rewritten(document, &Names { own: OWN, keys: &keys, mapping: &mapping })
    }

    const DOCUMENT: &str = r#"{
  "Version" : "2012-10-17", "Id": "key-111122223333",
	"Statement": [ {
    "Sid": "111122223333", "Effect": "Allow",
    "Principal": { "AWS": ["arn:aws:iam::111122223333:root", "arn:aws:iam::111122223333:role\/app", "*"],
                   "Service": "111122223333" },
    "Action": "kms:*", "Resource": "arn:aws:kms:us-east-1:111122223333:key/own"
  }, {
    "Effect": "Deny", "NotPrincipal": { "AWS": "111122223333" }, "Action": ["kms:Decrypt"],
    "Resource": ["*", "arn:aws:kms:*:111122223333:key/*"],
    "Condition": {
      "StringEquals": { "kms:CallerAccount": "111122223333", "kms:EncryptionContext:account": "111122223333",
                        "aws:PrincipalTag/home": ["111122223333"] },
      "ArnLike": { "aws:SourceArn": ["arn:aws:kms:us-east-1:111122223333:key/other", "a\"b{[é"] },
      "Bool": { "kms:GrantIsForAWSResource": true, "x": 1.5e3 }
    }
  } ]
}"#;

    #[test]
    fn names_are_changed_where_they_are_names_and_the_rest_is_as_it_was() {
        let read = of(DOCUMENT, Some(NEW)).unwrap();
        let expected = DOCUMENT
            .replace("[\"arn:aws:iam::111122223333:root\"", "[\"arn:aws:iam::000000000000:root\"")
            .replace("arn:aws:iam::111122223333:role\\/app", "arn:aws:iam::000000000000:user/app")
            .replace("\"arn:aws:kms:us-east-1:111122223333:key/own\"", "\"*\"")
            .replace("{ \"AWS\": \"111122223333\" }", "{ \"AWS\": \"000000000000\" }")
            .replace("arn:aws:kms:*:111122223333:key/*", "arn:aws:kms:*:000000000000:key/*")
            .replace("\"kms:CallerAccount\": \"111122223333\"", "\"kms:CallerAccount\": \"000000000000\"")
            .replace(OTHER, NEW);
        assert_eq!(read.document, expected);
        assert!(read.waits_for.is_empty());
        let principals: Vec<_> = read.principals.iter().map(String::as_str).collect();
        assert_eq!(
            principals,
            ["*", "000000000000", "arn:aws:iam::000000000000:root", "arn:aws:iam::000000000000:user/app"]
        );
        assert_eq!(read.resources.iter().collect::<Vec<_>>(), ["arn:aws:kms:*:000000000000:key/*"]);
    }

    #[test]
    fn a_key_without_its_new_name_is_waited_for() {
        let read = of(DOCUMENT, None).unwrap();
        assert_eq!(read.waits_for.iter().collect::<Vec<_>>(), [OTHER]);
        assert!(read.document.contains(OTHER));
    }

    #[test]
    fn a_single_statement_is_one_too_and_what_is_no_json_is_told() {
        let one = r#"{"Statement":{"Principal":{"AWS":"111122223333"}}}"#;
        assert_eq!(of(one, None).unwrap().document, one.replace("111122223333", "000000000000"));
        for (wrong, place) in [
            ("{\n\"a\": }", "line 2 column"),
            ("", "EOF"),
            (&"[".repeat(1_000), "EOF"),
            (&" ".repeat(40_000), "at most 32768"),
        ] {
            let told = of(wrong, None).unwrap_err();
            assert!(told.contains(place), "{told}");
        }
    }

    #[test]
    fn quotes_and_backslashes_end_nothing() {
        let deep = format!("{}\"{}\"{}", "[".repeat(9_000), "é", "]".repeat(9_000));
        for text in
            [r#"{"a\\":"b\"c","d":["\\"]}"#, r#"{"Statement":[{"Sid":"\\\"","Resource":"*"}]}"#, "  [ ] ", &deep]
        {
            assert_eq!(of(text, None).unwrap().document, text);
        }
    }
}
