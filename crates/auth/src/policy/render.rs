//! A stored policy as it is shown: as it was put, but that whoever is gone is named by id.

use std::borrow::Cow;
use std::ops::Range;

use model::id::PrincipalId;

use super::json::{Node, Value, parse};
use super::principal::Bindings;

/// The text with the ARN of each principal that is no longer whom it meant replaced by that one's id. Everything else is
/// byte for byte what was put. `current` says whom an ARN means today.
#[must_use]
pub fn shown<'t>(text: &'t str, bindings: &Bindings, current: &dyn Fn(&str) -> Option<PrincipalId>) -> Cow<'t, str> {
    let Ok(root) = parse(text) else { return text.into() };
    let gone = |(span, arn): (Range<usize>, &str)| {
        let id = bindings.resolve(arn)?;
        (current(arn).as_ref() != Some(&id)).then_some((span, id))
    };
    let (mut out, mut done) = (String::new(), 0);
    for (span, id) in principals(&root).into_iter().filter_map(gone) {
        out.push_str(&text[done..span.start]);
        // Ids are chosen here, and are letters and digits; anything else is written as JSON wants it.
        out.push_str(&serde_json::Value::from(id.as_str()).to_string());
        done = span.end;
    }
    if done == 0 {
        return text.into();
    }
    out.push_str(&text[done..]);
    out.into()
}

/// The strings that name principals, in the order of the text.
fn principals(root: &Node) -> Vec<(Range<usize>, &str)> {
    let mut all = Vec::new();
    for statement in members(root, &["Statement"]).flat_map(items) {
        for node in members(statement, &["Principal", "NotPrincipal"]).flat_map(|node| members(node, &["AWS"])) {
            for item in items(node) {
                if let Value::Text(text) = &item.value {
                    all.push((item.span.clone(), text.as_str()));
                }
            }
        }
    }
    all
}

fn members<'n>(node: &'n Node, names: &'static [&'static str]) -> impl Iterator<Item = &'n Node> {
    let members: &[(String, Node)] = if let Value::Object(members) = &node.value { members } else { &[] };
    members.iter().filter(|(name, _)| names.contains(&&**name)).map(|(_, node)| node)
}

fn items(node: &Node) -> &[Node] {
    if let Value::Array(items) = &node.value { items } else { std::slice::from_ref(node) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const ANNA: &str = "arn:aws:iam::111122223333:user/anna";
    const BERT: &str = "arn:aws:iam::111122223333:user/bert";

    fn bindings() -> Bindings {
        let pairs = [(ANNA, "AIDAANNA"), (BERT, "AIDABERT")];
        Bindings::new(pairs.map(|(arn, id)| (arn.to_owned(), PrincipalId::from(id))).into())
    }

    /// Who there is, by ARN.
    fn now(pairs: &'static [(&'static str, &'static str)]) -> impl Fn(&str) -> Option<PrincipalId> {
        let map: BTreeMap<_, _> = pairs.iter().copied().collect();
        move |arn| map.get(arn).copied().map(PrincipalId::from)
    }

    #[test]
    fn only_who_is_gone_or_replaced_is_shown_by_id() {
        let text = format!(
            "{{ \"Statement\" :\t[ {{\"Sid\":\"{ANNA}\",\n \"Principal\" : {{ \"AWS\" : [\"{ANNA}\" ,\"arn:aws:iam::\
             111122223333:user\\/bert\"]}}, \"Condition\": {{\"ArnEquals\": {{\"aws:PrincipalArn\": \"{ANNA}\"}}}}}},\r\n\
             {{\"NotPrincipal\":{{\"AWS\":\"{ANNA}\"}}}}, {{\"Principal\": \"*\"}}] }}\n"
        );
        let everybody = now(&[(ANNA, "AIDAANNA"), (BERT, "AIDABERT")]);
        assert!(matches!(shown(&text, &bindings(), &everybody), Cow::Borrowed(same) if same == text));
        let without_anna = shown(&text, &bindings(), &now(&[(BERT, "AIDABERT")])).into_owned();
        let principal = format!("[\"{ANNA}\" ,");
        let expected = text.replace(&principal, "[\"AIDAANNA\" ,");
        let expected = expected.replace(&format!("{{\"AWS\":\"{ANNA}\"}}"), "{\"AWS\":\"AIDAANNA\"}");
        assert_eq!(without_anna, expected);
        let other_bert = shown(&text, &bindings(), &now(&[(ANNA, "AIDAANNA"), (BERT, "AIDANEW")])).into_owned();
        assert_eq!(other_bert, text.replace("\"arn:aws:iam::111122223333:user\\/bert\"", "\"AIDABERT\""));
    }

    #[test]
    fn one_statement_without_a_list_and_what_is_no_policy() {
        let text = format!("{{\"Statement\":{{\"Principal\":{{\"AWS\":\"{BERT}\"}}}}}}");
        assert_eq!(shown(&text, &bindings(), &now(&[])), "{\"Statement\":{\"Principal\":{\"AWS\":\"AIDABERT\"}}}");
        for odd in ["", "[]", "{\"Statement\":3}", "{\"Statement\":[{\"Principal\":[1]}]}"] {
            assert_eq!(shown(odd, &bindings(), &now(&[])), odd);
        }
    }
}
