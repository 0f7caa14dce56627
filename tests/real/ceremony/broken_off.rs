//! The ceremony broken off at every step, before it and after it, and run again.

#![cfg(debug_assertions)]

use std::path::PathBuf;
use std::sync::Mutex;

use ceremony::steps::Step;
use model::clock::Clock;
use model::id::{KeyId, KeyVersionId};
use model::secret::Secret;
use protocol::{Op, Reply, Role};
use supervisor::{Settings, Worker};

use super::lab::{CLUSTER, Lab, PIN};

/// How many ceremonies run at once.
const AT_ONCE: usize = 3;

/// How often a ceremony over two blank tokens passes a step.
fn passings(step: Step) -> u32 {
    match step {
        Step::MakeAuthorityKey | Step::MakeAuthorityCertificate | Step::ReadParcels | Step::MakeWrappingKey => 1,
        Step::InitToken
        | Step::InitUserPin
        | Step::LogIn
        | Step::MakeIdentityPair
        | Step::CertifyIdentity
        | Step::MakeTransportPair
        | Step::CertifyTransport
        | Step::MakeCanary
        | Step::KeepParcel
        | Step::PlaceWrappingKey => 2,
    }
}

#[test]
fn broken_off_at_any_step_it_goes_on_and_doubles_nothing() {
    let points = Step::ALL.iter().flat_map(|step| {
        let passing = |count| ["before", "after"].map(|when| format!("{}.{when}@{count}", step.name()));
        (1..=passings(*step)).flat_map(passing)
    });
    let points: Vec<String> = points.collect();
    assert!(points.len() >= 2 * Step::ALL.len());
    let waiting = Mutex::new(points.iter());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    // In a statement of its own: the lock is not held while the case runs.
                    let point = waiting.lock().unwrap().next();
                    let Some(point) = point else { return };
                    break_off(point);
                }
            });
        }
    });
}

/// One lab through all of it, so that each run meets what several crashes have left.
#[test]
fn broken_off_at_every_step_in_turn_it_comes_to_its_end() {
    use Step::*;
    let both = |step: &Step| ["before", "after"].map(|when| format!("{}.{when}", step.name()));
    let mut points: Vec<String> = [MakeAuthorityKey, MakeAuthorityCertificate].iter().flat_map(both).collect();
    // The first passing is the second token's once the first token's step is done.
    for steps in [
        &[InitToken, InitUserPin, LogIn][..],
        &[MakeIdentityPair, CertifyIdentity, MakeTransportPair, CertifyTransport, MakeCanary],
    ] {
        points.extend([steps, steps].concat().iter().flat_map(both));
    }
    let [before, after] = both(&MakeWrappingKey);
    points.extend(both(&ReadParcels).into_iter().chain([before]).chain(both(&KeepParcel)).chain([after]));
    points.extend([PlaceWrappingKey, PlaceWrappingKey].iter().flat_map(both));
    for point in Step::ALL.iter().flat_map(both) {
        assert!(points.contains(&point), "{point} is left out");
    }
    let lab = Lab::blank();
    for point in &points {
        let aborted = lab.run(Some(point));
        assert_eq!(aborted.code, None, "{point} was not reached: {aborted:?}");
    }
    comes_to_its_end(&lab, "every step");
}

fn break_off(point: &str) {
    let lab = Lab::blank();
    let aborted = lab.run(Some(point));
    assert_eq!(aborted.code, None, "{point} was not reached: {aborted:?}");
    comes_to_its_end(&lab, point);
}

fn comes_to_its_end(lab: &Lab, point: &str) {
    let again = lab.run(None);
    assert_eq!(again.code, Some(0), "after {point}: {again:?}");
    for zone in ["a", "b"] {
        assert_eq!(lab.serials(zone).len(), 1, "after {point}: tokens in zone {zone}");
        lab.assert_complete(zone);
    }
    let (a, b) = (lab.parcel("hsm-a"), lab.parcel("hsm-b"));
    assert_eq!(a["set"], b["set"], "after {point}");
    assert_ne!(a["blob"], b["blob"], "after {point}");
    assert_one_wrapping_key(lab, point);
    let files = ["a", "b"].map(|zone| lab.token_files(zone));
    assert_eq!(lab.run(None).code, Some(0));
    assert_eq!(["a", "b"].map(|zone| lab.token_files(zone)), files, "a third run has work to do after {point}");
}

/// What one token wraps the other unwraps.
fn assert_one_wrapping_key(lab: &Lab, point: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let (a, b) = (control(lab, 0).await, control(lab, 1).await);
        let Ok(Reply::Blob(blob)) = a.call(Op::MakeKey).await else { panic!("no key after {point}") };
        let key = KeyVersionId { key: KeyId::random(), version: 1 };
        let placed = b.call(Op::Place { key, label: "both ways".to_owned(), blob }).await;
        assert!(matches!(placed, Ok(Reply::Done)), "after {point}: {placed:?}");
        let gone = b.call(Op::Destroy(key)).await;
        assert!(matches!(gone, Ok(Reply::Done)), "after {point}: {gone:?}");
        a.stop().await;
        b.stop().await;
    });
}

async fn control(lab: &Lab, place: usize) -> Worker {
    let config = config::load(&lab.config()).unwrap();
    let cluster = config.clusters.iter().find(|cluster| cluster.id.as_str() == CLUSTER).unwrap();
    let worker = PathBuf::from(env!("CARGO_BIN_EXE_keystorectl"));
    let settings = Settings { worker, ..Settings::of(&config, &cluster.hsms[place]) };
    let worker = Worker::start(&settings, Role::Control, &Clock::system()).await.unwrap();
    worker.login(Secret::new(PIN.into())).await.unwrap();
    worker
}
