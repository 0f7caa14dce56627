//! The self-test at the gate, end to end: what it finds is shown, what contradicts keeps an HSM out until either side says
//! otherwise, and a report on one HSM can be had.

use chaos_hsm::Control;
use proto::v1::{ConnectionState, DiagnoseHsmRequest, HsmVerdict};
use rustix::process::Signal;
use serde_json::Value;

use crate::harness::daemon::Site;
use crate::harness::{Caller, Daemon, Failure, chaos, context, process, shared, wait};
use crate::iv::wait_until_told;

/// A token that copies nothing, and the setting that it wants.
const NO_COPIES: &str = "[calls.refused]\nC_CopyObject = \"CKR_FUNCTION_NOT_SUPPORTED\"";
const WANTED: &str = "`capabilities.calls.copy_object = false` would be right here";

fn json(daemon: &Daemon, arguments: &[&str]) -> Value {
    let arguments = [arguments, &["--json"]].concat();
    serde_json::from_str(&daemon.keystorectl(&arguments).ok()).unwrap()
}

/// Two zones, the first of which can be told what to do.
async fn serving() -> (Daemon, Caller, Control) {
    let site = Site::prepare().await;
    let control = chaos::control_first(&site);
    let daemon = site.start().await;
    let caller = daemon.caller().await;
    daemon.wait_until_healthy_for(&caller).await;
    (daemon, caller, control)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_found_is_shown() {
    let daemon = shared().await;
    let caller = daemon.caller().await;
    daemon.wait_until_healthy_for(&caller).await;
    for hsm in caller.hsms().await.unwrap() {
        assert!(hsm.findings.len() > 10, "{hsm:?}");
        for finding in &hsm.findings {
            assert!(matches!(finding.verdict(), HsmVerdict::Holds | HsmVerdict::Better), "{finding:?}");
            assert!(finding.sentence.is_empty(), "{finding:?}");
        }
    }
    let shown = json(&daemon, &["key-store", "describe"]);
    let findings = shown["key_stores"][0]["hsms"][0]["findings"].as_array().unwrap();
    let iv = findings.iter().find(|finding| finding["name"] == "gcm.iv").unwrap();
    assert_eq!(iv["verdict"], "holds", "{iv}");
    let text = daemon.keystorectl(&["key-store", "describe"]).ok();
    assert!(text.contains("SELF-TEST") && text.contains(" hold"), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_contradicts_is_out_until_the_token_does_as_is_said() {
    let (daemon, caller, control) = serving().await;
    let key = caller.create_key("in both").await;
    let id = caller.key_stores().await.remove(0).key_store_id;
    // It serves, and nobody looks at copies again before a control worker is let in.
    control.set(NO_COPIES).unwrap();
    let zone = daemon.zone("a");
    zone.keep_copies();
    // The control worker comes first.
    process::signal(zone.workers().into_iter().min().unwrap(), Signal::KILL);
    wait_until_told(&caller, "hsm-a", WANTED).await;
    let store = caller.key_store(&id).await;
    assert_eq!(store.connection_state(), ConnectionState::Connected, "{store:?}");
    assert_eq!(caller.encrypt(&key, b"elsewhere", &context(&[])).await.map(drop), Ok(()));
    let findings = &store.hsms[0].findings;
    let copies = findings.iter().find(|finding| finding.name == "calls.copy_object").unwrap();
    assert_eq!(copies.verdict(), HsmVerdict::Contradicts, "{copies:?}");
    assert!(copies.sentence.contains(WANTED), "{copies:?}");
    let text = daemon.keystorectl(&["key-store", "describe"]).ok();
    assert!(text.contains("contradicts"), "{text}");
    // The report says it as well, though nobody is there to ask.
    let report = json(&daemon, &["cluster", "doctor", "hsm-a"]);
    assert_eq!(report["description"], Value::Null, "{report}");
    assert!(report["reason"].as_str().unwrap().contains("copy_object"), "{report}");
    let text = daemon.keystorectl(&["cluster", "doctor", "hsm-a"]).ok();
    assert!(text.contains("could not be asked") && text.contains("calls.copy_object"), "{text}");

    control.clear().unwrap();
    daemon.wait_until_healthy_for(&caller).await;
    let hsms = caller.hsms().await.unwrap();
    assert!(hsms[0].findings.iter().all(|finding| finding.verdict() != HsmVerdict::Contradicts), "{hsms:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_the_setting_that_was_named_it_serves() {
    let site = Site::prepare().await;
    let control = chaos::control_first(&site);
    control.set(NO_COPIES).unwrap();
    site.configure_hsms(|index, hsm| {
        if index == 0 {
            let said = toml::from_str::<toml::Table>("calls.copy_object = false").unwrap();
            hsm.insert("capabilities".to_owned(), said.into());
            hsm.insert("hot_copies".to_owned(), false.into());
        }
    });
    let daemon = site.start().await;
    let caller = daemon.caller().await;
    daemon.wait_until_healthy_for(&caller).await;
    let key = caller.create_key("where nothing is copied").await;
    let sealed = caller.encrypt(&key, b"plaintext", &context(&[])).await.unwrap();
    assert_eq!(caller.decrypt(&sealed, &context(&[])).await.unwrap(), b"plaintext");
    let report = json(&daemon, &["cluster", "doctor", "hsm-a"]);
    let overrides = report["profile"]["overrides"].as_array().unwrap();
    assert!(overrides.iter().any(|said| said == "calls.copy_object = false"), "{report}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_tells_what_an_hsm_is_and_how_fast() {
    let daemon = Daemon::start().await;
    let caller = daemon.caller().await;
    daemon.wait_until_healthy_for(&caller).await;
    let key = caller.create_key("used meanwhile").await;
    // How fast it is is looked at for some seconds at most: a busy machine may not come to the end of it.
    let report = wait::until("everything is measured", 3 * wait::LONG, || {
        let report = json(&daemon, &["cluster", "doctor", "hsm-a"]);
        let measured = |speed: &Value| speed["per_second"].as_f64().is_some_and(|rate| rate > 0.0);
        let speeds = report["speeds"].as_array().unwrap();
        (speeds.len() == 16 && speeds.iter().all(measured)).then_some(report)
    });
    assert_eq!(report["profile"]["name"], "softhsm");
    assert_eq!(report["profile"]["basis"], "measured");
    let description = &report["description"];
    assert!(description["library"]["manufacturer"].as_str().unwrap().contains("SoftHSM"), "{report}");
    assert!(description["token"]["serial"].as_str().unwrap().len() > 4, "{report}");
    let mechanisms = description["mechanisms"].as_array().unwrap();
    let gcm = mechanisms.iter().find(|of| of["name"] == "CKM_AES_GCM").unwrap();
    assert!(gcm["flags"].as_array().unwrap().iter().any(|flag| flag == "CKF_ENCRYPT"), "{gcm}");
    let speeds = report["speeds"].as_array().unwrap();
    assert_eq!(speeds.len(), 16, "eight things, in one session and in several: {report}");
    assert!(report["findings"].as_array().unwrap().len() > 10, "{report}");

    let text = daemon.keystorectl(&["cluster", "doctor", "--cluster", daemon.site().cluster(), "hsm-b"]).ok();
    for words in ["hsm-b in zone", "softhsm (measured)", "CKF_RNG", "CKM_AES_GCM", "gcm.iv", "get attribute"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    assert!(!text.contains(&daemon.site().first_pin()), "no secret is in it");

    // One at a time; callers are served meanwhile.
    let ask = async || {
        let request = DiagnoseHsmRequest { cluster_id: daemon.site().cluster().to_owned(), hsm_id: "hsm-a".to_owned() };
        caller.clusters.clone().diagnose_hsm(caller.request(request)).await.map(drop).map_err(Failure::from)
    };
    let calls = async {
        for _ in 0..50 {
            caller.encrypt(&key, b"meanwhile", &context(&[])).await.unwrap();
        }
    };
    let (one, other, ()) = tokio::join!(ask(), ask(), calls);
    let failures: Vec<Failure> = [one, other].into_iter().filter_map(Result::err).collect();
    assert_eq!(failures.len(), 1, "{failures:?}");
    assert_eq!(failures[0].reason, "ThrottlingException", "{failures:?}");
    ask().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_report_on_what_is_not_in_use_is_refused() {
    let daemon = Daemon::start().await;
    let caller = daemon.caller().await;
    let ran = daemon.keystorectl(&["cluster", "doctor", "hsm-z"]);
    assert!(ran.code != Some(0) && ran.err.contains("hsm-z"), "{ran:?}");
    let cluster = daemon.site().cluster().to_owned();
    let ran = daemon.keystorectl(&["cluster", "doctor", "--cluster", &cluster, "hsm-z"]);
    assert!(ran.code != Some(0) && ran.err.contains("has no HSM hsm-z"), "{ran:?}");
    let id = caller.key_stores().await.remove(0).key_store_id;
    caller.disconnect(&id).await.unwrap();
    let ran = daemon.keystorectl(&["cluster", "doctor", "hsm-a"]);
    assert!(ran.code != Some(0) && ran.err.contains("connect it"), "{ran:?}");
}

/// A token whose word for a wrong tag is its word for too much to do, as CloudHSM's may be.
const AS_IF_THROTTLED: &str = "[codes.C_Decrypt]\nCKR_GENERAL_ERROR = \"CKR_FUNCTION_FAILED\"";

#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_throttling_keeps_no_hsm_out_and_is_shown() {
    let site = Site::prepare().await;
    let control = chaos::control_first(&site);
    control.set(AS_IF_THROTTLED).unwrap();
    site.configure_hsms(|index, hsm| {
        if index == 0 {
            let said = "codes.meaning = [{ functions = [\"C_Decrypt\"], code = 6, means = \"ambiguous-or-busy\" }]";
            hsm.insert("capabilities".to_owned(), toml::from_str::<toml::Table>(said).unwrap().into());
        }
    });
    let daemon = site.start().await;
    let caller = daemon.caller().await;
    daemon.wait_until_healthy_for(&caller).await;
    let hsms = caller.hsms().await.unwrap();
    for finding in &hsms[0].findings {
        let expected = finding.name == "codes.meaning";
        assert_eq!(finding.verdict() == HsmVerdict::NotJudged, expected, "{finding:?}");
        assert!(finding.sentence.is_empty(), "{finding:?}");
    }
    let shown = json(&daemon, &["key-store", "describe"]);
    let findings = shown["key_stores"][0]["hsms"][0]["findings"].as_array().unwrap();
    let tag = findings.iter().find(|finding| finding["name"] == "codes.meaning").unwrap();
    assert_eq!(tag["verdict"], "not-judged", "{tag}");
    assert!(tag["found"].as_str().unwrap().contains("CKR_FUNCTION_FAILED"), "{tag}");
    let text = daemon.keystorectl(&["cluster", "doctor", "hsm-a"]).ok();
    assert!(text.contains("not-judged"), "{text}");
    // It serves.
    let key = caller.create_key("in both").await;
    let sealed = caller.encrypt(&key, b"plaintext", &context(&[])).await.unwrap();
    assert_eq!(caller.decrypt(&sealed, &context(&[])).await.unwrap(), b"plaintext");
}

/// The data workers have theirs when a control worker starts anew; where the token has no more for it to look with, that is
/// held against nobody.
#[tokio::test(flavor = "multi_thread")]
async fn sessions_that_others_have_keep_no_control_worker_out() {
    let (daemon, caller, control) = serving().await;
    // As many as a worker has that looks at nothing.
    control.set("[calls]\nsessions = 2").unwrap();
    let zone = daemon.zone("a");
    zone.keep_copies();
    // The control worker comes first.
    process::signal(zone.workers().into_iter().min().unwrap(), Signal::KILL);
    daemon.wait_until_logged("no sessions were left to examine the token with");
    daemon.wait_until_healthy_for(&caller).await;
    let key = caller.create_key("made by the new control worker").await;
    assert_eq!(caller.encrypt(&key, b"in both", &context(&[])).await.map(drop), Ok(()));
    let hsms = caller.hsms().await.unwrap();
    assert!(hsms[0].findings.len() > 10, "what was found before stands: {hsms:?}");
    assert!(hsms[0].findings.iter().all(|finding| finding.verdict() != HsmVerdict::Contradicts), "{hsms:?}");
}
