//! A catalogue that follows the log, however far behind, shows what one shows that was read as a whole.

use proptest::prelude::*;

use super::*;
use crate::access::{NewAccessKey, NewApproval, Request, Requested, Vote};
use crate::{Catalogue, follow, load};
use model::id::AccessKeyId;
use std::num::NonZeroU32;

/// A change, of things by their numbers; many of them are refused.
#[derive(Clone, Debug)]
enum Act {
    Create(u8),
    Delete(u8),
    AddIdentity(u8, u8),
    RemoveIdentity(u8, u8),
    NewAccessKey(u8),
    SwitchAccessKey(u8, bool),
    DeleteAccessKey(u8),
    Group(u8, bool),
    Member(u8, u8, bool),
    Policy(u8, u8, bool),
    Attach(u8, u8, bool),
    KeyPolicy(u8, u8),
    Grant(u8, u8, u8),
    Revoke(u8),
    DeleteKey(u8),
    Ask(u8, u8),
    Vote(u8, bool),
    Use(u8),
    Follow,
}

fn act() -> impl Strategy<Value = Act> {
    let (few, some) = (0..3_u8, 0..4_u8);
    prop_oneof![
        4 => some.clone().prop_map(Act::Create),
        1 => some.clone().prop_map(Act::Delete),
        2 => (some.clone(), some.clone()).prop_map(|(of, name)| Act::AddIdentity(of, name)),
        2 => (some.clone(), some.clone()).prop_map(|(of, name)| Act::RemoveIdentity(of, name)),
        2 => some.clone().prop_map(Act::NewAccessKey),
        1 => (some.clone(), any::<bool>()).prop_map(|(of, active)| Act::SwitchAccessKey(of, active)),
        1 => some.clone().prop_map(Act::DeleteAccessKey),
        2 => (few.clone(), any::<bool>()).prop_map(|(of, there)| Act::Group(of, there)),
        3 => (few.clone(), some.clone(), any::<bool>()).prop_map(|(of, who, there)| Act::Member(of, who, there)),
        2 => (few.clone(), some.clone(), any::<bool>()).prop_map(|(of, who, there)| Act::Policy(of, who, there)),
        3 => (few.clone(), 0..7_u8, any::<bool>()).prop_map(|(of, who, there)| Act::Attach(of, who, there)),
        2 => (few.clone(), some.clone()).prop_map(|(of, who)| Act::KeyPolicy(of, who)),
        5 => (few.clone(), some.clone(), some.clone()).prop_map(|(of, who, by)| Act::Grant(of, who, by)),
        2 => few.clone().prop_map(Act::Revoke),
        1 => few.clone().prop_map(Act::DeleteKey),
        2 => (some.clone(), few.clone()).prop_map(|(who, what)| Act::Ask(who, what)),
        2 => (some.clone(), any::<bool>()).prop_map(|(who, vote)| Act::Vote(who, vote)),
        1 => few.prop_map(Act::Use),
        2 => Just(Act::Follow),
    ]
}

struct Played {
    bench: Bench,
    keys: Vec<KeyId>,
    followed: Catalogue,
    /// Views of before, each with what has changed since it, and whether that was access.
    views: Vec<(Arc<Catalogue>, BTreeSet<KeyId>, bool)>,
}

impl Played {
    async fn new() -> Self {
        let bench = Bench::new().await;
        let mut keys = Vec::new();
        for _ in 0..3 {
            keys.push(bench.new_key().await.key);
        }
        let followed = load::catalogue(&mut copy::open(&bench.file()).await.unwrap()).await.unwrap();
        Self { bench, keys, followed, views: Vec::new() }
    }

    fn id(&self, of: u8) -> PrincipalId {
        let known = self.bench.store.catalogue().principal_with_arn(&arn(&of.to_string())).map(|of| of.id.clone());
        known.unwrap_or_else(|| PrincipalId::from("AIDAGONE"))
    }

    fn access_key(&self, of: u8) -> AccessKeyId {
        let catalogue = self.bench.store.catalogue();
        let known = catalogue.principal(&self.id(of)).and_then(|of| of.access_keys.last().map(|key| key.id.clone()));
        known.unwrap_or_else(|| AccessKeyId::from("AKKSGONE"))
    }

    fn holder(&self, of: u8) -> Holder {
        if of < 4 { Holder::Principal(self.id(of)) } else { Holder::Group(group(&(of - 4).to_string())) }
    }

    /// Carries an act out, which may be refused; the keys that it has changed, and whether it has changed access.
    async fn play(&self, act: &Act) -> (Result<(), Error>, Option<KeyId>, bool) {
        let store = &self.bench.store;
        let named = |who: u8| -> BTreeMap<_, _> { [(arn(&who.to_string()), self.id(who))].into() };
        let text = |of: &u8| of.to_string();
        match act {
            Act::Create(of) => {
                let new = NewPrincipal { identities: [cn(&text(of))].into(), ..NewPrincipal::new(&arn(&text(of))) };
                (store.create_principal(new).await.map(drop), None, true)
            }
            Act::Delete(of) => (store.delete_principal(&self.id(*of)).await, None, true),
            Act::AddIdentity(of, name) => (store.add_identity(&self.id(*of), &cn(&text(name)), 3).await, None, true),
            Act::RemoveIdentity(of, name) => (store.remove_identity(&self.id(*of), &cn(&text(name))).await, None, true),
            Act::NewAccessKey(of) => {
                let (principal, id) = (self.id(*of), AccessKeyId::random());
                let new = NewAccessKey { id, principal, sealed: b"sealed".as_slice().into(), most: 2 };
                (store.create_access_key(new).await, None, true)
            }
            Act::SwitchAccessKey(of, active) => {
                (store.switch_access_key(&self.id(*of), &self.access_key(*of), *active).await, None, true)
            }
            Act::DeleteAccessKey(of) => {
                (store.delete_access_key(&self.id(*of), &self.access_key(*of)).await, None, true)
            }
            Act::Group(of, true) => (store.create_group(&group(&text(of)), MANY).await, None, true),
            Act::Group(of, false) => (store.delete_group(&group(&text(of))).await, None, true),
            Act::Member(of, who, true) => (store.add_member(&group(&text(of)), &self.id(*who), MANY).await, None, true),
            Act::Member(of, who, false) => (store.remove_member(&group(&text(of)), &self.id(*who)).await, None, true),
            Act::Policy(of, who, true) => {
                let new = NewPolicy { names: named(*who), ..NewPolicy::new(&policy(&text(of)), "{}") };
                (store.put_policy(new).await, None, true)
            }
            Act::Policy(of, _, false) => (store.delete_policy(&policy(&text(of))).await, None, true),
            Act::Attach(of, who, true) => (self.bench.attach(&text(of), &self.holder(*who), 2).await, None, true),
            Act::Attach(of, who, false) => {
                (store.detach_policy(&policy(&text(of)), &self.holder(*who)).await, None, true)
            }
            Act::KeyPolicy(of, who) => {
                let (key, new) =
                    (self.keys[usize::from(*of)], NewKeyPolicy { document: "{}".into(), names: named(*who) });
                (store.put_key_policy(key, new, LIVING).await, Some(key), false)
            }
            Act::Grant(of, who, by) => {
                let new = grant(self.keys[usize::from(*of)], &self.id(*who), "");
                let new = NewGrant { retiring: Some(self.id(*by)), ..new };
                (store.create_grant(new, admits(MANY)).await.map(drop), None, true)
            }
            Act::Revoke(of) => {
                let key = self.keys[usize::from(*of)];
                let first = store.catalogue().grants_after(key, None).next().map(|grant| grant.id.clone());
                match first {
                    Some(id) => (store.remove_grant(key, &id).await, None, true),
                    None => (Ok(()), None, false),
                }
            }
            Act::DeleteKey(of) => {
                let key = self.keys[usize::from(*of)];
                (store.abandon_key(key).await, Some(key), false)
            }
            Act::Ask(who, what) => {
                let new = NewApproval {
                    request: self.request(*who, *what),
                    description: String::new(),
                    life: Duration::from_secs(9),
                    needed: NonZeroU32::MIN,
                    most: 9,
                    most_in_all: 9,
                };
                let asked = store.request_approval(new).await;
                (asked.map(|(Requested::New(_) | Requested::Existing(_))| ()), None, false)
            }
            Act::Vote(who, approves) => {
                let Some(asked) = store.catalogue().approvals_after(None).next().map(|of| of.id.clone()) else {
                    return (Ok(()), None, false);
                };
                let vote = if *approves { Vote::Approve } else { Vote::Refuse };
                (store.vote(&asked, &self.id(*who), vote).await, None, false)
            }
            Act::Use(of) => {
                let Some(asked) = store.catalogue().approvals_after(None).nth(usize::from(*of)).cloned() else {
                    return (Ok(()), None, false);
                };
                (store.use_approval(&asked.id, &asked.request).await, None, false)
            }
            Act::Follow => (Ok(()), None, false),
        }
    }

    fn request(&self, who: u8, what: u8) -> Request {
        Request {
            requester: self.id(who),
            operation: "DisableKey".into(),
            resource: String::new(),
            parameters: [what; 32],
        }
    }

    async fn step(&mut self, act: &Act) {
        let before = self.bench.store.catalogue();
        self.views.push((Arc::clone(&before), BTreeSet::new(), false));
        let (outcome, key, access) = self.play(act).await;
        let now = self.bench.store.catalogue();
        if outcome.is_err() {
            assert_eq!(now.position(), before.position(), "{act:?}: {outcome:?}");
        } else if now.position() != before.position() {
            for (_, keys, was) in &mut self.views {
                keys.extend(key);
                *was |= access;
            }
        }
        if matches!(act, Act::Follow) {
            let mut database = copy::open(&self.bench.file()).await.unwrap();
            if let Some(next) = follow::follow(&mut database, &self.followed).await.unwrap() {
                self.followed = next;
            }
            assert_eq!(format!("{:?}", self.followed), format!("{now:?}"), "whoever follows");
            self.bench.is_whole("whoever reads everything").await;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn whoever_follows_sees_what_whoever_reads_everything_sees(acts in prop::collection::vec(act(), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let mut played = Played::new().await;
            for act in acts.iter().chain([&Act::Follow]) {
                played.step(act).await;
            }
            let now = played.bench.store.catalogue();
            for (view, keys, access) in &played.views {
                assert_eq!(now.keys_changed_since(view).as_ref(), Some(keys));
                assert_eq!(now.access_changed_since(view), *access);
            }
            assert!(now.access_changed_since(&Catalogue::default()), "of what is not known");
        });
    }
}
