//! Decisions that are kept, and grants that are made ready once: they are what would be decided anew.

use std::collections::BTreeSet;

use super::access::{
    HERE, ROOT, arn, attach, attach_as_it_is, bench, by, created, encrypt, grant, is_denied, of_key, principal, put,
    statement,
};
use super::bench::{Bench, context};
use crate::core::access::Said;
use crate::core::authority::{Judge, Subject};
use crate::core::decisions::{Decision, Kept};
use crate::core::granted::Grants;
use crate::core::validate;
use model::id::{KeyId, PrincipalId};
use model::operation::Operation;
use store::Catalogue;
use store::access::{Granted, Holder};

const ENCRYPT: &str = "kms:Encrypt";

/// What is kept of a principal, by its id.
fn kept(bench: &Bench, id: &PrincipalId, key: KeyId) -> Option<Kept> {
    let keyring = bench.service.core.keyring();
    let principal = keyring.catalogue.principal(id).unwrap();
    let kept = keyring.decisions.standing(principal, || panic!("it was looked up before")).kept((key, ENCRYPT))?;
    // Whatever the reason.
    Some(if let Kept::Always(decision, _) = kept { Kept::Always(decision, 0) } else { kept })
}

#[tokio::test]
async fn what_no_condition_makes_another_is_decided_once() {
    let bench = bench().await;
    let when = |effect: &str, condition: &str| {
        format!(
            "{{\"Effect\":\"{effect}\",\"Action\":\"kms:Encrypt\",\"Resource\":\"*\",\"Condition\":{{{condition}}}}}"
        )
    };
    let tenant = "\"StringEquals\":{\"kms:EncryptionContext:tenant\":\"7\"}";
    let always = |decision| Some(Kept::Always(decision, 0));
    for (number, (statements, expected)) in [
        (statement("Allow", ENCRYPT, "*"), always(Decision::Allowed)),
        (statement("Allow", "kms:Decrypt", "*"), always(Decision::Denied)),
        (statement("Deny", ENCRYPT, "*"), always(Decision::DeniedExplicitly)),
        (when("Allow", tenant), Some(Kept::ByRequest)),
        (when("Allow", "\"IpAddress\":{\"aws:SourceIp\":\"10.0.0.0/8\"}"), Some(Kept::ByRequest)),
        (when("Deny", "\"DateLessThan\":{\"aws:CurrentTime\":\"2020-01-01T00:00:00Z\"}"), Some(Kept::ByRequest)),
        (when("Allow", "\"StringEquals\":{\"aws:ResourceTag/team\":\"red\"}"), always(Decision::Denied)),
        // Of another action it may be what it wants.
        (when("Allow", tenant).replace("\"kms:Encrypt\"", "\"kms:Decrypt\""), always(Decision::Denied)),
    ]
    .into_iter()
    .enumerate()
    {
        let (key, name) = (created(&bench).await, format!("p{number}"));
        let id = principal(&bench, HERE, &name).await;
        attach(&bench, &id, &name, &statements).await;
        let first = encrypt(&bench, &name, &key.arn, Some("7")).await.map(drop);
        assert_eq!(kept(&bench, &id, key.id), expected, "{statements}");
        let second = encrypt(&bench, &name, &key.arn, Some("7")).await.map(drop);
        assert_eq!(first.is_ok(), second.is_ok(), "{statements}");
        if expected == Some(Kept::ByRequest) && statements.contains("tenant") {
            assert!(first.is_ok() && is_denied(encrypt(&bench, &name, &key.arn, Some("8")).await));
        }
    }
}

#[tokio::test]
async fn what_a_constraint_of_a_grant_says_is_asked_each_time() {
    let bench = bench().await;
    let (key, other) = (created(&bench).await, created(&bench).await);
    let anna = principal(&bench, HERE, "anna").await;
    grant(&bench, key.id, &anna, &["Encrypt"], Some("7")).await;
    grant(&bench, other.id, &anna, &["Encrypt"], None).await;
    for _ in 0..2 {
        assert!(is_denied(encrypt(&bench, "anna", &key.arn, Some("8")).await));
        encrypt(&bench, "anna", &key.arn, Some("7")).await.unwrap();
        encrypt(&bench, "anna", &other.arn, Some("8")).await.unwrap();
    }
    assert_eq!(kept(&bench, &anna, key.id), Some(Kept::ByRequest));
    assert_eq!(kept(&bench, &anna, other.id), Some(Kept::Always(Decision::Allowed, 0)));
}

/// Asks everything of everybody, and compares it with what is decided anew. Says how many may do what they ask for.
fn compare(bench: &Bench, names: &[&str], keys: &[KeyId]) -> usize {
    let core = &bench.service.core;
    let (keyring, authority) = (core.keyring(), core.authority());
    let mut allowed = 0;
    for name in names {
        let call = by(bench, name);
        let judge = Judge::new(core, &keyring, &authority, &call);
        for operation in [Operation::Encrypt, Operation::Decrypt, Operation::DescribeKey, Operation::CreateGrant] {
            for tenant in ["7", "8"] {
                let said = Said::new(validate::context(context(&[("tenant", tenant)])).unwrap(), "");
                for id in keys.iter().flat_map(|id| [id; 2]) {
                    let text = core.scope().key_arn(*id);
                    let (subject, action) = (Subject::key(&keyring, *id, &text), operation.spec().permission);
                    let now = judge.allows(action, subject, said.parameters());
                    let anew =
                        judge.explained(action, subject, said.parameters(), 0, |verdict, _| verdict.is_allowed());
                    assert_eq!(now.is_ok(), anew.unwrap_or(false), "{name} {operation:?} {tenant} {id}");
                    allowed += usize::from(now.is_ok());
                }
            }
        }
    }
    let anew = Grants::default().next(&Catalogue::default(), &keyring.catalogue);
    assert!(keyring.grants == anew, "grants that are taken over are those of the catalogue");
    allowed
}

#[tokio::test]
async fn whatever_changes_decides_what_it_would_decide_anew() {
    let bench = bench().await;
    let names = ["anna", "bert", "carl"];
    let mut people = Vec::new();
    for name in names {
        people.push(principal(&bench, HERE, name).await);
    }
    let (mut keys, mut grants, mut outcomes) = (Vec::new(), Vec::new(), BTreeSet::new());
    for _ in 0..3 {
        keys.push(created(&bench).await.id);
    }
    let tenant = "{\"Effect\":\"Allow\",\"Action\":\"kms:*crypt\",\"Resource\":\"*\",\"Condition\":{\"StringEquals\":\
                  {\"kms:EncryptionContext:tenant\":\"7\"}}}";
    let red = "{\"Effect\":\"Deny\",\"Action\":\"kms:Encrypt\",\"Resource\":\"*\",\"Condition\":{\"StringEquals\":\
               {\"aws:ResourceTag/team\":\"red\"}}}";
    attach(&bench, &people[0], "tenant", tenant).await;
    attach(&bench, &people[1], "not-red", red).await;
    let admin = by(&bench, "admin");
    for round in 0..60_usize {
        let (person, key) = (round % 3, keys[round / 3 % 3]);
        let (id, holder) = (people[person].clone(), Holder::Principal(people[person].clone()));
        match round * 7 % 10 {
            0 => attach_as_it_is(&bench, &id, "KeyUser", true).await,
            1 => drop(bench.store.detach_policy(&"KeyUser".into(), &holder).await),
            2 | 8 => {
                let constraint = (round % 2 == 0).then_some("7");
                let operations = [&["Encrypt", "CreateGrant"][..], &["Decrypt", "DescribeKey"]][round / 2 % 2];
                grants.push((key, grant(&bench, key, &id, operations, constraint).await));
            }
            3 if !grants.is_empty() => {
                let (key, Granted::New(id) | Granted::Existing(id)) = grants.remove(round % grants.len());
                bench.store.remove_grant(key, &id).await.unwrap();
            }
            4 => {
                let name = arn(HERE, names[person]);
                let own = of_key("Allow", &name, "kms:Encrypt");
                put(&bench, key, &[own, of_key("Allow", ROOT, "kms:*")], &[(&name, &people[person])]).await;
            }
            5 => put(&bench, key, &[of_key("Deny", "*", "kms:DescribeKey"), of_key("Allow", ROOT, "kms:*")], &[]).await,
            6 => {
                let tags = vec![("team".to_owned(), ["red", "blue"][round / 2 % 2].to_owned())];
                bench.service.tag_resource(&admin, &key.to_string(), tags).await.unwrap();
            }
            7 => {
                bench.store.delete_principal(&id).await.unwrap();
                people[person] = principal(&bench, HERE, names[person]).await;
                if person == 0 {
                    attach_as_it_is(&bench, &people[0], "tenant", false).await;
                }
            }
            _ => {
                // A key goes, with its grants.
                let gone = std::mem::replace(&mut keys[round / 3 % 3], created(&bench).await.id);
                bench.store.force_state(gone, model::key::KeyState::Creating).await.unwrap();
                bench.store.abandon_key(gone).await.unwrap();
                grants.retain(|(key, _)| *key != gone);
            }
        }
        outcomes.insert(compare(&bench, &names, &keys));
    }
    assert!(outcomes.len() > 5, "{outcomes:?}");
}
