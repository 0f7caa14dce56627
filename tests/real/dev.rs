//! keystored dev, as a person uses it: it says how to call it, and what it made is there the next time.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use crate::harness::aws::{self, AccessKey, Ask, Endpoint, REGION, Scope};
use crate::harness::daemon::Site;
use crate::harness::{Daemon, context, tool};

#[tokio::test(flavor = "multi_thread")]
async fn it_says_how_to_call_it_and_keeps_its_keys() {
    let daemon = Site::prepare().await.launch_dev();
    let (key, ciphertext) = {
        let caller = ready(&daemon).await;
        let key = caller.create_key("made in development").await;
        let ciphertext = caller.encrypt(&key, b"kept", &context(&[])).await.unwrap();
        (key, ciphertext)
    };
    daemon.wait_until_logged("dev.env");
    let log = daemon.log();
    assert!(log.contains("dev.env") && log.contains("keystorectl"), "{log}");
    // What it tells people to type.
    for line in log.lines().filter_map(|line| line.trim().strip_prefix("keystorectl ")) {
        let words: Vec<&str> = line
            .split('\'')
            .flat_map(
                |part| if line.contains(&format!("'{part}'")) { vec![part] } else { part.split_whitespace().collect() },
            )
            .collect();
        daemon.keystorectl(&words).ok();
    }

    let (status, site) = daemon.terminate();
    assert_eq!(status.code(), Some(0));
    let daemon = site.launch_dev();
    let caller = ready(&daemon).await;
    assert_eq!(caller.decrypt(&ciphertext, &context(&[])).await.unwrap(), b"kept");
    assert_eq!(caller.describe_key(&key).await.unwrap().description, "made in development");
}

/// What `app` needs, as keystorectl reads it.
fn app(daemon: &Daemon) -> BTreeMap<String, String> {
    let text = fs::read_to_string(&daemon.site().layout.app_env).unwrap();
    let pairs = text.lines().map(|line| line.split_once('=').unwrap());
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn its_app_may_use_keys_and_nothing_else() {
    let daemon = Site::prepare().await.launch_dev();
    let key = ready(&daemon).await.create_key("for the app").await;
    let plaintext = daemon.site().path().join("plaintext");
    fs::write(&plaintext, "hello").unwrap();
    let plaintext = plaintext.to_str().unwrap().to_owned();
    let as_app = |daemon: &Daemon, arguments: &[&str]| tool::keystorectl(app(daemon), arguments);
    let me = as_app(&daemon, &["whoami"]).ok();
    for fact in ["cn:app", "arn:aws:iam::000000000000:user/app", "KeyUser"] {
        assert!(me.contains(fact), "{fact}: {me}");
    }
    as_app(&daemon, &["encrypt", &key, "--plaintext-file", &plaintext]).ok();
    for forbidden in [
        &["key-store", "disconnect", "--name", "dev"][..],
        &["key", "create"],
        &["key", "disable", &key],
        &["principal", "list"],
    ] {
        let ran = as_app(&daemon, forbidden);
        assert!(ran.code == Some(1) && ran.err.contains("AccessDeniedException"), "{forbidden:?}: {ran:?}");
    }

    // What was changed of it stays so at the next start.
    let arn = "arn:aws:iam::000000000000:user/app";
    daemon.keystorectl(&["policy", "detach", "KeyUser", "--principal", arn]).ok();
    let daemon = daemon.terminate().1.launch_dev();
    ready(&daemon).await;
    let ran = as_app(&daemon, &["encrypt", &key, "--plaintext-file", &plaintext]);
    assert!(ran.code == Some(1) && ran.err.contains("because nothing allows it"), "{ran:?}");
    // One that is gone is made anew.
    daemon.keystorectl(&["principal", "delete", arn, "--yes"]).ok();
    let daemon = daemon.terminate().1.launch_dev();
    ready(&daemon).await;
    as_app(&daemon, &["encrypt", &key, "--plaintext-file", &plaintext]).ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_before_there_were_administrators_says_what_to_do() {
    let site = Site::prepare().await;
    let file = site.layout.config.clone();
    let text = fs::read_to_string(&file).unwrap();
    let line = text.lines().find(|line| line.starts_with("administrators")).unwrap().to_owned();
    fs::write(&file, text.replace(&line, "")).unwrap();
    let daemon = site.launch_dev();
    daemon.wait_until_logged(&line);
    daemon.wait_until_logged("the development key store could not be made");
    fs::write(&file, &text).unwrap();
    daemon.hang_up("the configuration was read again");
    ready(&daemon).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn aws_s_clients_find_all_that_they_need_in_the_files_of_variables() {
    let daemon = Site::prepare().await.launch_dev();
    let key = ready(&daemon).await.create_key("for both").await;
    daemon.wait_until_logged("AWS KMS      https://127.0.0.1:");
    let layout = daemon.site().layout.clone();
    let variables = |file: &std::path::Path| -> BTreeMap<String, String> {
        let text = fs::read_to_string(file).unwrap();
        let pairs = text.lines().map(|line| line.split_once('=').unwrap());
        pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
    };
    let signs = async |file: &std::path::Path, operation: &str, body: serde_json::Value| {
        let variables = variables(file);
        assert_eq!(variables["AWS_REGION"], REGION);
        assert_eq!(variables["AWS_DEFAULT_REGION"], REGION);
        assert_eq!(variables["AWS_ENDPOINT_URL_STS"], variables["AWS_ENDPOINT_URL_KMS"]);
        assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
        let (id, secret) = (variables["AWS_ACCESS_KEY_ID"].clone(), variables["AWS_SECRET_ACCESS_KEY"].clone());
        let key = AccessKey { principal: String::new(), id, secret };
        let address = variables["AWS_ENDPOINT_URL_KMS"].trim_start_matches("https://").parse().unwrap();
        let ca = fs::read_to_string(&variables["AWS_CA_BUNDLE"]).unwrap();
        let config = aws::client(&ca, &[&rustls::version::TLS13]);
        let aws = Endpoint { address, config: std::sync::Arc::new(config) };
        aws.ask(&Ask::kms(operation, &body).sign(&key, &Scope::of("kms"))).await
    };
    let describe = json!({ "KeyId": key });
    for file in [&layout.env, &layout.app_env] {
        let answer = signs(file, "DescribeKey", describe.clone()).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    assert_eq!(signs(&layout.env, "CreateKey", json!({})).await.status, 200);
    assert_eq!(signs(&layout.app_env, "CreateKey", json!({})).await.error().1, "AccessDeniedException");
    // They are the same after another start, and others only where they were taken away.
    let before = variables(&layout.env)["AWS_ACCESS_KEY_ID"].clone();
    let daemon = daemon.terminate().1.launch_dev();
    ready(&daemon).await;
    assert_eq!(variables(&layout.env)["AWS_ACCESS_KEY_ID"], before);
    let administrator = "arn:aws:iam::000000000000:user/administrator";
    daemon.keystorectl(&["access-key", "delete", administrator, &before]).ok();
    let daemon = daemon.terminate().1.launch_dev();
    ready(&daemon).await;
    assert_ne!(variables(&layout.env)["AWS_ACCESS_KEY_ID"], before);
    assert_eq!(signs(&layout.env, "DescribeKey", describe).await.status, 200);
}

async fn ready(daemon: &Daemon) -> crate::harness::Caller {
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    daemon.wait_until_healthy_for(&caller).await;
    caller
}
