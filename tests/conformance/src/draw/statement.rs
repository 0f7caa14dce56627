//! How statements are drawn: from numbers, when it is known what is asked, so that a statement is about it more often than
//! not. Zeros give the plainest one, and so a case that fails is made small.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::differences::is_read;
use crate::keys::{Class, ROWS, Row};
use crate::policy::{Condition, Document, Effect, Element, Operator, Reader, Set, Statement, Whom};
use crate::world::{Ask, HERE, MANY, THERE, Thing, Who};

/// So many numbers does a statement take.
pub(super) const DICE: usize = 56;

const ACTIONS: &[&str] = &[
    "kms:*",
    "kms:Decrypt",
    "*",
    "kms:?ncrypt",
    "kms:*crypt",
    "KMS:enCRYPT",
    "kms:Generate*",
    "kms:Re*",
    "kms:*Key*",
    "kms:Describe*",
    "kms:Create*",
    "kms:*Grant*",
    "kms:List*",
    "kms:*Alias",
    "kms:TagResource",
    "s3:*",
];
const RESOURCES: &[&str] = &[
    "*",
    "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab",
    "arn:aws:kms:*:*:key/*",
    "arn:aws:kms:*:111122223333:key/1234*",
    "arn:aws:kms:eu-*-?:*:*",
    "arn:*:kms:*:1111*:key/????abcd-*",
    "arn:aws:kms:us-*:*:key/*",
    "arn:aws:kms:eu-central-1:111122223333:key/99999999-12ab-34cd-56ef-1234567890ab",
    "arn:aws:kms:*:*:alias/app-*",
    "arn:aws:kms:*:*:alias/${aws:PrincipalTag/team}-1",
    "arn:aws:kms:*:*:key/*${aws:PrincipalTag/cost, 'a'}*",
    "arn:aws:kms:*:*:key/${aws:PrincipalTag/team}",
    "arn:aws:kms:*:*:key/${aws:PrincipalTag/team, '1234'}*",
    "arn:aws:kms:*",
    "arn:aws:kms:*:key/1234*",
    "arn:*:key/*ab",
    "arn:aws:k*1:111122223333:key/*",
    "arn:aws:kms:eu*:*:k?y/*",
    "arn:aws:kms:*:*:*/1234*",
];

/// Numbers that were drawn, one after the other. When there are no more, they are zero.
struct Dice<'a> {
    numbers: &'a [u16],
    next: Cell<usize>,
}

impl<'a> Dice<'a> {
    fn number(&self) -> usize {
        let at = self.next.replace(self.next.get() + 1);
        self.numbers.get(at).copied().unwrap_or_default().into()
    }

    /// True so many times of a hundred; false for zero.
    fn percent(&self, percent: usize) -> bool {
        self.number() % 100 >= 100 - percent
    }

    fn pick<T>(&self, all: &'a [T]) -> &'a T {
        &all[self.number() % all.len()]
    }
}

/// A policy of these numbers.
pub(super) fn document(ask: &Ask, (old, statements): &(u8, Vec<Vec<u16>>)) -> Document {
    let keys = ask.condition_keys();
    let one = |numbers: &Vec<u16>| statement(ask, &keys, &Dice { numbers, next: Cell::new(0) });
    Document { variables: *old < 11, statements: statements.iter().map(one).collect() }
}

fn statement(ask: &Ask, keys: &BTreeMap<String, Vec<String>>, dice: &Dice<'_>) -> Statement {
    let effect = if dice.percent(11) { Effect::Deny } else { Effect::Allow };
    let (whom, action, resource) = (whom(ask.who, dice), action(ask, dice), resource(ask, dice));
    // A Deny that has none decides whatever the others say.
    let count = match (effect, dice.number() % 10) {
        (Effect::Allow, 0..=3) | (Effect::Deny, 0) => 0,
        (_, 0..=7) => 1,
        _ => 2,
    };
    let mut seen = BTreeSet::new();
    let known = Reader::Oracle { caller_account: false };
    let mut fresh = |one: &Condition| seen.insert((one.operator.clone(), known.key(&one.key).to_lowercase()));
    let conditions = (0..count).map(|_| condition(keys, dice)).filter(|one| fresh(one)).collect();
    Statement { effect, whom, action, resource, conditions }
}

fn whom(who: Who, dice: &Dice<'_>) -> Whom {
    match dice.number() % 12 {
        0 | 1 => return Whom::Everyone,
        2 => return Whom::EveryoneListed,
        _ => {}
    }
    let one = || match dice.number() % 10 {
        0..=3 => who.arn(),
        4 | 5 => format!("arn:aws:iam::{}:root", who.account()),
        6 => who.account().to_owned(),
        7 => (*dice.pick(&[HERE, THERE])).to_owned(),
        _ => dice.pick(Who::ALL).arn(),
    };
    let not = dice.percent(15);
    let all = (0..=dice.number() % 3).map(|_| one()).collect();
    Whom::These { not, all, service: dice.percent(8) }
}

fn action(ask: &Ask, dice: &Dice<'_>) -> Element {
    let name = ask.action.name;
    let one = |_| match dice.number() % 8 {
        0 | 1 => "kms:*".to_owned(),
        2 => name.to_owned(),
        3 => name.to_uppercase(),
        4 => format!("{}*{}", &name[..5], &name[8..]),
        5 => format!("{}?{}*", &name[..5], &name[6..7]),
        _ => (*dice.pick(ACTIONS)).to_owned(),
    };
    let not = dice.percent(11);
    Element { not, texts: (0..=dice.number() % 3).map(one).collect() }
}

fn resource(ask: &Ask, dice: &Dice<'_>) -> Element {
    let one = |_| match dice.number() % 8 {
        0..=3 => "*".to_owned(),
        4 if ask.action.thing != Thing::Nothing => ask.arn().to_owned(),
        _ => (*dice.pick(RESOURCES)).to_owned(),
    };
    let not = dice.percent(11);
    let count = if not { 0 } else { dice.number() % 2 };
    let mut texts: Vec<_> = (0..=count).map(one).collect();
    if not {
        // All but everything is nothing.
        texts.iter_mut().filter(|text| *text == "*").for_each(|text| (*dice.pick(RESOURCES)).clone_into(text));
    }
    Element { not, texts }
}

/// A row, by weight, among those that are taken.
fn row(number: usize, takes: impl Fn(&Row) -> bool) -> &'static Row {
    let all = || ROWS.iter().filter(|row| takes(row));
    let mut left = number % all().map(|row| row.weight).sum::<usize>().max(1);
    let found = all().find(|row| {
        let here = left < row.weight;
        left = left.saturating_sub(row.weight);
        here
    });
    found.unwrap_or(&ROWS[0])
}

fn condition(keys: &BTreeMap<String, Vec<String>>, dice: &Dice<'_>) -> Condition {
    let absent = dice.percent(15);
    let row = row(dice.number(), |row| absent || keys.contains_key(row.key));
    // Sometimes whether the key is there at all, and sometimes an operator that is not for its values.
    let class = match dice.number() % 25 {
        22 | 23 => Class::Presence,
        24 => *dice.pick(Class::ALL),
        _ => row.class,
    };
    let plain = class == Class::Presence;
    let set = match (MANY.contains(&row.key), dice.number() % 10) {
        _ if plain => Set::No,
        (true, 0..=3) | (false, 8) => Set::ForAll,
        (true, 4..=7) | (false, 9) => Set::ForAny,
        _ => Set::No,
    };
    let base = *dice.pick(class.operators());
    let pool = if class == row.class { row.values } else { class.values() };
    let mut values: BTreeSet<String> = (0..=dice.number() % 2).map(|_| (*dice.pick(pool)).to_owned()).collect();
    // What the request has.
    if dice.percent(50) {
        let given = keys.get(row.key).into_iter().flatten().filter(|value| is_read(class, value) && !plain);
        values.extend(given.take(1 + dice.number() % 3).filter_map(|value| match class {
            Class::Flag => bool_of(value),
            Class::Bytes => Some(STANDARD.encode(value)),
            _ => Some(value.clone()),
        }));
    }
    Condition {
        operator: Operator { set, base, if_exists: dice.percent(18) && !plain },
        key: if dice.percent(10) { row.key.to_uppercase() } else { row.key.to_owned() },
        values: values.into_iter().collect(),
        bare: dice.percent(40),
    }
}

fn bool_of(value: &str) -> Option<String> {
    ["true", "false"].iter().any(|one| one.eq_ignore_ascii_case(value)).then(|| value.to_owned())
}
