//! How cases are drawn. Every part of a case is likely to fit the others, so that about half of the requests are allowed,
//! and a single condition decides often.

mod statement;

use std::collections::BTreeMap;

use auth::grant::GrantOperation;
use proptest::collection::vec;
use proptest::option::{of, weighted};
use proptest::prelude::{Strategy, any, prop_oneof};
use proptest::sample::{Index, select};

use crate::case::Case;
use crate::world::{ACTIONS, Action, Ask, Grant, Who};

/// A case.
pub(crate) fn case() -> impl Strategy<Value = Case> {
    let key = weighted(0.97, document(5));
    let own = prop_oneof![1 => vec(document(1), 0..1), 5 => vec(document(4), 1..3)];
    (ask(), key, own).prop_map(|(ask, key, own)| {
        let key = key.map(|drawn| statement::document(&ask, &drawn));
        let own = own.iter().map(|drawn| statement::document(&ask, drawn)).collect();
        Case { ask, key, own }
    })
}

/// What a policy is made of when it is known what is asked.
fn document(most: usize) -> impl Strategy<Value = (u8, Vec<Vec<u16>>)> {
    (0..12_u8, vec(vec(any::<u16>(), statement::DICE), 1..=most))
}

fn one_of<T: Clone + std::fmt::Debug + 'static>(all: &'static [T]) -> impl Strategy<Value = T> {
    select(all)
}

fn who() -> impl Strategy<Value = Who> {
    prop_oneof![
        7 => one_of(&[Who::Anna]),
        2 => one_of(&[Who::Bert]),
        2 => one_of(&[Who::Root]),
        3 => one_of(&[Who::Carla]),
        1 => one_of(&[Who::OtherRoot]),
    ]
}

fn action() -> impl Strategy<Value = &'static Action> {
    // Those that use keys are asked for more often: they have an encryption context.
    (any::<Index>(), 0..3_u8).prop_map(|(at, often)| {
        let among = if often == 0 { ACTIONS } else { &ACTIONS[..6] };
        at.get(among)
    })
}

/// Pairs of these names, each with one of its values, or absent.
fn pairs(names: &'static [(&'static str, &'static [&'static str])]) -> impl Strategy<Value = BTreeMap<String, String>> {
    vec((0..10_u8, any::<Index>()), names.len()).prop_map(|drawn| {
        let pair = |((name, values), (there, at)): (&(&str, &[&str]), (u8, Index))| {
            (there < 6).then(|| ((*name).to_owned(), (*at.get(values)).to_owned()))
        };
        names.iter().zip(drawn).filter_map(pair).collect()
    })
}

const TEAMS: &[&str] = &["red", "red", "Red", "blue", "*", "r*d", "", "${aws:username}", "anna"];
const CONTEXT: &[(&str, &[&str])] = &[
    ("tenant", &["7", "7", "8", "Blue", "blue", "red", "*", ""]),
    ("user", &["anna", "bert", "carla"]),
    ("app", &["red", "Red", "anna", "$"]),
    ("level", &["7", "12", "30", "30.5", "-3", "x", "7x", ""]),
    ("flag", &["true", "false", "TRUE", "yes"]),
    ("host", &["10.1.2.3", "10.200.0.1", "192.168.0.1", "2001:db8::1", "2001:db9::1", "nowhere"]),
    ("arn", &["arn:aws:s3:::red/1", "arn:aws:iam::111122223333:user/anna", "arn:aws:iam::999900001111:root", "red"]),
];
const PRINCIPAL_TAGS: &[(&str, &[&str])] = &[("team", TEAMS), ("cost", &["7", "red", ""])];
const KEY_TAGS: &[(&str, &[&str])] =
    &[("team", TEAMS), ("until", &["2026-12-01T00:00:00Z", "2026-11-29", "1796083200", "1795953600", "soon"])];
const REQUEST_TAGS: &[(&str, &[&str])] = &[("team", TEAMS), ("stage", &["test"]), ("cost-center", &["7"])];
const ADDRESSES: &[&str] =
    &["10.1.2.3", "10.1.2.3", "10.200.0.1", "::ffff:10.1.2.3", "192.168.7.7", "2001:db8::1", "2001:db9::1"];
const ALIASES: &[&str] = &["alias/app-1", "alias/other", "alias/red"];
const NOW: &[(u64, &str)] = &[
    (1_795_953_600, "2026-11-29T12:00:00Z"),
    (1_796_083_200, "2026-12-01T00:00:00Z"),
    (1_767_225_599, "2025-12-31T23:59:59Z"),
];

fn ask() -> impl Strategy<Value = Ask> {
    let tags = (pairs(PRINCIPAL_TAGS), pairs(KEY_TAGS), pairs(REQUEST_TAGS));
    let circumstances = (
        weighted(0.8, one_of(ADDRESSES)),
        of(one_of(&["keystorectl/1.0", "aws-cli/2.0"])),
        one_of(&["grpc", "grpc", "aws"]),
        weighted_flag(),
        one_of(NOW),
    );
    let grant = (proptest::sample::subsequence(&GrantOperation::ALL[..4], 1..4), who(), of(who()), of(any::<bool>()));
    let rest =
        (proptest::sample::subsequence(ALIASES, 0..=3), any::<bool>(), one_of(&[7, 12, 30, 90]), of(any::<bool>()));
    (who(), action(), pairs(CONTEXT), tags, circumstances, grant, rest).prop_map(
        |(who, action, context, tags, circumstances, grant, rest)| Ask {
            who,
            action,
            context,
            principal_tags: tags.0,
            key_tags: tags.1,
            request_tags: tags.2,
            aliases: rest.0.into_iter().map(str::to_owned).collect(),
            by_alias: rest.1,
            address: circumstances.0,
            agent: circumstances.1,
            interface: circumstances.2,
            secure: circumstances.3,
            now: circumstances.4,
            grant: Grant { operations: grant.0, grantee: grant.1, retiring: grant.2, equals: grant.3 },
            days: rest.2,
            flag: rest.3,
        },
    )
}

fn weighted_flag() -> impl Strategy<Value = bool> {
    (0..4_u8).prop_map(|one| one > 0)
}
