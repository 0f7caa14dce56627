//! Conditions: read once, and met or not by a request.
//!
//! Where AWS says nothing, a doubt never allows: what a request's value is cannot be told, or a key for one value has
//! several. An Allow is then met only if it would be met either way, and a Deny if it would be met one way. The same holds
//! for a variable that has several values, and for one without a value, of which AWS says that a negated operator is met: here
//! one in a Deny is, and one in an Allow is not, since nobody should be allowed something for lacking a tag.

use std::collections::BTreeSet;

use super::compiled::Since;
use super::decimal::Decimal;
use super::finding::Problem;
use super::keys::Key;
use super::operator::{Comparison, Operator, Quantifier, Test};
use super::ordered::Ordered;
use super::scene::{Scene, Value};
use super::value::{Network, bytes, flag, moment, saved_moment};
use super::variable::{Syntax, Template, colon};
use crate::fold::{fold, folds_to};

/// So many names that differ by case alone are looked at. An encryption context has room for hundreds.
const SPELLINGS: usize = 16;
/// What a variable counts, which is looked up for each of many values.
const VARIABLE_PASSES: usize = 16;
/// What a condition counts that reads each of many values as something else than text.
const READING_PASSES: usize = 4;

/// What a statement does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    /// It allows.
    Allow,
    /// It denies, whatever else allows.
    Deny,
}

/// A key, an operator and the values of one condition.
#[derive(Clone, Debug)]
pub(super) struct Condition {
    key: Key,
    operator: Operator,
    wanted: Wanted,
}

/// The values of a policy.
#[derive(Clone, Debug)]
enum Wanted {
    /// Text: what has no variables is looked up, so that many values cost little.
    Texts {
        literals: BTreeSet<Box<str>>,
        others: Box<[Template]>,
    },
    Numbers(Comparison, Ordered<Decimal>),
    Moments(Comparison, Ordered<i64>),
    Flags(Ordered<bool>),
    Bytes(BTreeSet<Vec<u8>>),
    Networks(Box<[Network]>),
    Arns(Box<[Arn]>),
}

/// Of how many of a request's values it is asked that they fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asks {
    Each,
    One,
}

/// An ARN with wildcards.
#[derive(Clone, Debug)]
enum Arn {
    /// `*`: any text that is an ARN.
    Any,
    /// Its six parts. No wildcard reaches over a colon but in the last.
    Parts(Box<[Template; 6]>),
}

impl Condition {
    /// Reads the values of a condition. Which of them is wrong comes with what is wrong.
    pub(super) fn read(
        key: Key,
        operator: Operator,
        texts: &[&str],
        variables: bool,
        since: Since,
    ) -> Result<Self, (usize, Problem)> {
        let moment: fn(&str) -> Option<i64> = match since {
            Since::Now => moment,
            Since::Before => saved_moment,
        };
        let each = |read: &mut dyn FnMut(&str) -> Result<(), Problem>| {
            texts.iter().enumerate().try_for_each(|(index, text)| read(text).map_err(|problem| (index, problem)))
        };
        let wanted = match operator.test {
            Test::Text | Test::FoldedText | Test::TextPattern => {
                let syntax = Syntax { wildcards: operator.test == Test::TextPattern, variables };
                let (mut literals, mut others) = (BTreeSet::new(), Vec::new());
                each(&mut |text| {
                    match Template::parse(text, syntax)? {
                        Template::Literal(text) if operator.test == Test::FoldedText => {
                            literals.insert(fold(&text).into());
                        }
                        Template::Literal(text) => {
                            literals.insert(text);
                        }
                        other => others.push(other),
                    }
                    Ok(())
                })?;
                Wanted::Texts { literals, others: others.into() }
            }
            Test::Number(how) => Wanted::Numbers(how, Ordered::of(all(texts, Decimal::parse, "a number")?)),
            Test::Moment(how) => {
                let moments = all(texts, moment, "a date of ISO 8601 or a number of seconds since 1970")?;
                Wanted::Moments(how, Ordered::of(moments))
            }
            Test::Flag | Test::Null => Wanted::Flags(Ordered::of(all(texts, flag, "true or false")?)),
            Test::Bytes => Wanted::Bytes(all(texts, bytes, "base64")?.into_iter().collect()),
            Test::Address => Wanted::Networks(all(texts, Network::parse, "an IP address or ADDRESS/BITS")?),
            Test::Arn => {
                let mut arns = Vec::new();
                each(&mut |text| {
                    arns.push(Arn::parse(text, variables)?);
                    Ok(())
                })?;
                Wanted::Arns(arns.into())
            }
        };
        Ok(Self { key, operator, wanted })
    }

    /// Its key.
    pub(super) fn key(&self) -> &Key {
        &self.key
    }

    /// Its operator.
    pub(super) fn operator(&self) -> Operator {
        self.operator
    }

    /// Whether it may be another thing at the next request of the same caller with the same target.
    pub(super) fn is_of_request(&self) -> bool {
        self.key.is_of_request() || self.templates().any(Template::is_of_request)
    }

    /// The policy's values that have variables or wildcards.
    pub(super) fn templates(&self) -> impl Iterator<Item = &Template> {
        let (others, arns): (&[Template], &[Arn]) = match &self.wanted {
            Wanted::Texts { others, .. } => (&**others, &[]),
            Wanted::Arns(all) => (&[], &**all),
            _ => (&[], &[]),
        };
        others.iter().chain(arns.iter().flat_map(Arn::templates))
    }

    /// How often all that a caller sends may be gone through for it.
    pub(super) fn passes(&self) -> usize {
        let variables = || VARIABLE_PASSES * self.templates().map(Template::variables).sum::<usize>();
        match () {
            () if self.operator.test == Test::Null => 0,
            () if self.key.has_callers_many() => self.each_pass() + self.templates().count() + variables(),
            () if self.key.has_callers_text() => {
                self.folded() + self.templates().filter(|template| template.is_searched()).count()
            }
            () => self.folded(),
        }
    }

    /// What it costs to have one value of many looked at, templates aside. Networks are in no order that would help.
    fn each_pass(&self) -> usize {
        match &self.wanted {
            Wanted::Texts { .. } | Wanted::Bytes(_) | Wanted::Flags(_) => 1,
            Wanted::Numbers(..) | Wanted::Moments(..) | Wanted::Arns(_) => READING_PASSES,
            Wanted::Networks(networks) => READING_PASSES + networks.len(),
        }
    }

    /// How many of its values are folded anew each time, and may be long.
    fn folded(&self) -> usize {
        let folds = self.operator.test == Test::FoldedText;
        self.templates().map(Template::variables_of_callers_text).filter(|_| folds).sum()
    }

    /// Whether its key has several values in its own right.
    fn is_of_many(&self) -> bool {
        self.key.spec().is_some_and(|spec| spec.many)
    }

    /// Whether it can be met where the key is absent.
    pub(super) fn met_where_absent(&self) -> bool {
        match (&self.wanted, self.operator.quantifier) {
            (Wanted::Flags(wanted), _) if self.operator.test == Test::Null => wanted.has(Comparison::Equal, &true),
            (_, Quantifier::ForAll) => true,
            (_, Quantifier::ForAny) => self.operator.if_exists,
            (_, Quantifier::Single) => self.operator.if_exists || self.operator.negated,
        }
    }

    /// Whether no request meets it: its key is never there.
    pub(super) fn is_never_met(&self) -> bool {
        self.key.spec().is_none() && !self.met_where_absent()
    }

    /// Whether a request meets it, for a statement of this effect.
    pub(super) fn met(&self, scene: &Scene<'_>, effect: Effect) -> bool {
        let (mut values, mut any, mut all) = (0_usize, false, true);
        let null = self.operator.test == Test::Null;
        scene.each(&self.key, &mut |value| {
            values += 1;
            // Nothing can change any more; a request with many values is not looked at to its end.
            if null || self.settled(effect, any, all) || self.is_doubtful(values) {
                return;
            }
            let fits = match self.fits(&value, scene) {
                Some(fits) => fits != self.operator.negated,
                // Any of the values that a variable has may be the one.
                None => effect == Effect::Deny && (self.operator.negated || self.is_of_several(scene)),
            };
            any |= fits;
            all &= fits;
        });
        if let (true, Wanted::Flags(wanted)) = (null, &self.wanted) {
            return wanted.has(Comparison::Equal, &(values == 0));
        }
        match (self.asks_of(effect), values) {
            (_, 0) => self.met_where_absent(),
            (_, values) if self.is_doubtful(values) => effect == Effect::Deny,
            (Asks::Each, _) => all,
            (Asks::One, _) => any,
        }
    }

    /// Whether a variable among its values has several that differ.
    fn is_of_several(&self, scene: &Scene<'_>) -> bool {
        self.templates().any(|template| template.has_several_values(scene))
    }

    /// Of how many values it asks that they fit. Set operators are for keys with several: where one for a single value has
    /// some, nobody can tell which it is.
    fn asks_of(&self, effect: Effect) -> Asks {
        match (self.operator.quantifier, effect) {
            (Quantifier::ForAll, _) if self.is_of_many() => Asks::Each,
            (Quantifier::ForAny, _) if self.is_of_many() => Asks::One,
            (_, Effect::Allow) => Asks::Each,
            (_, Effect::Deny) => Asks::One,
        }
    }

    /// Whether a key for one value has so many that nobody means one.
    fn is_doubtful(&self, values: usize) -> bool {
        values > SPELLINGS && !self.is_of_many()
    }

    fn settled(&self, effect: Effect, any: bool, all: bool) -> bool {
        match self.asks_of(effect) {
            Asks::Each => !all,
            Asks::One => any,
        }
    }

    /// Whether one of the policy's values fits; nothing where that cannot be told.
    fn fits<'a>(&self, value: &Value<'a>, scene: &Scene<'a>) -> Option<bool> {
        match &self.wanted {
            Wanted::Texts { literals, others } if self.operator.test == Test::FoldedText => {
                let given = scene.folded(value);
                if literals.contains(&*given) {
                    return Some(true);
                }
                one_of(others.iter().map(|template| template.text(scene).map(|wanted| folds_to(&wanted, &given))))
            }
            Wanted::Texts { literals, others } => {
                let given = value.text();
                if literals.contains(&*given) {
                    return Some(true);
                }
                one_of(others.iter().map(|template| match self.operator.test {
                    Test::TextPattern => template.fits(&given, scene),
                    _ => template.text(scene).map(|wanted| wanted == given),
                }))
            }
            Wanted::Numbers(how, all) => value.number().map(|given| all.has(*how, &given)),
            Wanted::Moments(how, all) => value.moment().map(|given| all.has(*how, &given)),
            Wanted::Flags(all) => value.flag().map(|given| all.has(Comparison::Equal, &given)),
            Wanted::Bytes(all) => Some(all.contains(value.text().as_bytes())),
            Wanted::Networks(all) => value.address().map(|given| all.iter().any(|network| network.has(given))),
            Wanted::Arns(all) => {
                let text = value.text();
                let mut parts = [""; 6];
                let mut given = text.splitn(6, ':');
                for part in &mut parts {
                    *part = given.next()?;
                }
                if parts[0] != "arn" {
                    return None;
                }
                one_of(all.iter().map(|arn| arn.fits(&parts, scene)))
            }
        }
    }
}

impl Arn {
    fn parse(text: &str, variables: bool) -> Result<Self, Problem> {
        if text == "*" {
            return Ok(Self::Any);
        }
        let wrong =
            || Problem::Value { value: text.to_owned(), expected: "an ARN of six parts with colons between them" };
        let mut rest = text;
        let mut part = |last: bool| {
            let (part, behind) =
                if last { (rest, "") } else { rest.split_at(colon(rest, variables).ok_or_else(wrong)?) };
            rest = behind.strip_prefix(':').unwrap_or(behind);
            Template::parse(part, Syntax { wildcards: true, variables })
        };
        let parts = [part(false)?, part(false)?, part(false)?, part(false)?, part(false)?, part(true)?];
        match parts[0].always_fits("arn") {
            Some(true) => Ok(Self::Parts(parts.into())),
            _ => Err(wrong()),
        }
    }

    fn templates(&self) -> &[Template] {
        match self {
            Self::Any => &[],
            Self::Parts(parts) => &**parts,
        }
    }

    fn fits(&self, given: &[&str; 6], scene: &Scene<'_>) -> Option<bool> {
        let mut told = true;
        for (template, part) in self.templates().iter().zip(given) {
            match template.fits(part, scene) {
                Some(true) => {}
                Some(false) => return Some(false),
                None => told = false,
            }
        }
        told.then_some(true)
    }
}

/// Whether one is true; nothing where none is and one cannot be told.
fn one_of(all: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let mut told = true;
    for one in all {
        match one {
            Some(true) => return Some(true),
            Some(false) => {}
            None => told = false,
        }
    }
    told.then_some(false)
}

fn all<T>(texts: &[&str], read: fn(&str) -> Option<T>, expected: &'static str) -> Result<Box<[T]>, (usize, Problem)> {
    let one = |(index, text): (usize, &&str)| {
        read(text).ok_or_else(|| (index, Problem::Value { value: (*text).to_owned(), expected }))
    };
    texts.iter().enumerate().map(one).collect()
}
