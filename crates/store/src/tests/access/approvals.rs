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
        most_in_all: 3,
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

#[tokio::test]
async fn so_many_wait_in_all() {
    let bench = Bench::new().await;
    let [one, two, three] = bench.voters().await;
    let of = |requester: &PrincipalId, parameters| Request { parameters: [parameters; 32], ..request(requester) };
    let mut asked = Vec::new();
    for request in [of(&one, 1), of(&one, 2), of(&two, 1)] {
        asked.push(bench.asked(&request, 1).await);
    }
    let refused = bench.store.request_approval(new(&of(&three, 1), 1)).await;
    assert!(is_quota(refused, AccessQuota::Approvals, 3), "three wait");
    let again = bench.store.request_approval(new(&of(&two, 1), 1)).await.unwrap();
    assert_eq!(again, Requested::Existing(asked.remove(2)), "what waits already is found all the same");
    bench.store.refuse_approval(&asked[0]).await.unwrap();
    bench.asked(&of(&three, 1), 1).await;
}

#[tokio::test]
async fn an_administrator_who_is_no_principal_asks_and_votes_by_name() {
    let mut bench = Bench::new().await;
    let [voter] = bench.voters().await;
    let request = request(&PrincipalId::from("cn:root"));
    let id = bench.asked(&request, 2).await;
    let votes = async |store: &Store, name| store.vote_as_administrator(&id, name, Vote::Approve).await;
    assert_eq!(refused(votes(&bench.store, "cn:root").await), AccessError::OwnRequest(id.clone()));
    votes(&bench.store, "cn:root-2").await.unwrap();
    bench.store.vote(&id, &voter, Vote::Approve).await.unwrap();
    bench.reopen().await;
    let voters: Vec<_> = bench.store.catalogue().approval(&id).unwrap().votes.keys().cloned().collect();
    assert_eq!(voters, [voter.clone(), PrincipalId::from("cn:root-2")]);
    // A principal's vote goes with it, nobody else's.
    bench.store.delete_principal(&voter).await.unwrap();
    bench.is_whole("a principal is gone").await;
    assert_eq!(bench.store.catalogue().approval(&id).unwrap().given(), 1);
}

impl Bench {
    /// Asks for something, and takes it back.
    async fn over(&self, requester: &PrincipalId, parameters: u8) -> ApprovalId {
        self.clock.advance(Duration::from_millis(1));
        let id = self.asked(&Request { parameters: [parameters; 32], ..request(requester) }, 1).await;
        self.store.refuse_approval(&id).await.unwrap();
        id
    }

    fn left<'a>(&self, asked: &'a [ApprovalId]) -> Vec<&'a ApprovalId> {
        asked.iter().filter(|id| self.store.catalogue().approval(id).is_some()).collect()
    }
}

#[tokio::test]
async fn of_those_that_are_over_the_latest_are_kept() {
    let bench = Bench::new().await;
    let requesters: [PrincipalId; 8] = bench.voters().await;
    let mut asked = Vec::new();
    for requester in &requesters {
        asked.push(bench.over(requester, 7).await);
    }
    let latest: Vec<_> = asked[3..].iter().collect();
    assert_eq!(bench.left(&asked), latest, "the last one is not counted before the next is asked for");
    bench.is_whole("the first ones are cleared").await;
}

#[tokio::test]
async fn whoever_asks_and_takes_back_drives_nobody_s_out_of_the_list() {
    let bench = Bench::new().await;
    let [requester, other] = bench.voters().await;
    let of_other = bench.over(&other, 7).await;
    let mut asked = Vec::new();
    for parameters in 0..8 {
        asked.push(bench.over(&requester, parameters).await);
    }
    assert_eq!(bench.left(&asked), asked[5..].iter().collect::<Vec<_>>(), "two, and the last one");
    assert_eq!(bench.left(std::slice::from_ref(&of_other)), [&of_other]);
    bench.is_whole("its own are cleared").await;
}

#[tokio::test]
async fn a_calendar_that_is_set_back_gives_no_more_time() {
    let mut bench = Bench::new().await;
    let [requester, voter] = bench.voters().await;
    let request = request(&requester);
    bench.clock.advance(LIFE);
    let id = bench.asked(&request, 1).await;
    bench.store.vote(&id, &voter, Vote::Approve).await.unwrap();
    // By a minute it may be set right.
    bench.clock = Clock::manual();
    bench.clock.advance(LIFE - Duration::from_secs(60));
    bench.reopen().await;
    assert_eq!(bench.store.request_approval(new(&request, 1)).await.unwrap(), Requested::Existing(id.clone()));
    bench.clock = Clock::manual();
    bench.reopen().await;
    let expired = AccessError::ApprovalExpired(id.clone());
    assert_eq!(refused(bench.store.use_approval(&id, &request).await), expired);
    assert_eq!(refused(bench.store.vote(&id, &voter, Vote::Approve).await), expired);
    // Nor does it stand in the way of the same call.
    let again = bench.asked(&request, 1).await;
    assert_ne!(again, id);
    assert_eq!(refused(bench.store.use_approval(&id, &request).await), AccessError::NoApproval(id));
    bench.is_whole("what was ahead is cleared").await;
}

#[tokio::test]
async fn an_approval_has_so_many_votes() {
    let bench = Bench::new().await;
    let (store, [requester, voters @ ..]): (_, [PrincipalId; 6]) = (&bench.store, bench.voters().await);
    let id = bench.asked(&request(&requester), 1).await;
    for voter in &voters[..4] {
        store.vote(&id, voter, Vote::Approve).await.unwrap();
    }
    assert!(is_quota(store.vote(&id, &voters[4], Vote::Approve).await, AccessQuota::Votes, 4));
    store.vote(&id, &voters[0], Vote::Approve).await.expect("who has one says it again");
    store.vote(&id, &voters[4], Vote::Refuse).await.expect("one against it always counts");
    bench.is_whole("votes").await;
}

#[tokio::test]
async fn who_asked_and_approved_is_known_by_the_names_of_then() {
    let bench = Bench::new().await;
    let (store, [requester, voter, against]) = (&bench.store, bench.voters().await);
    for (of, names) in [(&requester, &["cn:one"][..]), (&voter, &["cn:two", "cn:three"]), (&against, &["cn:four"])] {
        for name in names {
            store.add_identity(of, name, 9).await.unwrap();
        }
    }
    let id = bench.asked(&request(&requester), 1).await;
    store.vote(&id, &voter, Vote::Approve).await.unwrap();
    store.vote(&id, &against, Vote::Refuse).await.unwrap();
    for (of, name) in [(&requester, "cn:one"), (&voter, "cn:two")] {
        store.remove_identity(of, name).await.unwrap();
    }
    store.add_identity(&voter, "cn:five", 9).await.unwrap();
    store.vote(&id, &voter, Vote::Approve).await.unwrap();
    let known = |of: &PrincipalId| {
        let approval = store.catalogue().approval(&id).unwrap().clone();
        approval.identities.get(of).cloned().unwrap_or_default().into_iter().collect::<Vec<_>>()
    };
    assert_eq!(known(&requester), ["cn:one", "cn:voter-0"]);
    assert_eq!(known(&voter), ["cn:five", "cn:three", "cn:two", "cn:voter-1"]);
    assert!(known(&against).is_empty());
    bench.is_whole("names").await;
}

#[tokio::test]
async fn what_waits_for_somebody_who_is_gone_is_over() {
    let bench = Bench::new().await;
    let (store, [requester, voter]) = (&bench.store, bench.voters().await);
    let of = |parameters: u8| Request { parameters: [parameters; 32], ..request(&requester) };
    let used = bench.asked(&of(1), 1).await;
    store.vote(&used, &voter, Vote::Approve).await.unwrap();
    store.use_approval(&used, &of(1)).await.unwrap();
    let waiting = bench.asked(&of(2), 1).await;
    let of_other = bench.asked(&request(&voter), 1).await;
    store.delete_principal(&requester).await.unwrap();
    let state = |id: &ApprovalId| store.catalogue().approval(id).unwrap().state;
    assert_eq!(
        [state(&used), state(&waiting), state(&of_other)],
        [ApprovalState::Used, ApprovalState::Refused, ApprovalState::Waiting]
    );
    bench.is_whole("its requests are over").await;
}
