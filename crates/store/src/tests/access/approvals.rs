//! Calls that others have to approve.

use std::num::NonZeroU32;

use super::*;
use crate::access::{ApprovalState, NewApproval, Request, Requested, Vote};
use model::id::ApprovalId;

const LIFE: Duration = Duration::from_secs(3_600);

fn request(of: &PrincipalId) -> Request {
    Request {
        requester: of.clone(),
        operation: "ScheduleKeyDeletion".into(),
        resource: "arn:aws:kms:eu-central-1:111122223333:key/x".into(),
        parameters: [7; 32],
    }
}

fn new(request: &Request, needed: u32) -> NewApproval {
    NewApproval {
        request: request.clone(),
        description: "please".into(),
        life: LIFE,
        needed: NonZeroU32::new(needed).unwrap(),
        most: 2,
    }
}

impl Bench {
    async fn asked(&self, request: &Request, needed: u32) -> ApprovalId {
        let Requested::New(id) = self.store.request_approval(new(request, needed)).await.unwrap() else {
            panic!("it is new")
        };
        id
    }

    async fn voters<const N: usize>(&self) -> [PrincipalId; N] {
        let mut voters = Vec::new();
        for at in 0..N {
            voters.push(self.principal(&format!("voter-{at}")).await);
        }
        voters.try_into().unwrap()
    }
}

#[tokio::test]
async fn enough_who_are_there_have_to_approve_and_nobody_refuse() {
    let bench = Bench::new().await;
    let (store, [requester, one, two, three]) = (&bench.store, bench.voters().await);
    let request = request(&requester);
    let id = bench.asked(&request, 2).await;
    let uses = async || refused(store.use_approval(&id, &request).await);
    let missing = |given| AccessError::NotApproved { approval: id.clone(), given, needed: 2 };
    assert_eq!(uses().await, missing(0));
    assert_eq!(refused(store.vote(&id, &requester, Vote::Approve).await), AccessError::OwnRequest(id.clone()));
    store.vote(&id, &one, Vote::Approve).await.unwrap();
    store.vote(&id, &one, Vote::Approve).await.expect("it has one vote, however often it says so");
    assert_eq!(uses().await, missing(1));
    store.vote(&id, &two, Vote::Refuse).await.unwrap();
    store.vote(&id, &three, Vote::Approve).await.unwrap();
    assert_eq!(uses().await, AccessError::VotedDown(id.clone(), two.clone()));
    store.vote(&id, &two, Vote::Approve).await.expect("it may think again");
    store.vote(&id, &one, Vote::Refuse).await.unwrap();
    store.vote(&id, &one, Vote::Approve).await.unwrap();
    bench.is_whole("votes").await;
    // Whoever is gone has no vote.
    for gone in [&one, &two] {
        store.delete_principal(gone).await.unwrap();
    }
    bench.is_whole("voters are gone").await;
    assert_eq!(uses().await, missing(1));
    assert_eq!(refused(store.vote(&id, &two, Vote::Approve).await), AccessError::NoPrincipal(two));
    let again = bench.principal("voter-1").await;
    store.vote(&id, &again, Vote::Approve).await.unwrap();
    let others = [
        Request { operation: "DisableKey".into(), ..request.clone() },
        Request { resource: "another".into(), ..request.clone() },
        Request { parameters: [8; 32], ..request.clone() },
        Request { requester: three.clone(), ..request.clone() },
    ];
    for other in others {
        assert_eq!(refused(store.use_approval(&id, &other).await), AccessError::OtherRequest(id.clone()));
    }
    store.use_approval(&id, &request).await.unwrap();
    let used = AccessError::ApprovalOver(id.clone(), ApprovalState::Used);
    assert_eq!(uses().await, used);
    assert_eq!(refused(store.vote(&id, &three, Vote::Refuse).await), used);
    assert_eq!(refused(store.refuse_approval(&id).await), used);
    bench.is_whole("used").await;
}

#[tokio::test]
async fn of_many_callers_one_uses_it() {
    let bench = Bench::new().await;
    let (store, [requester, voter]) = (&bench.store, bench.voters().await);
    let request = request(&requester);
    for _ in 0..5 {
        let id = bench.asked(&request, 1).await;
        store.vote(&id, &voter, Vote::Approve).await.unwrap();
        let callers = (0..8).map(|_| {
            let (store, id, request) = (store.clone(), id.clone(), request.clone());
            tokio::spawn(async move { store.use_approval(&id, &request).await })
        });
        let outcomes = futures_util::future::join_all(callers).await;
        assert_eq!(outcomes.iter().filter(|outcome| matches!(outcome, Ok(Ok(())))).count(), 1);
    }
}

#[tokio::test]
async fn the_same_request_waits_once_and_expires() {
    let mut bench = Bench::new().await;
    let [requester, voter] = bench.voters().await;
    let request = request(&requester);
    let id = bench.asked(&request, 1).await;
    let again = bench.store.request_approval(new(&request, 1)).await.unwrap();
    assert_eq!(again, Requested::Existing(id.clone()));
    bench.store.vote(&id, &voter, Vote::Approve).await.unwrap();
    let other = bench.asked(&Request { parameters: [8; 32], ..request.clone() }, 1).await;
    let third = Request { parameters: [9; 32], ..request.clone() };
    assert!(is_quota(bench.store.request_approval(new(&third, 1)).await, AccessQuota::Approvals, 2));
    let by_other = Request { requester: voter.clone(), ..request.clone() };
    bench.asked(&by_other, 1).await;
    // One that was taken back makes room, and is not found again.
    bench.store.refuse_approval(&other).await.unwrap();
    bench.store.refuse_approval(&other).await.expect("it is refused");
    let over = AccessError::ApprovalOver(other.clone(), ApprovalState::Refused);
    assert_eq!(refused(bench.store.vote(&other, &voter, Vote::Approve).await), over);
    bench.asked(&third, 1).await;
    bench.reopen().await;
    assert_eq!(bench.store.catalogue().approvals_of(&requester).count(), 3);
    assert_eq!(bench.store.catalogue().approval(&id).unwrap().given(), 1);

    bench.clock.advance(LIFE - Duration::from_millis(1));
    assert_eq!(bench.store.request_approval(new(&request, 1)).await.unwrap(), Requested::Existing(id.clone()));
    bench.clock.advance(Duration::from_millis(1));
    let expired = AccessError::ApprovalExpired(id.clone());
    assert_eq!(refused(bench.store.use_approval(&id, &request).await), expired);
    assert_eq!(refused(bench.store.vote(&id, &voter, Vote::Refuse).await), expired);
    assert_eq!(bench.store.catalogue().approvals_after(None).count(), 4, "they are cleared on the way");
    let new = bench.asked(&request, 1).await;
    let left: Vec<_> = bench.store.catalogue().approvals_after(None).map(|of| of.id.clone()).collect();
    assert_eq!(left, [new]);
    assert_eq!(refused(bench.store.use_approval(&id, &request).await), AccessError::NoApproval(id));
    bench.is_whole("cleared").await;
}
