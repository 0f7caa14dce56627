//! The store over an engine that fails.

use super::Made;
use super::faulty::{FAULTS, Plan, Way};
use super::subject::{Act, Subject};
use crate::engine::{Distress, Told};
use crate::{Error, NewKey};
use model::outage::Outage;

/// A change has fewer statements than this.
const STATEMENTS: usize = 60;

/// Has each change fail at each of its statements, and looks at what came of it.
async fn at_every_statement(make: impl AsyncFn() -> Made, faults: &[(&str, Told)], way: Way, lasting: bool) {
    for act in Act::all() {
        // Each its own: what a look at everything costs grows with what was made before.
        let mut subject = Subject::over(make().await).await;
        for (fault, told) in faults {
            let mut reached = 0;
            for after in 0..STATEMENTS {
                let what = format!("{act:?}, {fault} ({way:?}, lasting: {lasting}) after {after} statements");
                let change = subject.ready(act).await;
                let before = subject.store.catalogue();
                subject.switch.arm(Plan { told: *told, way, after, lasting });
                let outcome = change.await;
                let struck = subject.switch.disarm();
                if !struck {
                    assert!(outcome.is_ok(), "{what}: {outcome:?}");
                    break;
                }
                reached = after + 1;
                let after = subject.store.catalogue();
                if outcome.is_err() {
                    assert_eq!(after.position(), before.position(), "{what}: an error, and it shows");
                } else if act.shows() {
                    assert!(after.revision() > before.revision(), "{what}: done, and it does not show");
                }
                if let Err(error) = outcome {
                    expected(&error, *told, way, &what);
                }
                subject.agrees(&what).await;
            }
            assert!((3..STATEMENTS).contains(&reached), "{act:?} has {reached} statements");
        }
    }
}

/// The error tells the trouble, and that it passes.
fn expected(error: &Error, told: Told, way: Way, what: &str) {
    if way == Way::Panics {
        assert!(matches!(error, Error::Database(why) if why.contains("did not end")), "{what}: {error:?}");
        return;
    }
    let (Told::Outage(outage) | Told::Look(Some(outage))) = told else { panic!("{what}: {told:?} tells nothing") };
    assert!(matches!(error, Error::Storage(trouble) if trouble.outage == outage), "{what}: {error:?}");
    assert!(error.passes(), "{what}: {error:?}");
}

// Three tests of one kind, since each takes longer than all others of this crate together.

pub(crate) async fn a_change_that_fails_at_any_statement_for_want_of_room_is_made_wholly_or_not(
    make: impl AsyncFn() -> Made,
) {
    at_every_statement(make, &FAULTS[..1], Way::Refused, false).await;
}

pub(crate) async fn a_change_that_fails_at_any_statement_for_a_moment_is_made_wholly_or_not(
    make: impl AsyncFn() -> Made,
) {
    at_every_statement(make, &FAULTS[1..3], Way::Refused, false).await;
}

pub(crate) async fn a_change_that_fails_at_any_statement_for_its_file_is_made_wholly_or_not(
    make: impl AsyncFn() -> Made,
) {
    at_every_statement(make, &FAULTS[3..], Way::Refused, false).await;
}

pub(crate) async fn a_change_whose_answers_are_lost_is_found_again(make: impl AsyncFn() -> Made) {
    at_every_statement(make, &FAULTS[1..2], Way::Lost, false).await;
}

pub(crate) async fn trouble_that_lasts_ends_with_its_cause(make: impl AsyncFn() -> Made) {
    at_every_statement(make, &FAULTS[1..4], Way::Lost, true).await;
}

pub(crate) async fn a_panic_at_any_statement_costs_that_change_alone(make: impl AsyncFn() -> Made) {
    at_every_statement(make, &FAULTS[..1], Way::Panics, false).await;
}

/// What an engine itself says when the machine lets it down, told as that, and over as soon as the machine is mended.
pub(crate) async fn real_trouble_is_told_and_passes(made: Made) {
    let mut subject = Subject::over(made).await;
    for (distress, outage) in [
        (Distress::Full, Outage::Full),
        (Distress::Busy, Outage::InUse),
        (Distress::ReadOnly, Outage::ReadOnly),
        (Distress::Gone, Outage::Gone),
        (Distress::LogGone, Outage::Gone),
    ] {
        let what = format!("{distress:?}");
        subject.agrees(&what).await;
        subject.alone().await;
        if !subject.made().engine.distress(Some(distress)).await.unwrap() {
            continue;
        }
        // What has no file any more is noticed by those who have it open; the rest by those who come.
        if !matches!(distress, Distress::Gone | Distress::LogGone) {
            subject.reconnect().await;
        }
        let before = subject.store.catalogue();
        let error = until_refused(&subject).await;
        assert!(matches!(&error, Error::Storage(trouble) if trouble.outage == outage), "{what}: {error:?}");
        assert!(error.passes(), "{what}: {error}");
        if distress == Distress::Full {
            assert!(subject.store.catalogue().revision() >= before.revision());
        } else {
            assert_eq!(subject.store.catalogue().position(), before.position(), "{what}");
        }
        assert!(!subject.store.records(), "{what}");
        subject.made().engine.distress(None).await.unwrap();
        subject.agrees(&what).await;
        assert!(subject.store.records(), "{what}");
        assert_eq!(subject.store.disk().failing, None, "{what}");
    }
}

/// Makes keys until one is refused; at once, but for a disk that has room in what is there already.
async fn until_refused(subject: &Subject) -> Error {
    for _ in 0..10_000 {
        if let Err(error) = subject.store.begin_key(NewKey::new(&subject.key_store, &[]), None).await {
            return error;
        }
    }
    panic!("ten thousand keys are made without room");
}
