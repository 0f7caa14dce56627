//! The daemon is killed at random moments under load. Whatever a client had an answer to is on record, and the log is whole.

use std::collections::BTreeSet;
use std::time::Duration;

use aws_lc_rs::rand;

use crate::harness::audit::{Witnesses, request_ids, verified};
use crate::harness::{Daemon, wait};

/// How often it is killed: KEYSTORED_AUDIT_CRASHES, for those who have the time (`make soak`).
const CRASHES: usize = 20;
/// Most results between two crashes, drawn anew each time; and most milliseconds after them.
const RESULTS: u16 = 400;
const MILLIS: u16 = 1_200;

fn drawn(below: u16) -> u16 {
    let mut bytes = [0; 2];
    rand::fill(&mut bytes).unwrap();
    u16::from_be_bytes(bytes) % below
}

#[tokio::test(flavor = "multi_thread")]
async fn no_result_is_without_its_record_after_a_crash() {
    let crashes = std::env::var("KEYSTORED_AUDIT_CRASHES").map_or(CRASHES, |text| text.parse().unwrap());
    let mut daemon = Daemon::start().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("used until the end").await;
    let mut answered = BTreeSet::new();
    for crash in 0..crashes {
        let caller = daemon.caller().await;
        // No login is in hand: a worker that is inside one may lose its token.
        daemon.wait_until_healthy_for(&caller).await;
        let witnesses = Witnesses::start(&caller, &key, &format!("crash-{crash}"), 4);
        let (results, millis) = (drawn(RESULTS), drawn(MILLIS));
        witnesses.answered(results.into()).await;
        wait::pass(Duration::from_millis(millis.into())).await;
        let site = daemon.crash();
        answered.extend(witnesses.stop().await.0);

        // As the crash left it, and as the next start has put it in order.
        let what = format!("crash {crash} after {results} results and {millis} ms");
        let missing = |known: &BTreeSet<String>| answered.difference(known).next().cloned();
        verified(&site.audit_dir());
        assert_eq!(missing(&request_ids(&site.audit_dir())), None, "{what}");
        daemon = site.launch();
        daemon.wait_until_ready();
        daemon.audit_settled();
        assert_eq!(missing(&request_ids(&daemon.site().audit_dir())), None, "{what}");
    }
    assert!(answered.len() > crashes, "{}", answered.len());
    let checked = daemon.audit_verify();
    assert_eq!(checked.code, Some(0), "{checked:?}");
}
