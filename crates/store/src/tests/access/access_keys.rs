//! Access keys: whose they are, what they count for, and when they were used.

use super::*;
use crate::access::{AccessKey, LastAccess, NewAccessKey};
use bytes::Bytes;
use model::id::AccessKeyId;

fn used(at: i64, service: &str) -> LastAccess {
    LastAccess { at, service: service.to_owned() }
}

impl Bench {
    /// A further access key of a principal.
    pub(super) async fn access_key(&self, of: &PrincipalId, most: usize) -> Result<AccessKeyId, Error> {
        let id = AccessKeyId::random();
        let sealed = Bytes::from(format!("sealed {id}"));
        let new = NewAccessKey { id: id.clone(), principal: of.clone(), sealed, most };
        self.store.create_access_key(new).await.map(|()| id)
    }

    /// As whom calls are made that are signed with it.
    fn signs_as(&self, id: &AccessKeyId) -> Option<PrincipalId> {
        self.store.catalogue().principal_known_as(&id.identity()).map(|found| found.id.clone())
    }

    fn access_keys_of(&self, of: &PrincipalId) -> Vec<AccessKey> {
        self.store.catalogue().principal(of).map(|found| found.access_keys.clone()).unwrap_or_default()
    }
}

#[tokio::test]
async fn an_access_key_is_one_principal_s_while_it_is_active() {
    let mut bench = Bench::new().await;
    let (one, other) = (bench.principal("one").await, bench.principal("other").await);
    bench.clock.advance(Duration::from_millis(7));
    let id = bench.access_key(&one, 2).await.unwrap();
    bench.reopen().await;
    let expected = AccessKey { id: id.clone(), active: true, sealed: format!("sealed {id}").into(), created_at: 7 };
    assert_eq!(bench.access_keys_of(&one), [expected]);
    assert_eq!(bench.signs_as(&id), Some(one.clone()));
    assert!(bench.store.catalogue().principal_known_as(id.as_str()).is_none(), "its id alone is nobody's name");

    let store = &bench.store;
    let not_its = AccessError::NoAccessKey(other.clone(), id.clone());
    assert_eq!(refused(store.switch_access_key(&other, &id, false).await), not_its);
    assert_eq!(refused(store.delete_access_key(&other, &id).await), not_its);
    let before = store.revision();
    store.switch_access_key(&one, &id, true).await.expect("it is so");
    assert_eq!(store.revision(), before);
    store.switch_access_key(&one, &id, false).await.unwrap();
    assert_eq!(bench.signs_as(&id), None);
    assert!(!bench.access_keys_of(&one)[0].active);
    store.switch_access_key(&one, &id, true).await.unwrap();
    assert_eq!(bench.signs_as(&id), Some(one.clone()));

    // A second one, with which the first is replaced, and no third one.
    let second = bench.access_key(&one, 2).await.unwrap();
    assert!(is_quota(bench.access_key(&one, 2).await, AccessQuota::AccessKeys, 2));
    store.delete_access_key(&one, &id).await.unwrap();
    assert_eq!(refused(store.delete_access_key(&one, &id).await), AccessError::NoAccessKey(one.clone(), id.clone()));
    assert_eq!((bench.signs_as(&id), bench.signs_as(&second)), (None, Some(one.clone())));
    bench.is_whole("with one of two").await;

    // They go with their principal, in one change.
    let before = store.revision();
    store.delete_principal(&one).await.unwrap();
    assert_eq!((store.revision(), bench.signs_as(&second)), (before + 1, None));
    bench.is_whole("without the principal").await;
    bench.reopen().await;
    assert_eq!(bench.signs_as(&second), None);
    let gone = AccessError::NoPrincipal(one.clone());
    assert_eq!(refused(bench.access_key(&one, 2).await), gone);
    assert_eq!(refused(bench.store.switch_access_key(&one, &second, true).await), gone);
}

#[tokio::test]
async fn secrets_are_sealed_anew_all_or_none_and_not_shown() {
    let bench = Bench::new().await;
    let (one, other) = (bench.principal("one").await, bench.principal("other").await);
    let (first, second) = (bench.access_key(&one, 2).await.unwrap(), bench.access_key(&other, 2).await.unwrap());
    assert!(!format!("{:?}", bench.store.catalogue()).contains("sealed AKKS"));
    let last = first.clone().max(second.clone());
    let refused = bench.store.reseal_access_keys(move |id, _, sealed| match *id == last {
        true => Err("another key".to_owned()),
        false => Ok(Bytes::copy_from_slice(&sealed[1..])),
    });
    let why = refused.await.unwrap_err().to_string();
    assert!(why.contains("access key AKKS") && why.ends_with("another key"), "{why}");
    assert_eq!(bench.access_keys_of(&one)[0].sealed, format!("sealed {first}"));
    let anew = bench
        .store
        .reseal_access_keys(|id, of, sealed| Ok(format!("{} {id} {of}", String::from_utf8_lossy(sealed)).into()));
    assert_eq!(anew.await.unwrap(), 2);
    for (of, id) in [(&one, &first), (&other, &second)] {
        assert_eq!(bench.access_keys_of(of)[0].sealed, format!("sealed {id} {id} {of}"), "told whose it is");
    }
    bench.is_whole("sealed anew").await;
}

#[tokio::test]
async fn the_last_use_of_each_access_key_is_kept_and_none_of_those_that_are_gone() {
    let bench = Bench::new().await;
    let mut ids = Vec::new();
    for number in 0..70 {
        let of = bench.principal(&format!("p{number}")).await;
        ids.push((bench.access_key(&of, 2).await.unwrap(), of));
    }
    let uses: Vec<_> = ids
        .iter()
        .zip(100..)
        .flat_map(|((id, _), at)| [(id.clone(), used(at, "kms")), (AccessKeyId::random(), used(at, "kms"))])
        .collect();
    let before = bench.store.revision();
    bench.store.note_access(&uses).await.unwrap();
    assert_eq!(bench.store.revision(), before, "the catalogue does not show it");
    let (first, second) = (&ids[0], &ids[1]);
    bench.clock.advance(Duration::from_secs(1));
    let told = [(first.0.clone(), used(500, "sts")), (second.0.clone(), used(1, "sts"))];
    bench.store.note_access(&told).await.unwrap();
    bench.store.delete_access_key(&ids[2].1, &ids[2].0).await.unwrap();
    let known = bench.store.access_known().await.unwrap();
    assert_eq!(known.len(), 69);
    assert_eq!(known[&first.0], used(500, "sts"));
    assert_eq!(known[&second.0], used(101, "kms"), "an earlier one changes nothing");
    bench.clock.set_back(Duration::from_millis(900));
    bench.store.note_access(&[(second.0.clone(), used(50, "sts"))]).await.unwrap();
    let known = bench.store.access_known().await.unwrap();
    assert_eq!(known[&second.0], used(50, "sts"), "what was noted by a clock that was ahead gives way");
}
