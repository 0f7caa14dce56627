//! Nothing secret in what the daemon writes: planted values are looked for in every file, in every spelling.

use std::fs;
use std::path::{Path, PathBuf};

use proto::v1::{
    CreateAccessKeyRequest, CreateGrantRequest, DataKeySpec, DescribeKeyRequest, GenerateDataKeyRequest,
    GenerateRandomRequest,
};

use crate::access::{make_user, user};
use crate::harness::audit::records;
use crate::harness::daemon::Site;
use crate::harness::{context, shared};

#[tokio::test(flavor = "multi_thread")]
async fn planted_secrets_are_in_no_log_and_no_file() {
    let site = Site::prepare().await;
    site.configure(|config| {
        let log = config.entry("log").or_insert_with(|| toml::Table::new().into());
        // Everything of ours at its most talkative. h2's own tracing shows frames; nobody runs it in production.
        log.as_table_mut().unwrap().insert("filter".to_owned(), "info,keystored=trace".into());
    });
    let daemon = site.start().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("planted").await;

    let mut planted: Vec<(String, Vec<u8>)> = Vec::new();
    for zone in &daemon.zones {
        planted.push((format!("PIN of zone {}", zone.name), zone.pin().into_bytes()));
    }
    let plaintext = b"planted-plaintext-0123456789-abcdefghij".to_vec();
    let pairs = context(&[("visible", "context")]);
    let ciphertext = caller.encrypt(&key, &plaintext, &pairs).await.unwrap();
    caller.decrypt(&ciphertext, &pairs).await.unwrap();
    planted.push(("plaintext".to_owned(), plaintext.clone()));
    // Calls that fail carry it too, and are told why.
    let mut told = vec![
        format!("{:?}", caller.encrypt("no such key", &plaintext, &pairs).await.unwrap_err()),
        format!("{:?}", caller.encrypt(&key, &plaintext.repeat(200), &pairs).await.unwrap_err()),
        format!("{:?}", caller.decrypt(&plaintext, &pairs).await.unwrap_err()),
        format!("{:?}", caller.decrypt(&ciphertext, &context(&[])).await.unwrap_err()),
    ];

    let mut request = GenerateDataKeyRequest { key_id: key.clone(), ..Default::default() };
    request.set_key_spec(DataKeySpec::Aes256);
    planted.push(("data key".to_owned(), caller.generate_data_key(request).await.unwrap().plaintext));
    let request = caller.request(GenerateRandomRequest { number_of_bytes: Some(32), ..Default::default() });
    let random = caller.crypto.clone().generate_random(request).await.unwrap().into_inner().plaintext;
    planted.push(("random bytes".to_owned(), random));

    make_user(&caller, "planted", None).await;
    let request = caller.request(CreateAccessKeyRequest { principal: user("planted") });
    let made = caller.access.clone().create_access_key(request).await.unwrap().into_inner();
    planted.push(("secret of an access key".to_owned(), made.secret_access_key.into_bytes()));

    let request = CreateGrantRequest {
        key_id: key.clone(),
        grantee_principal: user("planted"),
        operations: vec!["Decrypt".to_owned()],
        ..Default::default()
    };
    let grant = caller.keys.clone().create_grant(caller.request(request)).await.unwrap().into_inner();
    let grant_tokens = vec![grant.grant_token.clone()];
    let request = caller.request(DescribeKeyRequest { key_id: key.clone(), grant_tokens });
    caller.keys.clone().describe_key(request).await.unwrap();
    planted.push(("grant token".to_owned(), grant.grant_token.into_bytes()));
    told.push(daemon.ops("/metrics").unwrap().1);
    told.push(daemon.ops("/readyz").unwrap().1);

    let pin_files: Vec<PathBuf> = daemon.zones.iter().map(|zone| zone.pin_file.clone()).collect();
    let (status, site) = daemon.terminate();
    assert!(status.success());
    let mut looked_at = 0;
    for file in files(site.path()) {
        // The PIN's own file is where it belongs; development's is the only one that holds it.
        let is_pin_file = pin_files.iter().any(|pin| same(pin, &file));
        let content = fs::read(&file).unwrap();
        looked_at += 1;
        for (what, secret) in planted.iter().filter(|(what, _)| !(is_pin_file && what.starts_with("PIN"))) {
            assert_eq!(found_in(&content, secret), None, "{what} in {}", file.display());
        }
    }
    assert!(looked_at > 10, "only {looked_at} files looked at");
    // The audit log has records of all of it.
    let recorded = records(&site.audit_dir());
    for event in ["Encrypt", "Decrypt", "GenerateDataKey", "GenerateRandom", "CreateAccessKey", "CreateGrant"] {
        assert!(recorded.iter().any(|record| record["eventName"] == event), "{event} is not among them");
    }
    // Bundles may be compressed by now. And no record has a ciphertext.
    told.extend(recorded.iter().map(ToString::to_string));
    planted.push(("ciphertext".to_owned(), ciphertext));
    for (what, secret) in &planted {
        for text in &told {
            assert_eq!(found_in(text.as_bytes(), secret), None, "{what} in {text}");
        }
    }
}

/// As what a secret is found in it.
fn found_in(content: &[u8], secret: &[u8]) -> Option<&'static str> {
    let forms = spellings(secret).into_iter();
    let mut found = forms.filter(|(_, spelled)| content.windows(spelled.len()).any(|window| window == spelled));
    found.next().map(|(form, _)| form)
}

/// The PIN is in no process's arguments or environment.
#[tokio::test(flavor = "multi_thread")]
async fn the_pin_is_in_no_command_line() {
    let daemon = shared().await;
    let group = crate::harness::process::family(daemon.pid());
    assert!(group.len() > 2, "{group:?}");
    for zone in &daemon.zones {
        for pid in &group {
            let arguments = crate::harness::process::arguments(*pid);
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            let pin = zone.pin();
            assert!(!arguments.contains(&pin), "{arguments}");
            assert!(!environment.windows(pin.len()).any(|window| window == pin.as_bytes()), "process {pid}");
        }
    }
}

/// A search that finds nothing anywhere proves nothing.
#[test]
fn every_spelling_is_known() {
    let forms: Vec<String> = spellings(b"\x00\xffA>")
        .into_iter()
        .map(|(_, spelled)| String::from_utf8_lossy(&spelled).into_owned())
        .collect();
    for wanted in ["00ff413e", "00FF413E", "AP9B", "0, 255, 65, 62"] {
        assert!(forms.iter().any(|form| form.contains(wanted)), "{wanted} is not among {forms:?}");
    }
}

pub(crate) fn spellings(secret: &[u8]) -> Vec<(&'static str, Vec<u8>)> {
    let each = |show: fn(&u8) -> String, between: &str| secret.iter().map(show).collect::<Vec<_>>().join(between);
    // Only whole groups of three bytes have the same base64 whatever comes after them.
    let whole = &secret[..secret.len() / 3 * 3];
    let standard = base64(whole);
    vec![
        ("raw bytes", secret.to_vec()),
        ("hex", each(|byte| format!("{byte:02x}"), "").into_bytes()),
        ("hex in capitals", each(|byte| format!("{byte:02X}"), "").into_bytes()),
        ("a list of numbers", each(u8::to_string, ", ").into_bytes()),
        ("an escaped string", secret.escape_ascii().to_string().into_bytes()),
        ("base64 for URLs", standard.replace('+', "-").replace('/', "_").into_bytes()),
        ("base64", standard.into_bytes()),
    ]
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |three: &[u8]| {
        let number = three.iter().fold(0_usize, |number, byte| number << 8 | usize::from(*byte));
        [18, 12, 6, 0].map(|shift| char::from(DIGITS[number >> shift & 63]))
    };
    bytes.chunks_exact(3).flat_map(group).collect()
}

pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(Result::unwrap);
    entries
        .flat_map(|entry| match entry.file_type().unwrap() {
            kind if kind.is_dir() => files(&entry.path()),
            kind if kind.is_file() => vec![entry.path()],
            _ => Vec::new(),
        })
        .collect()
}

fn same(one: &Path, other: &Path) -> bool {
    one.canonicalize().ok() == other.canonicalize().ok()
}
