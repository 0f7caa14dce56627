//! The daemon's audit log: every result has its record, whatever becomes of the daemon and of the disk, and everybody can
//! check that.

mod away;
mod broken;
mod crash;
mod disk;
mod every_call;
mod follow;
mod lines;
mod moved;
mod network;
mod new_log;
mod permissions;
mod planted;
mod read_only;
mod receipts;
mod refused;
mod sinks;

use proto::v1::EncryptRequest;
use serde_json::{Value, json};
use tonic::metadata::MetadataValue;

use crate::harness::audit::records;
use crate::harness::aws::{Ask, Endpoint, Scope, principal};
use crate::harness::{Daemon, wait};

fn readiness(daemon: &Daemon) -> (u16, Value) {
    let (code, body) = daemon.ops("/readyz").unwrap();
    (code, serde_json::from_str(&body).unwrap())
}

/// Waits until the daemon is not ready, for a reason that says this.
fn wait_until_unready(daemon: &Daemon, says: &str) {
    wait::until(&format!("not ready: {says}"), wait::LONG, || {
        let (code, report) = readiness(daemon);
        (code == 503 && report["reasons"].to_string().contains(says)).then_some(())
    });
    // Read once in a while.
    wait::until("the metrics say so too", wait::LONG, || {
        let (_, metrics) = daemon.ops("/metrics")?;
        let tell = ["keystored_audit_accepting 0", "keystored_degraded{reason=\"audit\"} 1\n"];
        tell.iter().all(|series| metrics.contains(series)).then_some(())
    });
}

/// Waits until nothing is wrong any more.
fn wait_until_sound(daemon: &Daemon) {
    wait::until("nothing is wrong any more", wait::LONG, || {
        let (code, report) = readiness(daemon);
        (code == 200 && report["status"] == "ready").then_some(())
    });
}

/// Waits until records are accepted. A small disk may be full soon all the same, and that is told.
fn wait_until_accepting(daemon: &Daemon) {
    wait::until("records are accepted", wait::LONG, || {
        let (_, metrics) = daemon.ops("/metrics").unwrap();
        (readiness(daemon).0 == 200 && metrics.contains("keystored_audit_accepting 1\n")).then_some(())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_of_every_interface_leave_records_that_everybody_can_check() {
    let daemon = Daemon::start().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("recorded").await;
    let request = EncryptRequest { key_id: key.clone(), plaintext: b"x".to_vec(), ..Default::default() };
    let mut request = caller.request(request);
    request.metadata_mut().insert("x-request-id", MetadataValue::from_static("over-grpc"));
    caller.crypto.clone().encrypt(request).await.unwrap();
    let signer = principal(&caller, "recorded", "Administrator").await;
    let ask = Ask::kms("Encrypt", &json!({ "KeyId": key, "Plaintext": "eA==" }));
    let answer = Endpoint::of(&daemon).ask(&ask.sign(&signer, &Scope::of("kms"))).await;
    assert_eq!(answer.status, 200, "{answer:?}");

    let all = records(&daemon.site().audit_dir());
    let of = |id: &str| -> Vec<&Value> { all.iter().filter(|record| record["requestID"] == id).collect() };
    for (id, interface) in [("over-grpc", "grpc"), (answer.headers["x-amzn-requestid"].as_str(), "aws")] {
        let [record] = &of(id)[..] else { panic!("{id}: {:#?}", of(id)) };
        assert_eq!((&record["eventName"], &record["errorCode"]), (&"Encrypt".into(), &Value::Null), "{record:#}");
        let by = record["additionalEventData"]["interface"].as_str().unwrap();
        assert!(by.to_lowercase().contains(interface), "{record:#}");
        assert_eq!(record["tlsDetails"]["tlsVersion"], "TLSv1.3", "{record:#}");
        let suite = record["tlsDetails"]["cipherSuite"].as_str().unwrap();
        assert!(suite.starts_with("TLS_") && suite.contains("_SHA"), "{record:#}");
        let host = record["tlsDetails"]["clientProvidedHostHeader"].as_str().unwrap();
        assert!(host.contains("localhost") || host.contains("127.0.0.1"), "{record:#}");
        assert!(record["resources"][0]["ARN"].as_str().unwrap().contains(&key), "{record:#}");
    }
    // A change says what it is about to do, and then what came of it.
    let made: Vec<_> = all.iter().filter(|record| record["eventName"] == "CreateKey").collect();
    assert!(made.len() == 2 && made[0]["eventID"] != made[1]["eventID"], "{made:#?}");

    daemon.audit_signed_by_all(&caller, &key).await;
    let checked = daemon.audit_verify();
    assert_eq!(checked.code, Some(0), "{checked:?}");
    let series = [
        "keystored_audit_accepting 1",
        "keystored_audit_hsm_signature_age_seconds{hsm=\"hsm-a\"}",
        "keystored_audit_hsm_signature_age_seconds{hsm=\"hsm-b\"}",
        "keystored_audit_checkpoint_age_seconds{} ",
        "keystored_audit_records_not_accepted_total{reason=\"no_space\"} 0",
    ];
    // Read once in a while.
    wait::until("each series is there", wait::LONG, || {
        let (_, metrics) = daemon.ops("/metrics")?;
        series.iter().all(|series| metrics.lines().any(|line| line.starts_with(series))).then_some(())
    });
    let (status, site) = daemon.terminate();
    assert!(status.success());
    let last = crate::harness::audit::verified(&site.audit_dir());
    assert_eq!((last.behind, last.torn), (0, 0), "the last head is over everything: {last:#?}");
}
