//! What the objects in the tokens are, read by others: pkcs11-tool, and SoftHSM's own reader of object files.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::harness::zone::{Zone, object_id};
use crate::harness::{Daemon, shared, tool};

#[tokio::test(flavor = "multi_thread")]
async fn both_tokens_hold_the_key_and_neither_gives_it_away() {
    let daemon = shared().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("its attributes").await;
    let arn = caller.describe_key(&key).await.unwrap().arn;
    for zone in &daemon.zones {
        let objects = zone.pkcs11_tool(&["--list-objects", "--type", "secrkey"]);
        let object = objects.split("Secret Key Object").find(|text| text.contains(&object_id(&key, 1)));
        let object = object.unwrap_or_else(|| panic!("zone {} lacks {key}:\n{objects}", zone.name));
        assert!(object.starts_with("; AES"), "{object}");
        assert!(object.contains(&arn), "{object}");
        assert_eq!(line(object, "Usage:"), "encrypt, decrypt", "{object}");
        let access = line(object, "Access:");
        assert!(access.contains("sensitive") && !access.contains(" extractable"), "{object}");
        assert!(!access.starts_with("extractable"), "{object}");

        let out = daemon.site().path().join("extracted");
        let read = read_object(zone, &object_id(&key, 1), &out);
        assert_ne!(read.code, Some(0), "{read:?}");
        assert!(fs::metadata(&out).map_or(0, |meta| meta.len()) == 0, "key material came out");
    }
}

/// SoftHSM keeps each object in a file and encrypts only what is secret: the attributes stand there in clear.
#[tokio::test(flavor = "multi_thread")]
async fn on_disk_every_key_that_encrypts_does_nothing_else() {
    // One of its own: a key that another test is just making is on disk half-written, with the token's defaults.
    let daemon = Daemon::start().await;
    let caller = daemon.caller().await;
    caller.create_key("one").await;
    caller.create_key("two").await;
    for zone in &daemon.zones {
        let keys: Vec<String> = object_files(&zone.tokens())
            .into_iter()
            .map(|file| tool::run(Command::new("softhsm2-dump-file").arg(file)).out)
            .filter(|dump| dump.contains("CKO_SECRET_KEY") && attribute(dump, "CKA_ENCRYPT") == Some(true))
            .collect();
        // Two keys and the canary at least.
        assert!(keys.len() >= 3, "only {} keys in zone {}", keys.len(), zone.name);
        for dump in keys {
            assert!(dump.contains("CKK_AES"), "{dump}");
            // The value is encrypted on disk: 16 bytes of IV, 32 of key, 16 of padding make an AES-256 key.
            let value: Vec<_> = dump.lines().skip_while(|line| !line.ends_with(" CKA_VALUE")).take(3).collect();
            assert!(value.last().is_some_and(|length| length.ends_with("(length 64)")), "{dump}");
            for (name, value) in [
                ("CKA_TOKEN", true),
                ("CKA_PRIVATE", true),
                ("CKA_SENSITIVE", true),
                ("CKA_EXTRACTABLE", false),
                ("CKA_DECRYPT", true),
                ("CKA_WRAP", false),
                ("CKA_UNWRAP", false),
                ("CKA_SIGN", false),
                ("CKA_VERIFY", false),
                ("CKA_DERIVE", false),
                ("CKA_COPYABLE", false),
                ("CKA_MODIFIABLE", false),
            ] {
                assert_eq!(attribute(&dump, name), Some(value), "{name} in zone {}:\n{dump}", zone.name);
            }
        }
    }
}

/// The wrapping key must not serve to read what it wrapped: no decryption, and whatever it unwraps stays inside.
#[tokio::test(flavor = "multi_thread")]
async fn the_wrapping_key_wraps_and_unwraps_only() {
    // One of its own: a key that another test is just making is on disk half-written, with the token's defaults.
    let daemon = Daemon::start().await;
    for zone in &daemon.zones {
        let wrapping: Vec<String> = object_files(&zone.tokens())
            .into_iter()
            .map(|file| tool::run(Command::new("softhsm2-dump-file").arg(file)).out)
            .filter(|dump| dump.contains("CKO_SECRET_KEY") && attribute(dump, "CKA_WRAP") == Some(true))
            .collect();
        let [dump] = &wrapping[..] else { panic!("zone {} has {} wrapping keys", zone.name, wrapping.len()) };
        for (name, value) in [
            ("CKA_UNWRAP", true),
            ("CKA_EXTRACTABLE", false),
            ("CKA_ENCRYPT", false),
            ("CKA_DECRYPT", false),
            ("CKA_SIGN", false),
            ("CKA_DERIVE", false),
            ("CKA_COPYABLE", false),
            ("CKA_MODIFIABLE", false),
        ] {
            assert_eq!(attribute(dump, name), Some(value), "{name} in zone {}:\n{dump}", zone.name);
        }
        let (_, unwraps_to) = dump.split_once(" CKA_UNWRAP_TEMPLATE").unwrap_or_else(|| panic!("no template:\n{dump}"));
        for (name, value) in [
            ("CKA_SENSITIVE", true),
            ("CKA_EXTRACTABLE", false),
            ("CKA_ENCRYPT", true),
            ("CKA_DECRYPT", true),
            ("CKA_WRAP", false),
            ("CKA_UNWRAP", false),
            ("CKA_SIGN", false),
            ("CKA_VERIFY", false),
            ("CKA_DERIVE", false),
        ] {
            assert_eq!(attribute(unwraps_to, name), Some(value), "{name} of what is unwrapped:\n{dump}");
        }
        let by: Vec<_> = dump.lines().filter(|line| line.ends_with("CKM_AES_KEY_WRAP")).collect();
        assert_eq!(by.len(), 1, "its only mechanism:\n{dump}");
    }
}

fn read_object(zone: &Zone, id: &str, out: &Path) -> tool::Ran {
    let mut command = Command::new("pkcs11-tool");
    command.arg("--module").arg(&zone.module);
    command.args(["--token-label", &zone.label, "--login", "--pin", "env:ZONE_PIN"]);
    command.args(["--read-object", "--type", "secrkey", "--id", id, "--output-file"]).arg(out);
    tool::run(command.env("SOFTHSM2_CONF", &zone.softhsm_conf).env("ZONE_PIN", zone.pin()))
}

fn line<'a>(text: &'a str, name: &str) -> &'a str {
    text.lines().find_map(|line| line.trim().strip_prefix(name)).unwrap_or_default().trim()
}

fn object_files(tokens: &Path) -> Vec<std::path::PathBuf> {
    let folders = fs::read_dir(tokens).unwrap().map(|token| token.unwrap().path());
    let files = folders.flat_map(|folder| fs::read_dir(folder).unwrap()).map(|file| file.unwrap().path());
    let is_object = |file: &std::path::PathBuf| {
        file.extension().is_some_and(|end| end == "object") && !file.ends_with("token.object")
    };
    files.filter(is_object).collect()
}

/// A boolean attribute in the output of softhsm2-dump-file: its name, its type and its value stand in lines of their own.
fn attribute(dump: &str, name: &str) -> Option<bool> {
    let mut lines = dump.lines().skip_while(|line| !line.ends_with(&format!(" {name}")));
    let _ = (lines.next()?, lines.next().filter(|line| line.ends_with("boolean attribute"))?);
    match lines.next()?.split_whitespace().last()? {
        "TRUE" => Some(true),
        "FALSE" => Some(false),
        _ => None,
    }
}
