//! What an attacker with a certificate leaves in the log, and what is too short to be seen by looking now and then.

use std::collections::BTreeSet;

use proto::v1::EncryptRequest;

use crate::harness::audit::records;
use crate::harness::{Daemon, wait};

/// Calls at once, far more than a principal may have a second.
const CALLS: u64 = 400;

#[tokio::test(flavor = "multi_thread")]
async fn who_calls_too_often_leaves_a_few_records_and_a_count() {
    let daemon = Daemon::start().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("called too often").await;
    daemon.site().configure(|config| {
        let limits = toml::toml! { requests_per_second_per_principal = 1 };
        config.insert("rate_limits".to_owned(), limits.into());
    });
    daemon.hang_up("the configuration was read again");
    let mut refused = 0;
    for _ in 0..CALLS {
        let request = EncryptRequest { key_id: key.clone(), plaintext: b"x".to_vec(), ..Default::default() };
        let answer = caller.crypto.clone().encrypt(caller.request(request)).await;
        refused += u64::from(answer.is_err_and(|status| status.code() == tonic::Code::ResourceExhausted));
    }
    assert!(refused > CALLS / 2, "{refused}");
    let (_, metrics) = daemon.ops("/metrics").unwrap();
    let series = "keystored_audit_refusals_counted_total ";
    let counted: u64 = metrics.lines().find_map(|line| line.strip_prefix(series)?.parse().ok()).unwrap();
    assert!(counted > 0 && metrics.contains("keystored_audit_refusals_not_accepted_total 0"), "{metrics}");
    // The end of the daemon is the end of the minute.
    let (status, site) = daemon.terminate();
    assert!(status.success());
    let all = records(&site.audit_dir());
    let throttled = all.iter().filter(|record| record["errorCode"] == "ThrottlingException");
    let (many, own): (Vec<_>, Vec<_>) = throttled.partition(|record| record["eventName"] == "RefusedCalls");
    let counts = many.iter().map(|record| record["additionalEventData"]["count"].as_u64().unwrap());
    assert_eq!((counts.sum::<u64>(), own.len() as u64 + counted), (counted, refused), "{many:#?}");
    // However slow it is: so many of their own in each minute of the clock, in which a refusal may be accepted before it is dated.
    let minutes: BTreeSet<&str> =
        own.iter().map(|record| record["eventTime"].as_str().unwrap().rsplit_once(':').unwrap().0).collect();
    assert!(own.len() <= 60 * (minutes.len() + 1), "{} of their own in {minutes:?}, {many:#?}", own.len());
    for record in many {
        assert_eq!(record["userIdentity"]["principalId"], "cn:dev-client", "{record:#}");
        assert_eq!(record["additionalEventData"]["refusals"][0]["eventName"], "Encrypt", "{record:#}");
        assert!(record["sourceIPAddress"].is_string() && record["requestParameters"].is_null(), "{record:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_zone_that_is_back_in_a_moment_was_lost_all_the_same() {
    let daemon = Daemon::start().await;
    let caller = daemon.caller().await;
    daemon.wait_until_healthy_for(&caller).await;
    daemon.replace_workers("a", &caller).await;
    let directory = daemon.site().audit_dir();
    let zones = wait::until("the zone is lost and back on record", wait::LONG, || {
        let zones = records(&directory).into_iter().filter(|record| {
            let name = record["eventName"].as_str().unwrap();
            name.starts_with("Zone")
        });
        let zones: Vec<_> = zones.collect();
        (zones.len() >= 2).then_some(zones)
    });
    for (record, name) in zones.iter().zip(["ZoneLost", "ZoneBack"]) {
        assert_eq!(record["eventName"], name, "{zones:#?}");
        let more = &record["additionalEventData"];
        assert_eq!((&more["zone"], &more["clusterId"]), (&"a".into(), &daemon.site().cluster().into()), "{record:#}");
        assert!(more["customKeyStoreId"].as_str().unwrap().starts_with("cks-"), "{record:#}");
    }
    let at = |record: &serde_json::Value| record["additionalEventData"]["eventTimeMillis"].as_i64().unwrap();
    assert!(at(&zones[0]) <= at(&zones[1]), "{zones:#?}");
}
