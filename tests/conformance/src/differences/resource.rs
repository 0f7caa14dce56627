//! Resource and NotResource in other words.

use super::value::{Variable, glob, substituted, variables};
use super::{Class, Reading};
use crate::policy::{Effect, Element, Statement};
use crate::world::Thing;

/// Fits nothing that is asked for.
const NOWHERE: &str = "arn:aws:kms:eu-central-1:000000000000:key/0";

impl Reading<'_> {
    /// Whether the statement may apply.
    pub(super) fn resource(&mut self, statement: &mut Statement, has_variables: bool) -> bool {
        let Element { not, texts } = &statement.resource;
        let (mut read, mut missing) = (Vec::new(), false);
        for text in texts {
            let all = if has_variables { variables(text, &self.keys) } else { Vec::new() };
            if all.iter().any(|one| one.value == Variable::Missing) {
                missing = true;
                if *not && statement.effect == Effect::Deny && self.found(Class::NoValueResource) {
                    continue;
                }
            }
            let empty = |one: &Variable| *one == Variable::Value(String::new());
            let text = if all.iter().any(|one| empty(&one.value)) && self.found(Class::Empty) {
                substituted(text, &all, empty)
            } else {
                text.clone()
            };
            read.push(self.plain(&text, has_variables).unwrap_or(text));
        }
        // Which is no reason to allow, where there is something that it could be.
        let arn = self.ask.action.thing != Thing::Nothing;
        if *not && missing && arn && statement.effect == Effect::Allow && self.found(Class::NoValueResource) {
            return false;
        }
        statement.resource = match read.is_empty() {
            true => Element { not: false, texts: vec!["*".to_owned()] },
            false => Element { not: *not, texts: read },
        };
        true
    }

    /// What a pattern with a disputed form comes to for what is asked for.
    fn plain(&mut self, text: &str, has_variables: bool) -> Option<String> {
        if text == "*" || has_variables && text.contains("${") {
            return None;
        }
        let parts: Vec<_> = text.splitn(6, ':').collect();
        let typed =
            parts.get(5).and_then(|name| name.split_once('/')).is_some_and(|(kind, _)| kind.contains(['*', '?']));
        let class = match () {
            () if text.contains("${") => Class::OldVersion,
            () if parts.len() < 6 => Class::ShortArn,
            () if typed => Class::ResourceType,
            () => return None,
        };
        let arn: Vec<_> = self.ask.arn().splitn(6, ':').collect();
        let means = if reaches(&parts, &arn) { "*" } else { NOWHERE };
        self.found(class).then(|| means.to_owned())
    }
}

/// AWS: wildcards are of one part, but for a `*` at the end of one, which may reach over colons.
fn reaches(pattern: &[&str], arn: &[&str]) -> bool {
    let (Some((first, pattern)), Some((given, arn))) = (pattern.split_first(), arn.split_first()) else {
        return pattern.is_empty() && arn.is_empty();
    };
    let most = if first.ends_with('*') { arn.len() } else { 0 };
    glob(first, given) && (0..=most).any(|over| reaches(pattern, &arn[over..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_reaches_over_colons() {
        let fits = |pattern: &str| {
            let arn: Vec<_> = crate::world::KEY.splitn(6, ':').collect();
            reaches(&pattern.splitn(6, ':').collect::<Vec<_>>(), &arn)
        };
        for pattern in ["arn:*", "arn:aws:kms:*:key/1234*", "arn:*:key/*ab", "arn:aws:kms:eu*:*:k?y/*"] {
            assert!(fits(pattern), "{pattern}");
        }
        for pattern in ["arn", "arn:aws:k*1:111122223333:key/*", "arn:*:key/9*", "arn:aws:kms:*:*:*:x*"] {
            assert!(!fits(pattern), "{pattern}");
        }
    }
}
