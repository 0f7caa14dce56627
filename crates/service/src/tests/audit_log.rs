//! The audit log, read by callers: who may, in which pieces, and what that leaves behind.

use std::sync::{Arc, Mutex};

use futures_util::FutureExt as _;
use tokio::sync::watch;

use super::access::{HERE, attach, attach_as_it_is, bench, by, is_denied, principal, statement};
use super::bench::exception;
use super::event_reader::taken;
use crate::audit_reader::{AuditReader, NotRead};
use crate::{AuditFilter, FollowAuditRecordsInput, ListAuditRecordsInput, Service};
use audit::look::{Bounds, Filter, Found, Way};
use model::exception::Exception;
use model::operation::Operation;

const ARN: &str = "arn:aws:kms:eu-central-1:111122223333:audit-log/kept.example/audit";

/// A log in memory. Every other record is of Decrypt.
pub(super) struct Kept {
    records: Mutex<Vec<Vec<u8>>>,
    signed: watch::Sender<u64>,
}

impl Kept {
    pub(super) fn of(count: u64) -> Arc<Self> {
        let kept = Arc::new(Self { records: Mutex::default(), signed: watch::Sender::new(0) });
        kept.grow(count);
        kept
    }

    fn grow(&self, more: u64) {
        let mut records = self.records.lock().unwrap();
        for number in records.len() as u64..records.len() as u64 + more {
            let name = if number.is_multiple_of(2) { "Encrypt" } else { "Decrypt" };
            records.push(format!("{{\"eventName\":\"{name}\",\"eventID\":\"e-{number}\"}}").into_bytes());
        }
        self.signed.send_replace(records.len() as u64);
    }
}

impl AuditReader for Kept {
    fn name(&self) -> &str {
        "kept.example/audit"
    }

    fn signed(&self) -> watch::Receiver<u64> {
        self.signed.subscribe()
    }

    fn size(&self) -> Result<u64, NotRead> {
        Ok(*self.signed.borrow())
    }

    fn keys(&self) -> Result<String, NotRead> {
        Ok("keys".to_owned())
    }

    fn head(&self) -> Result<String, NotRead> {
        Ok("head".to_owned())
    }

    fn look(&self, filter: &Filter, way: Way, end: u64, bounds: Bounds) -> Result<Found, NotRead> {
        let records = self.records.lock().unwrap();
        let numbers: Vec<u64> = match way {
            Way::On(from) => (from..end).collect(),
            Way::Back { before, .. } => (0..before.min(end)).rev().collect(),
        };
        let mut found = Found::default();
        for number in numbers {
            if found.records.len() == bounds.records {
                found.next = Some(match way {
                    Way::On(_) => Way::On(number),
                    Way::Back { older, .. } => Way::Back { before: number + 1, older: older + 1 },
                });
                break;
            }
            let record = &records[usize::try_from(number).unwrap()];
            if filter.wants(record) {
                found.records.push((number, record.clone()));
            }
        }
        Ok(found)
    }

    fn proof(&self, number: u64) -> Result<String, NotRead> {
        let size = *self.signed.borrow();
        if number < size { Ok(format!("proof {number}")) } else { Err(NotRead::None(format!("{size} records"))) }
    }

    fn growth(&self, since: u64) -> Result<String, NotRead> {
        Ok(format!("growth since {since}"))
    }
}

/// Asks for each of the operations; whether it is denied.
async fn denied(service: &Service, call: &crate::RequestContext) -> [bool; 6] {
    let follow = service.follow_audit_records(call, FollowAuditRecordsInput::default()).await.map(drop);
    [
        is_denied(service.get_audit_keys(call).await),
        is_denied(service.get_audit_head(call).await),
        is_denied(service.list_audit_records(call, ListAuditRecordsInput::default()).await),
        is_denied(follow),
        is_denied(service.get_audit_proof(call, 0).await),
        is_denied(service.get_audit_consistency(call, 1).await),
    ]
}

#[tokio::test]
async fn identity_policies_alone_say_who_may_read_it() {
    let bench = bench().await;
    bench.service.set_audit_reader(Kept::of(3));
    for (name, expected) in [
        ("Auditor", [false; 6]),
        ("Operator", [false, false, true, true, true, true]),
        ("KeyUser", [true; 6]),
        ("Approver", [true; 6]),
    ] {
        let id = principal(&bench, HERE, name).await;
        attach_as_it_is(&bench, &id, name, true).await;
        assert_eq!(denied(&bench.service, &by(&bench, name)).await, expected, "{name}");
    }
    // By its own ARN, and by no other.
    for (name, resource, may) in [
        ("own", ARN, true),
        ("all", "arn:aws:kms:*:*:audit-log/*", true),
        ("other", "arn:aws:kms:eu-central-1:111122223333:audit-log/other", false),
        ("keys", "arn:aws:kms:eu-central-1:111122223333:key/*", false),
    ] {
        let id = principal(&bench, HERE, name).await;
        attach(&bench, &id, &format!("of-{name}"), &statement("Allow", "keystored:*", resource)).await;
        assert_eq!(denied(&bench.service, &by(&bench, name)).await, [!may; 6], "{name}");
    }
    // Nobody of another account.
    let id = principal(&bench, "999900001111", "guest").await;
    attach_as_it_is(&bench, &id, "Administrator", true).await;
    assert_eq!(denied(&bench.service, &by(&bench, "guest")).await, [true; 6]);
}

#[tokio::test]
async fn records_are_listed_in_pages_either_way() {
    let bench = bench().await;
    let (service, call) = (&bench.service, by(&bench, "admin"));
    service.set_audit_reader(Kept::of(10));
    let listed = async |input: ListAuditRecordsInput| {
        let (mut numbers, mut marker) = (Vec::new(), String::new());
        loop {
            let page =
                service.list_audit_records(&call, ListAuditRecordsInput { marker, ..input.clone() }).await.unwrap();
            assert_eq!(page.size, 10);
            numbers.extend(page.records.into_iter().map(|record| record.number));
            let Some(next) = page.next_marker else { return numbers };
            marker = next;
        }
    };
    let decrypt = AuditFilter { operation: Some("Decrypt".to_owned()), ..AuditFilter::default() };
    let input = ListAuditRecordsInput { limit: Some(3), ..ListAuditRecordsInput::default() };
    let back = ListAuditRecordsInput { newest_first: true, ..input.clone() };
    assert_eq!(listed(input.clone()).await, (0..10).collect::<Vec<_>>());
    assert_eq!(listed(back.clone()).await, (0..10).rev().collect::<Vec<_>>());
    assert_eq!(listed(ListAuditRecordsInput { from: Some(7), ..input.clone() }).await, [7, 8, 9]);
    assert_eq!(listed(ListAuditRecordsInput { from: Some(2), ..back.clone() }).await, [2, 1, 0]);
    assert!(listed(ListAuditRecordsInput { from: Some(u64::MAX), ..input.clone() }).await.is_empty());
    assert_eq!(listed(ListAuditRecordsInput { from: Some(u64::MAX), ..back.clone() }).await.len(), 10);
    assert_eq!(listed(ListAuditRecordsInput { filter: decrypt, ..back }).await, [9, 7, 5, 3, 1]);

    let filter = |filter: AuditFilter| ListAuditRecordsInput { filter, ..ListAuditRecordsInput::default() };
    for wrong in [
        ListAuditRecordsInput { limit: Some(0), ..input.clone() },
        ListAuditRecordsInput { limit: Some(1_001), ..input.clone() },
        filter(AuditFilter { since: Some("yesterday".to_owned()), ..AuditFilter::default() }),
        filter(AuditFilter { until: Some("2026-11-3".to_owned()), ..AuditFilter::default() }),
        filter(AuditFilter { key: Some("k".repeat(2_049)), ..AuditFilter::default() }),
    ] {
        assert_eq!(exception(service.list_audit_records(&call, wrong).await), Exception::Validation);
    }
    let marked = ListAuditRecordsInput { marker: "k17".to_owned(), ..input };
    assert_eq!(exception(service.list_audit_records(&call, marked).await), Exception::InvalidMarker);
    assert_eq!(service.get_audit_proof(&call, 9).await.unwrap(), "proof 9");
    assert_eq!(exception(service.get_audit_proof(&call, 10).await), Exception::NotFound);
}

#[tokio::test]
async fn reading_the_log_leaves_one_record_a_call() {
    let bench = bench().await;
    let kept = Kept::of(2);
    bench.service.set_audit_reader(kept.clone());
    let id = principal(&bench, HERE, "anna").await;
    attach_as_it_is(&bench, &id, "Auditor", true).await;
    bench.recorder.taken();
    let filter = AuditFilter { principal: Some("user/bert".to_owned()), ..AuditFilter::default() };
    let input = ListAuditRecordsInput { filter, ..ListAuditRecordsInput::default() };
    bench.service.list_audit_records(&by(&bench, "anna"), input).await.unwrap();
    let records = taken(&bench);
    let [(_, record)] = &records[..] else { panic!("{} records", records.len()) };
    for (member, expected) in [
        ("eventName", "ListAuditRecords"),
        ("resources.0.ARN", ARN),
        ("requestParameters.principal", "user/bert"),
        ("readOnly", "true"),
    ] {
        assert_eq!(record.get(member), Some(expected), "{}", record.text);
    }

    // Who follows leaves one when that begins, whatever comes.
    let input = FollowAuditRecordsInput { from: Some(1), ..FollowAuditRecordsInput::default() };
    let mut follower = bench.service.follow_audit_records(&by(&bench, "anna"), input).await.unwrap();
    for more in 1..4 {
        follower.ready().await;
        let followed = follower.look(&by(&bench, "anna")).await.unwrap();
        assert_eq!((followed.records.len(), followed.next), (1, more + 1));
        assert!(follower.ready().now_or_never().is_none(), "there is no more");
        kept.grow(1);
    }
    let records = taken(&bench);
    let [(_, record)] = &records[..] else { panic!("{} records", records.len()) };
    let named = ["eventName", "requestParameters.from"].map(|member| record.get(member));
    assert_eq!(named, [Some("FollowAuditRecords"), Some("1")], "{}", record.text);
}

#[tokio::test]
async fn who_follows_is_looked_at_again_each_time() {
    let bench = bench().await;
    let kept = Kept::of(5);
    bench.service.set_audit_reader(kept.clone());
    let id = principal(&bench, HERE, "anna").await;
    let list = Operation::FollowAuditRecords.spec().permission;
    attach(&bench, &id, "follows", &statement("Allow", list, "*")).await;
    let call = by(&bench, "anna");
    // From what comes on, where no number is named.
    let mut follower = bench.service.follow_audit_records(&call, FollowAuditRecordsInput::default()).await.unwrap();
    assert!(follower.ready().now_or_never().is_none());
    kept.grow(2);
    follower.ready().await;
    let numbers: Vec<u64> = follower.look(&call).await.unwrap().records.iter().map(|record| record.number).collect();
    assert_eq!(numbers, [5, 6]);
    kept.grow(1);
    attach(&bench, &id, "no-more", &statement("Deny", list, "*")).await;
    follower.ready().await;
    taken(&bench);
    assert!(is_denied(follower.look(&call).await));
    // That it was ended, and by what, is on record, once.
    let records = taken(&bench);
    let [(_, record)] = &records[..] else { panic!("{} records", records.len()) };
    let says = ["eventName", "errorCode", "userIdentity.userName", "resources.0.ARN"].map(|member| record.get(member));
    let expected = [Some("FollowAuditRecords"), Some("AccessDeniedException"), Some("anna"), Some(ARN)];
    assert_eq!(says, expected, "{}", record.text);
    assert!(record.get("additionalEventData.decidedBy").is_some_and(|by| by.contains("no-more")), "{}", record.text);
}

#[tokio::test]
async fn a_service_without_a_log_says_so_to_who_may_read_it() {
    let bench = bench().await;
    principal(&bench, HERE, "idle").await;
    assert_eq!(denied(&bench.service, &by(&bench, "idle")).await, [true; 6]);
    assert_eq!(exception(bench.service.get_audit_head(&by(&bench, "admin")).await), Exception::UnsupportedOperation);
}
