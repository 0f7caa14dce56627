//! How many could approve a call is told, whoever asks how often, at a cost that has a bound: counted in principals who are
//! asked what they may, not in time.

use std::time::Duration;

use super::approvals::{approvals, approve, arn, asked, attach, bench, by, deletable, delete, principal, put, shown};
use crate::{Attached, RequestContext};
use auth::request::Interface;
use model::operation::Operation;

/// Principals without a policy that lets them approve.
const OTHERS: usize = 100;

#[tokio::test]
async fn only_who_may_have_a_say_is_asked_and_not_at_each_call() {
    let bench = bench().await;
    for at in 0..OTHERS {
        principal(&bench, &format!("other-{at}")).await;
    }
    let key = deletable(&bench).await;
    let id = asked(delete(&bench, "anna", &key, 7).await);
    let asked_so_far = || bench.service.core.approvers_found().asked();
    let before = asked_so_far();
    assert_eq!(shown(&bench, &id).await.could, Some(3), "bert, carl and the administrator");
    assert_eq!(asked_so_far() - before, 2, "of {OTHERS} others nobody is asked");
    for _ in 0..50 {
        assert_eq!(shown(&bench, &id).await.could, Some(3));
    }
    assert_eq!(asked_so_far() - before, 2, "what was found holds");

    // What changes who may approve is seen at once: a policy, a member of a group, a tag, an administrator.
    let (service, admin) = (&bench.service, by(&bench, "admin"));
    attach(&bench, "Approver", "other-0").await;
    assert_eq!(shown(&bench, &id).await.could, Some(4));
    service.create_group(&admin, "approvers").await.unwrap();
    service.attach_policy(&admin, "Approver", Attached::Group("approvers".into())).await.unwrap();
    assert_eq!(shown(&bench, &id).await.could, Some(4), "nobody is in it");
    service.add_group_member(&admin, "approvers", &arn("other-1")).await.unwrap();
    assert_eq!(shown(&bench, &id).await.could, Some(5));
    let tagged = "{\"Effect\":\"Deny\",\"Action\":\"keystored:Approve\",\"Resource\":\"*\",\"Condition\":\
                  {\"StringEquals\":{\"aws:PrincipalTag/away\":\"yes\"}}}";
    put(&bench, "Away", tagged).await;
    attach(&bench, "Away", "bert").await;
    assert_eq!(shown(&bench, &id).await.could, Some(5));
    service.tag_principal(&admin, &arn("bert"), vec![("away".into(), "yes".into())]).await.unwrap();
    assert_eq!(shown(&bench, &id).await.could, Some(4));
    service.delete_principal(&admin, &arn("other-1")).await.unwrap();
    assert_eq!(shown(&bench, &id).await.could, Some(3));
    service.set_administrators(["cn:admin".to_owned(), "cn:other-2".to_owned()].into());
    assert_eq!(shown(&bench, &id).await.could, Some(4));
    service.set_administrators(["cn:admin".to_owned()].into());
    assert_eq!(shown(&bench, &id).await.could, Some(3));
}

/// Whoever looks at many approvals pays for each ARN once.
#[tokio::test]
async fn each_arn_is_looked_at_once_and_again_after_a_while() {
    let bench = bench().await;
    let (one, other) = (deletable(&bench).await, super::approvals::created(&bench).await);
    bench.service.set_approvals(approvals(&[Operation::ScheduleKeyDeletion], 2));
    let ids = [asked(delete(&bench, "anna", &one, 7).await), asked(delete(&bench, "anna", &other, 7).await)];
    let before = bench.service.core.approvers_found().asked();
    let looked = || bench.service.core.approvers_found().asked() - before;
    for _ in 0..10 {
        for id in &ids {
            assert_eq!(shown(&bench, id).await.could, Some(3));
        }
    }
    assert_eq!(looked(), 4, "two principals for each of two ARNs");
    // A condition may depend on the time.
    bench.clock.advance(Duration::from_secs(10));
    shown(&bench, &ids[0]).await;
    assert_eq!(looked(), 6);
}

/// A policy may let somebody approve until a moment: it is noticed soon after.
#[tokio::test]
async fn a_permission_that_ends_with_time_ends() {
    let bench = bench().await;
    let key = deletable(&bench).await;
    principal(&bench, "dora").await;
    let until = "{\"Effect\":\"Allow\",\"Action\":\"keystored:App*\",\"Resource\":\"*\",\"Condition\":\
                 {\"DateLessThan\":{\"aws:CurrentTime\":\"1970-01-01T00:00:05Z\"}}}";
    put(&bench, "Soon", until).await;
    attach(&bench, "Soon", "dora").await;
    let id = asked(delete(&bench, "anna", &key, 7).await);
    assert_eq!(shown(&bench, &id).await.could, Some(4));
    bench.clock.advance(Duration::from_secs(10));
    assert_eq!(shown(&bench, &id).await.could, Some(3));
}

/// Votes are cast by gRPC. They count whatever the call comes by that they are for.
#[tokio::test]
async fn who_may_approve_by_grpc_alone_has_a_vote_on_calls_of_any_interface() {
    let bench = bench().await;
    let key = deletable(&bench).await;
    let other = "{\"Effect\":\"Deny\",\"Action\":\"*\",\"Resource\":\"*\",\"Condition\":\
                 {\"StringNotEquals\":{\"keystored:Interface\":\"grpc\"}}}";
    put(&bench, "GrpcAlone", other).await;
    let anna = RequestContext { interface: Interface::AwsJson, ..by(&bench, "anna") };
    let by_aws = async || bench.service.schedule_key_deletion(&anna, &key, Some(7)).await.map(drop);
    let id = asked(by_aws().await);
    for name in ["bert", "carl"] {
        attach(&bench, "GrpcAlone", name).await;
        approve(&bench, name, &id).await.unwrap();
    }
    by_aws().await.unwrap();
}
