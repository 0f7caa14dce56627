//! What the service does without anybody's call, and what strangers are refused.

use std::net::IpAddr;
use std::time::Duration;

use super::bench::{Bench, Manner, plain};
use crate::Error;
use crate::core::audit_recorder::{event_of, event_of_service};
use crate::core::recorder::{RefusedCall, ServiceEvent};
use crate::core::service_event::MOST;
use crate::lifecycle::tend::Turns;
use auth::peer::Principal;
use auth::request::Interface;
use cluster::happened::{Happened, What};
use model::clock::Clock;
use model::exception::Exception;
use model::id::{HsmId, KeyVersionId};
use model::key::RotationCause;
use model::operation::Operation;
use store::Rotating;

const HOUR: Duration = Duration::from_secs(60 * 60);

async fn turn(bench: &Bench, turns: &mut Turns) {
    bench.service.lifecycle.tend_keys_once(turns).await;
    turns.rotated().await;
    bench.service.core.record_events().await;
}

/// The events so far, as the log has them, with their names.
fn events(bench: &Bench) -> Vec<(&'static str, String)> {
    let events = std::mem::take(&mut *bench.recorder.events.lock().unwrap());
    let text = |event| {
        let records = event_of_service(event, bench.service.core.scope(), |event| event.records());
        String::from_utf8(records.concat()).unwrap()
    };
    events.iter().map(|event| (event.name, text(event))).collect()
}

#[tokio::test]
async fn rotations_and_deletions_by_themselves_are_events_of_the_service() {
    let bench = Bench::by(Clock::manual(), &["a", "b"]).await;
    let (turning, going) = (bench.create().await, bench.create().await);
    bench.service.enable_key_rotation(&bench.call(), &turning.arn, Some(90)).await.unwrap();
    bench.service.rotate_key_on_demand(&bench.call(), &turning.arn).await.unwrap();
    let mut turns = Turns::new(bench.clock.now());
    turn(&bench, &mut turns).await;
    assert_eq!(events(&bench), [], "what was asked for has the record of its call");
    bench.clock.advance(91 * 24 * HOUR);
    turn(&bench, &mut turns).await;
    let told = events(&bench);
    let [(name, text)] = &told[..] else { panic!("{told:?}") };
    assert_eq!(*name, "RotateKey");
    for part in [
        "\"eventType\":\"AwsServiceEvent\"",
        "\"invokedBy\":\"AWS Internal\"",
        "\"eventSource\":\"kms.amazonaws.com\"",
        "\"requestParameters\":null,\"responseElements\":null",
        &turning.arn,
        "\"rotationType\":\"AUTOMATIC\"",
        "\"keyVersion\":3",
        "\"readOnly\":false",
    ] {
        assert!(text.contains(part), "{part} in {text}");
    }
    assert!(!text.contains("requestID"), "nobody asked for it");
    bench.service.schedule_key_deletion(&bench.call(), &going.arn, Some(7)).await.unwrap();
    for _ in 0..(8 * 24 + 1) * 60 {
        bench.clock.advance(Duration::from_secs(60));
        turn(&bench, &mut turns).await;
    }
    let told = events(&bench);
    assert_eq!(told.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["DestroyKeyMaterial", "DeleteKey"], "{told:?}");
    let (_, text) = &told[1];
    let part = "\"backingKeysDeletionStatus\":\"[{\\\"backingKeyId\\\":";
    assert!(text.contains(part) && text.contains("SUCCESS") && text.contains(&going.arn), "{text}");
    assert!(text.contains(bench.key_store.as_str()) && text.contains(bench.fake.id.as_str()), "{text}");
}

/// What a crash has interrupted comes to the same end, only later.
#[tokio::test]
async fn a_rotation_that_was_interrupted_is_an_event_too() {
    let bench = Bench::new().await;
    let hsms: Vec<HsmId> = ["hsm-0".into(), "hsm-1".into()].to_vec();
    for (cause, told) in [(RotationCause::Wear, &["RotateKey"][..]), (RotationCause::Request, &[])] {
        let version = KeyVersionId { key: bench.create().await.id, version: 2 };
        bench.store.begin_version(Rotating { version, cause, in_place: false }, &hsms).await.unwrap();
        bench.store.keep_blob(version, &bytes::Bytes::from_static(b"blob")).await.unwrap();
        bench.service.resume().await;
        assert_eq!(bench.store.catalogue().key(version.key).unwrap().current_version, 2);
        bench.service.core.record_events().await;
        assert_eq!(events(&bench).iter().map(|(name, _)| *name).collect::<Vec<_>>(), told, "{cause:?}");
    }
}

/// What was destroyed, what failed, and what an HSM that replicates its keys is still to be looked at for.
#[tokio::test]
async fn a_deletion_that_is_due_says_how_far_it_has_come() {
    for (fails, settles, expected) in [
        (false, Duration::ZERO, "SUCCESS"),
        (true, Duration::ZERO, "FAILURE"),
        (false, Duration::from_secs(5), "PENDING"),
        (true, Duration::from_secs(5), "FAILURE"),
    ] {
        let bench = Bench::by(Clock::manual(), &["a", "b"]).await;
        let key = bench.create().await;
        *bench.fake.settles.lock().unwrap() = settles;
        if fails {
            bench.fake.fail("destroy", 0, usize::MAX);
        }
        bench.service.schedule_key_deletion(&bench.call(), &key.arn, Some(7)).await.unwrap();
        let (mut turns, mut told) = (Turns::new(bench.clock.now()), Vec::new());
        for _ in 0..(8 * 24 + 1) * 60 {
            bench.clock.advance(Duration::from_secs(60));
            turn(&bench, &mut turns).await;
            told.extend(events(&bench));
            if !told.is_empty() {
                break;
            }
        }
        let (name, text) = &told[0];
        let status = format!("\\\"deletionStatus\\\":\\\"{expected}\\\"");
        assert!(*name == "DestroyKeyMaterial" && text.contains(&status), "{expected}: {text}");
    }
}

#[tokio::test]
async fn what_could_not_be_recorded_is_recorded_later_in_its_order() {
    let bench = Bench::new().await;
    bench.recorder.is(Manner::Fails);
    let happened = &bench.service.core.registry().identities.happened;
    let of = |what: What| Happened {
        unix_millis: 1,
        hsm: Some("hsm-a".into()),
        zone: "a".into(),
        cluster: bench.fake.id.clone(),
        what,
    };
    for what in [What::Refused("it is another one".into()), What::Admitted, What::PinRotated] {
        happened.note(of(what));
    }
    let mut turns = Turns::new(bench.clock.now());
    turn(&bench, &mut turns).await;
    assert_eq!((events(&bench), bench.service.unrecorded_events()), (Vec::new(), (3, 0)));
    // Keys are served all the while.
    bench.recorder.is(Manner::Quick);
    let key = bench.create().await;
    bench.encrypt(plain(&key.arn, b"x")).await.unwrap();
    turn(&bench, &mut turns).await;
    let told = events(&bench);
    let names: Vec<&str> = told.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["HsmRefused", "HsmAdmitted", "PinRotated"]);
    assert!(told[0].1.contains("it is another one") && told[0].1.contains("\"eventSource\":\"keystored\""), "{told:?}");
    assert_eq!(bench.service.unrecorded_events(), (0, 0));
}

#[tokio::test]
async fn how_many_events_there_was_no_room_for_is_told_and_then_forgotten() {
    let bench = Bench::new().await;
    let core = &bench.service.core;
    assert_eq!(bench.service.troubles_of_events(), Vec::<String>::new());
    bench.recorder.is(Manner::Fails);
    for _ in 0..MOST + 5 {
        core.happened(ServiceEvent::ours(1, "ZoneBack"));
    }
    core.record_events().await;
    assert_eq!(bench.service.unrecorded_events(), (MOST, 5));
    let troubles = bench.service.troubles_of_events();
    assert!(troubles[0].starts_with("1024 events") && troubles[1].starts_with("5 events"), "{troubles:?}");
    bench.recorder.is(Manner::Quick);
    core.record_events().await;
    let told = events(&bench);
    assert_eq!((told.len(), told[MOST].0), (MOST + 1, "EventsNotRecorded"));
    assert!(told[MOST].1.contains("\"count\":5"), "{}", told[MOST].1);
    assert_eq!(bench.service.troubles_of_events(), Vec::<String>::new());
    assert_eq!(bench.service.unrecorded_events(), (0, 5), "the metric goes on");
    core.record_events().await;
    assert_eq!(events(&bench), []);
}

#[tokio::test]
async fn zones_that_are_lost_and_back_are_events_of_their_key_store() {
    let bench = Bench::new().await;
    let (identities, zone) = (&bench.service.core.registry().identities, "a".into());
    let zones = identities.happened.zones_of(&bench.fake.id, false);
    for serves in [true, false, true] {
        identities.happened.zone_is(&zones, &zone, serves, 7, || "hsm-a: unplugged".to_owned());
    }
    bench.service.core.record_what_waits().await;
    let told = events(&bench);
    assert_eq!(told.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["ZoneLost", "ZoneBack"]);
    let (lost, back) = (&told[0].1, &told[1].1);
    assert!(lost.contains("NoHsmServes") && lost.contains("hsm-a: unplugged") && !back.contains("errorCode"), "{lost}");
    for text in [lost, back] {
        assert!(text.contains(bench.key_store.as_str()) && text.contains(bench.fake.id.as_str()), "{text}");
        assert!(
            text.contains("\"zone\":\"a\"") && !text.contains("turnsLeftOut") && !text.contains("\"hsm\""),
            "{text}"
        );
    }
}

fn refused(principal: Option<&str>, source: IpAddr) -> RefusedCall {
    RefusedCall {
        principal: principal.map(Principal::new),
        source: Some(source),
        user_agent: None,
        tls: None,
        interface: Interface::AwsJson,
        request_id: "r-9".into(),
        operation: Some(Operation::Encrypt),
        event: None,
        items: 1,
        error: Error::permanent(Exception::AccessDenied, "InvalidSignature: it is not signed"),
        took: Duration::ZERO,
    }
}

#[tokio::test]
async fn strangers_have_one_record_for_each_source_and_minute() {
    let bench = Bench::by(Clock::manual(), &["a", "b"]).await;
    let [one, other]: [IpAddr; 2] = ["192.0.2.1", "192.0.2.2"].map(|text| text.parse().unwrap());
    for _ in 0..500 {
        bench.service.refused_at_entry(refused(None, one)).await;
    }
    bench.service.handshake_failed(Some(other), "no certificate").await;
    assert_eq!(bench.recorder.taken().len(), 0);
    // Whoever proved to be somebody has one for each.
    bench.service.refused_at_entry(refused(Some("cn:anna"), one)).await;
    assert_eq!(bench.recorder.taken().len(), 1);
    bench.clock.advance(Duration::from_secs(60));
    let mut turns = Turns::new(bench.clock.now());
    bench.recorder.is(Manner::Fails);
    turn(&bench, &mut turns).await;
    bench.recorder.is(Manner::Quick);
    bench.clock.advance(Duration::from_secs(60));
    turn(&bench, &mut turns).await;
    let records = bench.recorder.taken();
    let texts: Vec<String> = records
        .iter()
        .map(|record| event_of(record, bench.service.core.scope(), |event| event.records()).concat())
        .map(|text| String::from_utf8(text).unwrap())
        .collect();
    let [first, second] = &texts[..] else { panic!("{texts:?}") };
    for part in [
        "\"eventName\":\"UnauthenticatedRefusals\"",
        "\"accountId\":\"ANONYMOUS_PRINCIPAL\"",
        "\"sourceIPAddress\":\"192.0.2.1\"",
        "\"count\":500",
        "\"errorCode\":\"AccessDeniedException\"",
        "{\"eventName\":\"Encrypt\",\"errorCode\":\"AccessDeniedException\",\"count\":500}",
    ] {
        assert!(first.contains(part), "{part} in {first}");
    }
    assert!(
        second.contains("192.0.2.2") && second.contains("TlsHandshake") && second.contains("no certificate"),
        "{second}"
    );
    assert!(texts.iter().all(|text| text.len() < 1_500));
    // At the end of the daemon nothing is left.
    bench.service.refused_at_entry(refused(None, one)).await;
    bench.service.return_budgets().await;
    assert_eq!(bench.recorder.taken().len(), 1);
}
