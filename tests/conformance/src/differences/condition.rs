//! Conditions in other words.

use super::value::{Variable, glob, is_epoch, is_read, networks, rewritten, substituted, variables};
use super::{Class, Reading};
use crate::keys::Class as Values;
use crate::policy::{Condition, Effect, Set};
use crate::world::MANY;

/// What a condition comes to.
pub(super) enum Read {
    /// It restricts nothing.
    Met,
    /// It is never met.
    NotMet,
    /// This one.
    As(Condition),
}

impl Reading<'_> {
    pub(super) fn condition(&mut self, mut condition: Condition, effect: Effect, has_variables: bool) -> Read {
        let key = condition.key.to_ascii_lowercase();
        let given = self.keys.get(&key).cloned().unwrap_or_default();
        let class = Values::of(condition.operator.base).expect("operators that are drawn have a class");
        if class == Values::Presence {
            return Read::As(condition);
        }
        let (negated, denies) = (condition.operator.negated(), effect == Effect::Deny);
        if given.is_empty() {
            let any = condition.operator.set == Set::ForAny && condition.operator.if_exists;
            return if any && self.found(Class::AnyIfExists) { Read::Met } else { Read::As(condition) };
        }
        if !given.iter().any(|value| is_read(class, value)) && self.found(Class::Unreadable) {
            return if negated && denies { Read::Met } else { Read::NotMet };
        }
        let old = !has_variables && condition.values.iter().any(|text| text.contains("${"));
        if old && self.found(Class::OldVersion) {
            return if plain(&condition, class, &given, denies) { Read::Met } else { Read::NotMet };
        }
        let several = MANY.iter().any(|one| one.eq_ignore_ascii_case(&key));
        if several && condition.operator.set == Set::No && self.found(Class::SeveralValues) {
            condition.operator.set = if denies { Set::ForAny } else { Set::ForAll };
        }
        let mut values = Vec::new();
        for text in &condition.values {
            match class {
                Values::Text | Values::Arn if has_variables => {
                    let text = self.with_variables(text, class, negated && denies);
                    values.extend(text.map(|text| self.without_signs(text, condition.operator.base)));
                }
                Values::Arn => values.push(self.arn(text)),
                Values::Number if text.contains('e') && self.found(Class::Number) => {
                    let number: f64 = text.parse().expect("numbers that are drawn are numbers");
                    values.push(number.to_string());
                }
                Values::Address if networks(text) != [text.as_str()] && self.found(Class::Address) => {
                    values.extend(networks(text));
                }
                _ => values.push(text.clone()),
            }
        }
        if class == Values::Moment {
            let as_epoch = is_epoch(&given[0]);
            let year = |text: &String| text.bytes().all(|byte| byte.is_ascii_digit());
            if (as_epoch || values.iter().any(year)) && self.found(Class::Moment) {
                values = values.iter().filter_map(|text| rewritten(text, as_epoch)).collect();
            }
        }
        // Only a variable without a value leaves none, and that in a negated condition of a Deny.
        if values.is_empty() {
            return Read::Met;
        }
        condition.values = values;
        Read::As(condition)
    }

    /// A value that may have variables; nothing where it fits nothing and the oracle does not know that.
    fn with_variables(&mut self, text: &str, class: Values, negated_deny: bool) -> Option<String> {
        let all = variables(text, &self.keys);
        if all.iter().any(|one| one.value == Variable::Missing) {
            return if negated_deny && self.found(Class::NoValue) { None } else { Some(text.to_owned()) };
        }
        let empty = |one: &Variable| *one == Variable::Value(String::new());
        let early = class == Values::Arn && all.iter().any(|one| text[..one.at.start].matches(':').count() < 5);
        if early && self.found(Class::VariableInArn) {
            return Some(self.arn(&substituted(text, &all, |one| matches!(one, Variable::Value(_)))));
        }
        if all.iter().any(|one| empty(&one.value)) && self.found(Class::Empty) {
            return Some(substituted(text, &all, empty));
        }
        Some(if class == Values::Arn { self.arn(text) } else { text.to_owned() })
    }

    /// A value of an operator without wildcards, in which `${*}` is a star.
    fn without_signs(&mut self, text: String, operator: &str) -> String {
        let signs = ["*", "?", "$"].map(|sign| (format!("${{{sign}}}"), sign));
        if !operator.contains("Equals")
            || operator.starts_with("Arn")
            || !signs.iter().any(|(long, _)| text.contains(long))
        {
            return text;
        }
        if !self.found(Class::Sign) {
            return text;
        }
        signs.iter().fold(text, |text, (long, sign)| text.replace(long, sign))
    }

    fn arn(&mut self, text: &str) -> String {
        if text == "*" && self.found(Class::StarArn) { "arn:*:*:*:*:*".to_owned() } else { text.to_owned() }
    }
}

/// Whether a condition is met in which there are no variables, by the plainest definition.
fn plain(condition: &Condition, class: Values, given: &[String], denies: bool) -> bool {
    let Condition { operator, values, .. } = condition;
    let fits = |wanted: &String, given: &String| match (class, operator.base) {
        (Values::Arn, _) => wanted == "*" || each_part(wanted, given),
        (_, name) if name.ends_with("IgnoreCase") => wanted.to_lowercase() == given.to_lowercase(),
        (_, name) if name.ends_with("Like") => glob(wanted, given),
        _ => wanted == given,
    };
    let met = |given: &String| values.iter().any(|wanted| fits(wanted, given)) != operator.negated();
    match operator.set {
        Set::ForAll => given.iter().all(met),
        Set::ForAny => given.iter().any(met),
        Set::No if denies => given.iter().any(met),
        Set::No => given.iter().all(met),
    }
}

/// Whether each part of an ARN fits.
fn each_part(pattern: &str, arn: &str) -> bool {
    let (pattern, arn): (Vec<_>, Vec<_>) = (pattern.splitn(6, ':').collect(), arn.splitn(6, ':').collect());
    pattern.len() == arn.len() && pattern.iter().zip(arn).all(|(pattern, part)| glob(pattern, part))
}
