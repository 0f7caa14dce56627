//! keystorectl against a daemon: every verb in text and JSON, exit codes, and what errors say.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use model::clock::Clock;
use serde_json::Value;

use crate::harness::tool::Ran;
use crate::harness::{Daemon, bytes, shared, wait};

/// keystorectl with something on its standard input.
fn fed(daemon: &Daemon, arguments: &[&str], input: &[u8]) -> Ran {
    let mut child = Command::new(env!("CARGO_BIN_EXE_keystorectl"))
        .args(arguments)
        .envs(daemon.environment().unwrap())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that refuses its arguments does not read.
    let _ = child.stdin.take().unwrap().write_all(input);
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ran { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
}

fn json(daemon: &Daemon, arguments: &[&str]) -> Value {
    let arguments = [arguments, &["--json"]].concat();
    serde_json::from_str(&daemon.keystorectl(&arguments).ok()).unwrap()
}

#[track_caller]
fn refused(ran: &Ran, code: i32, says: &[&str]) {
    assert_eq!(ran.code, Some(code), "{}{}", ran.out, ran.err);
    for text in says {
        assert!(ran.err.contains(text), "'{text}' is not in:\n{}", ran.err);
    }
    assert_eq!(ran.out, "", "a failure prints no result");
}

fn new_key(daemon: &Daemon) -> String {
    json(daemon, &["key", "create", "--description", "of the command"])["key_id"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_verb_answers_in_text_and_in_json() {
    let daemon = shared().await;
    let made = json(&daemon, &["key", "create", "--description", "text and json", "--client-token", "once"]);
    let (id, arn) = (made["key_id"].as_str().unwrap(), made["arn"].as_str().unwrap());
    let again = json(&daemon, &["key", "create", "--description", "text and json", "--client-token", "once"]);
    assert_eq!(made, again);
    assert_eq!(made["key_state"], "Enabled");
    assert_eq!(json(&daemon, &["key", "describe", arn]), made);
    let text = daemon.keystorectl(&["key", "describe", id]).ok();
    assert!(text.contains(arn) && text.contains("text and json") && text.contains("Present"), "{text}");

    assert!(daemon.keystorectl(&["key", "list"]).ok().contains(id));
    let listed = json(&daemon, &["key", "list"]);
    let listed = listed["keys"].as_array().unwrap();
    assert!(listed.iter().any(|key| key["key_arn"] == arn && key["key_id"] == id));
    assert_eq!(json(&daemon, &["key", "list", "--limit", "1"])["keys"].as_array().unwrap().len(), 1);

    let stores = json(&daemon, &["key-store", "describe"]);
    let store = &stores["key_stores"][0];
    assert_eq!(store["connection_state"], "CONNECTED");
    assert_eq!(store["hsms"].as_array().unwrap().len(), daemon.zones.len());
    let store_id = store["key_store_id"].as_str().unwrap();
    assert_eq!(json(&daemon, &["key-store", "describe", store_id])["key_stores"][0]["key_store_id"], store_id);
    assert!(daemon.keystorectl(&["key-store", "describe"]).ok().contains("Healthy"));

    wait_until_serving(&daemon);
    assert_eq!(json(&daemon, &["health"])["serving"], true);

    let data_key = json(&daemon, &["data-key", "generate", id, "--context", "a=b"]);
    let opened = fed(
        &daemon,
        &["decrypt", "--context", "a=b", "--key", id],
        data_key["ciphertext_blob"].as_str().unwrap().as_bytes(),
    );
    assert_eq!(opened.ok().trim(), data_key["plaintext"].as_str().unwrap());
    let wrapped = json(&daemon, &["data-key", "generate", id, "--bytes", "64", "--without-plaintext"]);
    assert!(wrapped.get("plaintext").is_none() && wrapped["ciphertext_blob"].is_string());

    // 16 bytes are 24 characters of base64 and a newline.
    assert_eq!(daemon.keystorectl(&["random", "--bytes", "16"]).ok().len(), 25);
    assert_eq!(json(&daemon, &["random", "--bytes", "16"])["plaintext"].as_str().unwrap().len(), 24);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_encrypted_in_one_form_decrypts_in_each() {
    let daemon = shared().await;
    let key = new_key(&daemon);
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (plain, raw) = (path("plain"), path("raw"));
    fs::write(&plain, b"a plaintext").unwrap();

    let context = ["--context", "purpose=test", "--context", "empty="];
    let base64 = fed(&daemon, &[&["encrypt", &key], &context[..]].concat(), b"a plaintext").ok();
    let from_file = [&["encrypt", &key, "--plaintext-file", &plain, "--raw", "--out", &raw], &context[..]].concat();
    daemon.keystorectl(&from_file).ok();
    assert_eq!(fs::read(&raw).unwrap()[0], 1);
    for ciphertext in [base64.as_bytes(), &fs::read(&raw).unwrap()] {
        let opened = fed(&daemon, &[&["decrypt", "--raw"], &context[..]].concat(), ciphertext).ok();
        assert_eq!(opened, "a plaintext");
    }

    // The output of a failed call is not touched, and one that exists is replaced only by force.
    let refusal = fed(&daemon, &["decrypt", "--out", &plain], base64.as_bytes());
    refused(&refusal, 1, &["InvalidCiphertextException", "--context"]);
    let exists = fed(&daemon, &[&["decrypt", "--out", &plain], &context[..]].concat(), base64.as_bytes());
    refused(&exists, 5, &["exists already", "--force"]);
    assert_eq!(fs::read(&plain).unwrap(), b"a plaintext");

    let other = new_key(&daemon);
    let wrong = fed(&daemon, &[&["decrypt", "--key", &other], &context[..]].concat(), base64.as_bytes());
    refused(&wrong, 1, &["IncorrectKeyException"]);
    refused(&fed(&daemon, &["decrypt"], b"neither of both"), 5, &["neither base64"]);
    refused(&fed(&daemon, &["encrypt", &key], &[0; 4097]), 5, &["longer than 4096", "file seal"]);
    refused(&fed(&daemon, &["encrypt", &key], b""), 1, &["ValidationException", "plaintext"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn exit_codes_and_hints_tell_whose_turn_it_is() {
    let daemon = shared().await;
    let unknown = "00000000-0000-0000-0000-000000000000";
    refused(&daemon.keystorectl(&["key", "describe", unknown]), 1, &["NotFoundException", "key list"]);
    refused(&daemon.keystorectl(&["key-store", "describe", "cks-none"]), 1, &["CustomKeyStoreNotFoundException"]);
    refused(&daemon.keystorectl(&["no-such-verb"]), 2, &["--help"]);
    refused(&daemon.keystorectl(&["random", "--bytes", "0"]), 2, &["1..=1024"]);
    refused(&daemon.keystorectl(&["random", "--raw", "--json"]), 2, &["exclude each other"]);
    refused(&daemon.keystorectl(&["key", "create", "--timeout", "1ms"]), 4, &["--timeout"]);
    refused(&daemon.keystorectl(&["key", "list", "--ca", "/nowhere/ca.pem"]), 5, &["/nowhere/ca.pem"]);
    refused(&daemon.keystorectl(&["health", "--address", "https://127.0.0.1:1"]), 3, &["nothing listens there"]);
    refused(&daemon.keystorectl(&["health", "--address", "http://127.0.0.1:1"]), 3, &["https://HOST:PORT"]);

    let failure = daemon.keystorectl(&["--json", "key", "describe", unknown]);
    let error: Value = serde_json::from_str(&failure.err).unwrap();
    assert_eq!(error["error"]["exception"], "NotFoundException");
    assert_eq!(error["error"]["exit_code"], 1);
    assert_eq!(error["error"]["retryable"], false);
    let id = error["error"]["request_id"].as_str().unwrap();
    // The call is found in the audit log.
    daemon.wait_until_recorded(id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_certificate_is_refused_in_plain_words() {
    let daemon = shared().await;
    let directory = tempfile::tempdir().unwrap();
    let (now, day) = (Clock::system().calendar(), Duration::from_secs(86_400));
    let foreign = pki::Authority::generate("foreign", now, day).unwrap();
    let issued = foreign.client("mallory", None, now, day).unwrap();
    let write = |name: &str, content: &[u8]| {
        let path = directory.path().join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let certificate = write("mallory.pem", issued.certificate.as_bytes());
    let key = write("mallory.key", issued.key.expose());
    let authority = write("foreign.pem", foreign.certificate().as_bytes());
    let ran = daemon.keystorectl(&["health", "--cert", &certificate, "--cert-key", &key]);
    refused(&ran, 3, &["does not accept the client certificate", "--cert-key"]);
    let ran = daemon.keystorectl(&["health", "--ca", &authority]);
    refused(&ran, 3, &["not signed by the given CA", "--ca"]);
    let ran = daemon.keystorectl(&["health", "--cert", &certificate]);
    refused(&ran, 3, &["cannot be used"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_of_variables_is_all_that_is_needed() {
    let daemon = shared().await;
    let directory = tempfile::tempdir().unwrap();
    let env_file = directory.path().join("dev.env");
    let lines = daemon.environment().unwrap().into_iter().map(|(name, value)| format!("{name}={value}\n"));
    fs::write(&env_file, lines.collect::<String>()).unwrap();
    let env_file = env_file.to_str().unwrap().to_owned();
    let run = |arguments: &[&str]| crate::harness::tool::keystorectl(std::collections::BTreeMap::new(), arguments);
    assert!(run(&["key-store", "describe", "--env-file", &env_file]).ok().contains("CONNECTED"));
    refused(&run(&["health"]), 2, &["KEYSTORED_ADDRESS", "--env-file"]);
    let both = ["access-key", "create", "arn:aws:iam::000000000000:user/a", "--env", "--json", "--env-file", &env_file];
    refused(&run(&both), 2, &["--env and --json"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_file_opens_to_what_it_was() {
    let daemon = shared().await;
    let key = new_key(&daemon);
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (input, sealed, output) = (path("input"), path("sealed"), path("output"));
    for length in [0, 1, 5_000_000] {
        fs::write(&input, bytes(length, 7)).unwrap();
        let told = json(&daemon, &["file", "seal", &key, &input, &sealed, "--force"]);
        assert_eq!(told["plaintext_bytes"], length);
        assert_eq!(told["sealed_bytes"], fs::metadata(&sealed).unwrap().len());
        assert_eq!(told["chunks"], length.div_ceil(256 << 10).max(1));
        let told = daemon.keystorectl(&["file", "open", &sealed, &output, "--force"]).ok();
        assert!(told.contains(&format!("{length} bytes")), "{told}");
        assert!(fs::read(&output).unwrap() == bytes(length, 7), "{length}");
    }
    // Two files under one key have nothing in common.
    let second = path("second");
    daemon.keystorectl(&["file", "seal", &key, &input, &second, "--chunk-kib", "64"]).ok();
    assert_ne!(fs::read(&sealed).unwrap()[10..90], fs::read(&second).unwrap()[10..90]);
    assert_eq!(names(directory.path()), ["input", "output", "sealed", "second"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_altered_sealed_file_leaves_nothing_behind() {
    let daemon = shared().await;
    let key = new_key(&daemon);
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let (input, sealed, altered, output) = (path("input"), path("sealed"), path("altered"), path("output"));
    fs::write(&input, bytes(5_000_000, 3)).unwrap();
    daemon.keystorectl(&["file", "seal", &key, &input, &sealed]).ok();
    let good = fs::read(&sealed).unwrap();
    let flipped = |at: usize| {
        let mut bytes = good.clone();
        bytes[at] ^= 1;
        bytes
    };
    let chunk = (256 << 10) + 16;
    let head = good.len() - 5_000_000 - 20 * 16;
    let cases: [(&str, Vec<u8>, i32, &str); 9] = [
        ("first chunk", flipped(head), 5, "chunk 1 "),
        ("middle", flipped(2_500_000), 5, "is damaged"),
        ("last byte", flipped(good.len() - 1), 5, "chunk 20 "),
        ("cut at a chunk", good[..head + 3 * chunk].to_vec(), 5, "chunk 3 "),
        ("cut in the header", good[..40].to_vec(), 5, "not a sealed file"),
        ("longer", [&good[..], b"x"].concat(), 5, "chunk 20 "),
        ("chunk dropped", [&good[..head], &good[head + chunk..]].concat(), 5, "chunk 1 "),
        ("wrapped key", flipped(60), 1, "InvalidCiphertextException"),
        ("file id", flipped(12), 1, "InvalidCiphertextException"),
    ];
    for (name, bytes, code, says) in cases {
        fs::write(&altered, bytes).unwrap();
        let ran = daemon.keystorectl(&["file", "open", &altered, &output]);
        assert_eq!(ran.code, Some(code), "{name}: {}", ran.err);
        assert!(ran.err.contains(says), "{name}: {}", ran.err);
        assert_eq!(names(directory.path()), ["altered", "input", "sealed"], "{name}");
    }
    // What stood there before stays, and the input is safe from --force.
    fs::write(&output, b"precious").unwrap();
    refused(&daemon.keystorectl(&["file", "open", &altered, &output, "--force"]), 1, &["header of the file"]);
    refused(&daemon.keystorectl(&["file", "open", &sealed, &output]), 5, &["exists already", "--force"]);
    assert_eq!(fs::read(&output).unwrap(), b"precious");
    refused(&daemon.keystorectl(&["file", "seal", &key, &input, &input, "--force"]), 5, &["the input itself"]);
    assert!(fs::read(&input).unwrap() == bytes(5_000_000, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_load_generator_counts_what_it_does() {
    let daemon = shared().await;
    let key = new_key(&daemon);
    for (arguments, calls, items) in [
        (&["unary", "--calls", "200", "--in-flight", "8", "--connections", "2"][..], 200, 200),
        (&["unary", "--calls", "100", "--operation", "decrypt"], 100, 100),
        (&["unary", "--calls", "100", "--operation", "generate-data-key"], 100, 100),
        (&["unary", "--calls", "100", "--operation", "re-encrypt", "--contexts", "3"], 100, 100),
        (&["unary", "--calls", "50", "--rate", "500"], 50, 50),
        (&["batch", "--calls", "20", "--batch-size", "50", "--in-flight", "2"], 20, 1_000),
        (&["batch", "--calls", "5", "--batch-size", "1000", "--operation", "decrypt", "--in-flight", "1"], 5, 5_000),
        (&["batch", "--calls", "5", "--batch-size", "100", "--operation", "re-encrypt"], 5, 500),
        (&["stream", "--calls", "1000", "--in-flight", "100", "--connections", "2"], 1_000, 1_000),
        (&["stream", "--calls", "300", "--operation", "decrypt"], 300, 300),
        (&["stream", "--calls", "200", "--operation", "re-encrypt"], 200, 200),
    ] {
        let figures = json(&daemon, &[&["bench"], arguments, &["--key", &key]].concat());
        assert_eq!((&figures["calls"], &figures["items"]), (&calls.into(), &items.into()), "{figures}");
        assert_eq!(figures["errors"], Value::Object(serde_json::Map::new()), "{arguments:?}");
        let at = |name: &str| figures[name].as_f64().unwrap();
        assert!(0.0 < at("p50_us") && at("p50_us") <= at("p99_us") && at("p999_us") <= at("max_us"), "{figures}");
        assert!(at("items_per_second") > 0.0);
    }
    let nothing = daemon.keystorectl(&["bench", "unary", "--key", "nonsense", "--calls", "10"]);
    assert_eq!(nothing.code, Some(1));
    assert!(nothing.out.contains("NotFoundException") && nothing.err.contains("key list"), "{nothing:?}");
}

/// The health service follows the HSMs a moment later.
fn wait_until_serving(daemon: &Daemon) {
    wait::until("keystorectl health says serving", wait::LONG, || {
        let ran = daemon.keystorectl(&["health"]);
        assert!(matches!(ran.code, Some(0 | 4)), "{}", ran.err);
        (ran.code == Some(0)).then(|| assert_eq!(ran.out, "serving\n"))
    });
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}
