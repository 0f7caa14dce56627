//! Aliases, tags, descriptions and how many there may be of them.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::Admits;
use model::id::AliasName;

const LIVING: &[KeyState] = &[KeyState::Creating, KeyState::Enabled, KeyState::Disabled];

fn admits(most: usize) -> Admits {
    Admits { states: LIVING, most }
}

fn alias(name: &str) -> AliasName {
    AliasName::parse(&format!("alias/{name}")).unwrap()
}

fn tags<const N: usize>(tags: [(&str, &str); N]) -> BTreeMap<String, String> {
    tags.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

impl Bench {
    /// What the catalogue says of an alias: whose it is, since when there is one, and since when it is this key's.
    fn shown(&self, name: &AliasName) -> Option<(KeyId, i64, i64)> {
        let catalogue = self.store.catalogue();
        let key = catalogue.key_with_alias(name)?;
        let alias = key.aliases.iter().find(|alias| alias.name == *name).expect("the index and the key agree");
        Some((key.id, alias.created_at, alias.updated_at))
    }
}

#[tokio::test]
async fn an_alias_is_one_key_s_and_moves_in_one_step() {
    let mut bench = Bench::new().await;
    let (one, other) = (bench.new_key().await.key, bench.new_key().await.key);
    let (name, unknown) = (alias("payroll"), alias("none"));
    bench.clock.advance(Duration::from_millis(5));
    bench.store.create_alias(&name, one, admits(50), None).await.unwrap();
    assert_eq!(bench.shown(&name), Some((one, 5, 5)));
    for key in [one, other] {
        let again = bench.store.create_alias(&name, key, admits(50), None).await;
        assert!(matches!(&again, Err(Error::AliasInUse(named)) if *named == name), "{again:?}");
    }
    bench.clock.advance(Duration::from_millis(2));
    let before = bench.store.revision();
    bench.store.move_alias(&name, one, other, admits(50)).await.unwrap();
    assert_eq!((bench.store.revision(), bench.shown(&name)), (before + 1, Some((other, 5, 7))));
    assert!(bench.store.catalogue().key(one).unwrap().aliases.is_empty());
    // Whoever decided by what was there before has to look again.
    let stale = bench.store.move_alias(&name, one, one, admits(50)).await;
    assert!(matches!(stale, Err(Error::AliasMoved(_))), "{stale:?}");
    let stale = bench.store.remove_alias(&name, one).await;
    assert!(matches!(stale, Err(Error::AliasMoved(_))), "{stale:?}");
    let none = bench.store.move_alias(&unknown, one, other, admits(50)).await;
    assert!(matches!(none, Err(Error::NoAlias(_))), "{none:?}");
    assert!(matches!(bench.store.remove_alias(&unknown, one).await, Err(Error::NoAlias(_))));
    let shown = format!("{:?}", bench.store.catalogue());
    bench.reopen().await;
    assert_eq!(format!("{:?}", bench.store.catalogue()), shown);
    bench.store.remove_alias(&name, other).await.unwrap();
    assert_eq!(bench.shown(&name), None);
    bench.store.create_alias(&name, one, admits(50), None).await.unwrap();

    // With its key the alias is gone.
    bench.store.abandon_key(one).await.unwrap();
    assert_eq!(bench.shown(&name), None);
    bench.store.create_alias(&name, other, admits(50), None).await.unwrap();
    assert_eq!(bench.shown(&name).map(|(key, ..)| key), Some(other));
}

#[tokio::test]
async fn a_key_has_so_many_aliases_and_no_more() {
    let bench = Bench::new().await;
    let (one, other) = (bench.new_key().await.key, bench.new_key().await.key);
    for number in 0..3 {
        bench.store.create_alias(&alias(&format!("a{number}")), one, admits(3), None).await.unwrap();
    }
    let past = bench.store.create_alias(&alias("past"), one, admits(3), None).await;
    assert!(matches!(past, Err(Error::TooManyAliases(key, 3)) if key == one), "{past:?}");
    bench.store.create_alias(&alias("b"), other, admits(3), None).await.unwrap();
    let past = bench.store.move_alias(&alias("b"), other, one, admits(3)).await;
    assert!(matches!(past, Err(Error::TooManyAliases(..))), "{past:?}");
    bench.store.move_alias(&alias("a0"), one, one, admits(3)).await.expect("it has that one");
    bench.store.move_alias(&alias("a0"), one, other, admits(3)).await.unwrap();
    bench.store.move_alias(&alias("b"), other, one, admits(3)).await.unwrap();
}

#[tokio::test]
async fn a_client_token_makes_an_alias_once() {
    let bench = Bench::new().await;
    let (key, name) = (bench.new_key().await.key, alias("payroll"));
    let of = |parameters| ClientToken { operation: "CreateAlias", ..token("t", parameters) };
    bench.store.create_alias(&name, key, admits(50), Some(&of(1))).await.unwrap();
    let before = bench.store.revision();
    bench.store.create_alias(&name, key, admits(50), Some(&of(1))).await.expect("the answer was lost");
    assert_eq!(bench.store.revision(), before);
    let other = bench.store.create_alias(&alias("other"), key, admits(50), Some(&of(2))).await;
    assert!(matches!(other, Err(Error::TokenConflict)), "{other:?}");
    // A token of another operation is another one, and one that failed makes nothing known.
    assert!(matches!(bench.begin(Some(&token("t", 1))).await.unwrap(), Begun::New(_)));
    let taken =
        bench.store.create_alias(&name, key, admits(50), Some(&ClientToken { token: "u".into(), ..of(1) })).await;
    assert!(matches!(taken, Err(Error::AliasInUse(_))), "{taken:?}");
    // What was taken away since does not come back by a call that comes late.
    bench.store.remove_alias(&name, key).await.unwrap();
    bench.store.create_alias(&name, key, admits(50), Some(&of(1))).await.unwrap();
    assert_eq!(bench.shown(&name), None);
    bench.clock.advance(CLIENT_TOKEN_LIFE);
    bench.store.create_alias(&name, key, admits(50), Some(&of(1))).await.unwrap();
    assert_eq!(bench.shown(&name).map(|(key, ..)| key), Some(key));
}

#[tokio::test]
async fn a_key_has_so_many_tags_and_no_more() {
    let mut bench = Bench::new().await;
    let key = bench.new_key().await.key;
    let of = |bench: &Bench| bench.store.catalogue().key(key).unwrap().tags.clone();
    bench.store.set_tags(key, &tags([("a", "1"), ("b", "")]), admits(3)).await.unwrap();
    bench.store.set_tags(key, &tags([("b", "2"), ("c", "3")]), admits(3)).await.unwrap();
    let all = tags([("a", "1"), ("b", "2"), ("c", "3")]);
    assert_eq!(of(&bench), all);
    let past = bench.store.set_tags(key, &tags([("a", "4"), ("d", "4")]), admits(3)).await;
    assert!(matches!(past, Err(Error::TooManyTags(3))), "{past:?}");
    assert_eq!(of(&bench), all, "wholly or not at all");
    bench.store.set_tags(key, &tags([("A", "5")]), admits(4)).await.expect("names differ by case");
    bench.store.set_tags(key, &tags([("A", "6")]), admits(2)).await.expect("of what it has it may have more");
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    bench.store.remove_tags(key, &names(&["b", "none"]), LIVING).await.unwrap();
    bench.store.remove_tags(key, &names(&["none"]), LIVING).await.unwrap();
    bench.store.set_description(key, "for payroll", LIVING).await.unwrap();
    assert_eq!(of(&bench), tags([("A", "6"), ("a", "1"), ("c", "3")]));
    bench.reopen().await;
    assert_eq!(of(&bench), tags([("A", "6"), ("a", "1"), ("c", "3")]));
    assert_eq!(bench.store.catalogue().key(key).unwrap().description, "for payroll");
}

#[tokio::test]
async fn what_waits_for_deletion_has_its_names_and_gets_none() {
    let bench = Bench::new().await;
    let (key, other, store) = (bench.new_key().await.key, bench.new_key().await.key, &bench.store);
    store.create_alias(&alias("a"), key, admits(50), None).await.unwrap();
    store.create_alias(&alias("b"), other, admits(50), None).await.unwrap();
    store.force_state(key, KeyState::PendingDeletion).await.unwrap();
    let before = store.revision();
    for refused in [
        store.create_alias(&alias("c"), key, admits(50), None).await,
        store.move_alias(&alias("b"), other, key, admits(50)).await,
        store.set_tags(key, &tags([("a", "1")]), admits(50)).await,
        store.remove_tags(key, &BTreeSet::new(), LIVING).await,
        store.set_description(key, "", LIVING).await,
    ] {
        let is_pending = |of: &KeyId, state: &KeyState| *of == key && *state == KeyState::PendingDeletion;
        assert!(matches!(&refused, Err(Error::KeyState(of, state)) if is_pending(of, state)), "{refused:?}");
    }
    assert_eq!(store.revision(), before);
    store.move_alias(&alias("a"), key, other, admits(50)).await.unwrap();
    store.remove_alias(&alias("a"), other).await.unwrap();
}

#[tokio::test]
async fn a_key_store_has_so_many_keys_and_no_more() {
    let bench = Bench::new().await;
    let elsewhere = bench.store.connected_key_store("other", &ClusterId::from("cluster-zzzzzzzzzzz")).await;
    let begin = |of: &KeyStoreId, token: Option<ClientToken>| {
        let new = NewKey { most: 2, tags: tags([("a", "1")]), ..NewKey::new(of, &hsms()) };
        let store = bench.store.clone();
        async move { store.begin_key(new, token.as_ref()).await }
    };
    let Begun::New(first) = begin(&bench.key_store, Some(token("t", 1))).await.unwrap() else { panic!("it is new") };
    assert_eq!(bench.store.catalogue().key(first).unwrap().tags, tags([("a", "1")]));
    // At once: between counting and making nobody comes.
    let made = futures_util::future::join_all((0..4).map(|_| begin(&bench.key_store, None))).await;
    assert_eq!(made.iter().filter(|made| made.is_ok()).count(), 1);
    assert!(made.iter().flat_map(|made| made.as_ref().err()).all(|error| matches!(error, Error::TooManyKeys(_, 2))));
    assert_eq!(bench.store.catalogue().key_count_of(&bench.key_store), 2);
    assert_eq!(begin(&bench.key_store, Some(token("t", 1))).await.unwrap(), Begun::Existing(first));
    begin(&elsewhere, None).await.expect("another key store's are not counted");
    // In whatever state they are: each is in the HSMs until it is gone.
    bench.store.force_state(first, KeyState::PendingDeletion).await.unwrap();
    assert!(matches!(begin(&bench.key_store, None).await, Err(Error::TooManyKeys(..))));
}
