//! Beside its record each call is one line of the daemon's log, for whoever asks for lines of calls.

use std::fs;

use proto::v1::{DisableKeyRequest, EncryptRequest};
use serde_json::json;
use tonic::metadata::MetadataValue;

use crate::harness::Caller;
use crate::harness::aws::{Ask, Endpoint, Scope, principal};
use crate::harness::daemon::Site;

fn filtered(site: &Site, filter: &str) {
    site.configure(|config| {
        let log = config.entry("log").or_insert_with(|| toml::Table::new().into());
        log.as_table_mut().unwrap().insert("filter".to_owned(), filter.into());
    });
}

async fn encrypt(caller: &Caller, key: &str, id: &'static str) -> bool {
    let request = EncryptRequest { key_id: key.to_owned(), plaintext: b"x".to_vec(), ..Default::default() };
    let mut request = caller.request(request);
    request.metadata_mut().insert("x-request-id", MetadataValue::from_static(id));
    caller.crypto.clone().encrypt(request).await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_call_is_one_line_at_debug_and_none_otherwise() {
    let site = Site::prepare().await;
    filtered(&site, "info,keystored=debug");
    let daemon = site.start().await;
    let caller = daemon.caller().await;
    let (key, other) = (caller.create_key("used").await, caller.create_key("switched off").await);
    assert!(encrypt(&caller, &key, "line-of-success").await);
    assert!(!encrypt(&caller, "no such key", "line-of-failure").await);
    // A change has two records, and one line.
    let mut request = caller.request(DisableKeyRequest { key_id: other });
    request.metadata_mut().insert("x-request-id", MetadataValue::from_static("line-of-change"));
    caller.keys.clone().disable_key(request).await.unwrap();
    let signer = principal(&caller, "lines", "Administrator").await;
    let ask = Ask::kms("Encrypt", &json!({ "KeyId": key, "Plaintext": "eA==" }));
    let answer = Endpoint::of(&daemon).ask(&ask.sign(&signer, &Scope::of("kms"))).await;
    assert_eq!(answer.status, 200, "{answer:?}");

    let site = daemon.terminate().1;
    filtered(&site, "info");
    let daemon = site.launch();
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    daemon.wait_until_healthy_for(&caller).await;
    assert!(encrypt(&caller, &key, "no-line").await);
    let site = daemon.terminate().1;
    let log = fs::read_to_string(site.path().join("daemon.log")).unwrap();
    let of = |id: &str| log.lines().filter(|line| line.contains(id)).collect::<Vec<_>>();
    for id in ["line-of-success", "line-of-failure", "line-of-change", answer.headers["x-amzn-requestid"].as_str()] {
        let [line] = &of(id)[..] else { panic!("{id}: {:#?}", of(id)) };
        assert!(line.contains("DEBUG") && line.contains("call"), "{line}");
    }
    assert!(of("no-line").is_empty(), "{:#?}", of("no-line"));
}
