//! A key store's life by the operators' own command, as the README goes through it.

use std::fs;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::harness::Daemon;
use crate::harness::daemon::Site;

/// A daemon without a key store that rotates, and what `key-store create` needs: trust anchor and PIN as files.
async fn bare() -> (Daemon, PathBuf, PathBuf) {
    let site = Site::prepare().await;
    site.rotate(true);
    let (anchor, pin) = (site.path().join("anchor.crt"), site.path().join("pin"));
    fs::write(&anchor, site.trust_anchor()).unwrap();
    write_secret(&pin, &site.first_pin());
    let daemon = site.launch();
    daemon.wait_until_ready();
    (daemon, anchor, pin)
}

pub(crate) fn write_secret(path: &Path, secret: &str) {
    let mut options = fs::OpenOptions::new();
    let mut file = options.create(true).write(true).truncate(true).mode(0o600).open(path).unwrap();
    std::io::Write::write_all(&mut file, format!("{secret}\n").as_bytes()).unwrap();
}

fn create(daemon: &Daemon, anchor: &Path, pin: &Path) -> String {
    let (anchor, pin) = (anchor.to_str().unwrap(), pin.to_str().unwrap());
    let cluster = daemon.site().cluster();
    let arguments =
        ["key-store", "create", "lab", "--cluster", cluster, "--trust-anchor", anchor, "--password-file", pin];
    daemon.keystorectl(&arguments).ok().trim().to_owned()
}

fn json(daemon: &Daemon, arguments: &[&str]) -> Value {
    serde_json::from_str(&daemon.keystorectl(&[arguments, &["--json"]].concat()).ok()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_verb_of_a_key_store_does_what_it_says() {
    let (daemon, anchor, pin) = bare().await;
    let id = create(&daemon, &anchor, &pin);
    assert!(id.starts_with("cks-"), "{id}");
    assert_eq!(create(&daemon, &anchor, &pin), id, "the same call gives the same store");
    let status = json(&daemon, &["cluster", "status"]);
    assert_eq!(status["clusters"][0]["key_store_id"], id.as_str(), "{status}");
    assert!(daemon.keystorectl(&["key-store", "describe", &id]).ok().contains("DISCONNECTED"));

    // Each HSM's steps are told as they happen, on standard error; the outcome is on standard output.
    let ran = daemon.keystorectl(&["key-store", "connect", &id, "--wait"]);
    for hsm in ["hsm-a", "hsm-b"] {
        for step in ["starting its worker", "logging in", "proving its identity", "rotating kmsuser's PIN"] {
            let told = ran.err.lines().any(|line| line.contains(hsm) && line.contains(step));
            assert!(told, "'{step}' of {hsm} is not told in:\n{}", ran.err);
        }
    }
    assert!(ran.ok().contains("Connected lab"));
    let text = daemon.keystorectl(&["cluster", "status"]).ok();
    assert!(text.contains("hsm-a") && text.contains("hsm-b") && text.contains(&id), "{text}");

    let key = json(&daemon, &["key", "create"])["key_id"].as_str().unwrap().to_owned();
    daemon.keystorectl(&["key", "disable", &key]).ok();
    assert_eq!(json(&daemon, &["key", "describe", &key])["key_state"], "Disabled");
    daemon.keystorectl(&["key", "enable", &key]).ok();
    assert_eq!(json(&daemon, &["key", "describe", &key])["key_state"], "Enabled");

    daemon.keystorectl(&["key-store", "update", &id, "--new-name", "laboratory"]).ok();
    daemon.keystorectl(&["key-store", "disconnect", "--name", "laboratory", "--wait"]).ok();
    assert_eq!(json(&daemon, &["key", "describe", &key])["key_state"], "Unavailable");
    let refused = daemon.keystorectl(&["key-store", "delete", &id, "--yes"]);
    assert_eq!(refused.code, Some(1), "{}", refused.err);
    assert!(refused.err.contains("CustomKeyStoreHasCMKsException"), "{}", refused.err);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_connect_exits_with_what_to_do() {
    let (daemon, anchor, pin) = bare().await;
    let id = create(&daemon, &anchor, &pin);
    let wrong = daemon.site().path().join("wrong");
    write_secret(&wrong, "not-the-PIN");
    let wrong = wrong.to_str().unwrap();
    daemon.keystorectl(&["key-store", "update", &id, "--password-file", wrong, "--hsm", "hsm-b"]).ok();
    let failed = daemon.keystorectl(&["key-store", "connect", &id, "--wait"]);
    assert_eq!(failed.code, Some(1), "{}", failed.err);
    for words in ["INVALID_CREDENTIALS", "hsm-b", "key-store disconnect", "key-store update", "--ask-password"] {
        assert!(failed.err.contains(words), "'{words}' is not in:\n{}", failed.err);
    }
    assert!(!failed.err.contains("not-the-PIN"));
    // What it says is what helps.
    daemon.keystorectl(&["key-store", "disconnect", &id, "--wait"]).ok();
    let pin = pin.to_str().unwrap();
    daemon.keystorectl(&["key-store", "update", &id, "--password-file", pin, "--hsm", "hsm-b"]).ok();
    daemon.keystorectl(&["key-store", "connect", &id, "--wait"]).ok();
    daemon.keystorectl(&["key-store", "disconnect", &id, "--wait"]).ok();
    daemon.keystorectl(&["key-store", "delete", &id, "--yes"]).ok();
    assert!(daemon.keystorectl(&["key-store", "describe"]).ok().contains("no key stores"));
}
