//! What somebody can do who has got hold of one thing or another: the sentences of docs/security.md that nothing else tries.

use std::fs;
use std::path::Path;
use std::process::Command;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use model::ciphertext::{Ciphertext, authenticated_data};
use model::clock::Clock;
use model::context::EncryptionContext;
use pki::seal::{SealKey, SealKeys};
use store::Store;

use super::intruder::{Intruder, openssl, shown, unhex, unwrap_oaep};
use crate::harness::daemon::Site;
use crate::harness::zone::Zone;
use crate::harness::{Daemon, context, tool};
use crate::secrets::{files, spellings};

/// The wrapping key in clear, out of a wrapped copy and a token, in hexadecimal digits: another PKCS#11 client unwraps it.
fn read_wrapping_key(zone: &Zone, parcel: &[u8], dir: &Path) -> tool::Ran {
    let blob = dir.join("parcel");
    fs::write(&blob, parcel).unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/thief.py");
    let mut command = Command::new("/usr/bin/python3");
    // Nothing is to be left beside the scripts.
    command.arg("-B").arg(script).arg(&zone.module).arg(&zone.label).arg(&blob);
    tool::run(command.envs(&zone.env).env("PIN", zone.pin()))
}

async fn store(site: &Site) -> Store {
    Store::open(&site.path().join("state/keystored.db"), Clock::system()).await.unwrap()
}

/// Both together need no daemon any more. Neither the wrapping key nor a key stands anywhere in clear.
#[tokio::test(flavor = "multi_thread")]
async fn the_folder_and_a_pin_give_every_key_away() {
    let daemon = Daemon::start().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("to be stolen").await;
    let pairs = context(&[("tenant", "42")]);
    let ciphertext = caller.encrypt(&key, b"attack at dawn", &pairs).await.unwrap();
    let intruder = Intruder::beside(&daemon);
    let (parcel, zone) = (intruder.parcel("hsm-a"), daemon.zone("a").clone());
    drop(caller);
    let site = daemon.terminate().1;
    let bench = tempfile::tempdir().unwrap();
    let digits = read_wrapping_key(&zone, &parcel, bench.path()).ok().trim().to_owned();
    let wrapping = unhex(&digits);
    assert_eq!(wrapping.len(), 32);

    let catalogue = store(&site).await.catalogue();
    let row = catalogue.keys().find(|row| row.id.to_string() == key).unwrap();
    let (escrow, opened) = (bench.path().join("escrow"), bench.path().join("key"));
    fs::write(&escrow, row.versions[0].blob.as_ref().unwrap()).unwrap();
    let unwrap = ["enc", "-d", "-id-aes256-wrap", "-K", &digits, "-iv", "A6A6A6A6A6A6A6A6"];
    openssl(&[&unwrap[..], &["-in", &shown(&escrow), "-out", &shown(&opened)]].concat(), bench.path());
    let material = fs::read(opened).unwrap();

    let parsed = Ciphertext::parse(&ciphertext).unwrap();
    let aad = authenticated_data(parsed.key_version, &EncryptionContext::new(pairs).unwrap());
    let mut sealed = parsed.sealed.to_vec();
    let gcm = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &material).unwrap());
    let plaintext = gcm.open_in_place(Nonce::assume_unique_for_key(parsed.iv), Aad::from(aad), &mut sealed).unwrap();
    assert_eq!(plaintext, b"attack at dawn");

    let mut looked_at = 0;
    for file in files(site.path()) {
        let content = fs::read(&file).unwrap();
        looked_at += 1;
        for (what, secret) in [("the wrapping key", &wrapping), ("the key", &material)] {
            for (form, spelled) in spellings(secret) {
                let found = content.windows(spelled.len()).any(|window| window == spelled);
                assert!(!found, "{what} as {form} in {}", file.display());
            }
        }
    }
    assert!(looked_at > 10, "only {looked_at} files looked at");
}

/// The folder certifies, and opens nothing: each copy of the wrapping key opens in one token only.
#[tokio::test(flavor = "multi_thread")]
async fn the_folder_alone_opens_nothing() {
    let daemon = Daemon::start().await;
    let intruder = Intruder::beside(&daemon);
    let bench = tempfile::tempdir().unwrap();
    for hsm in ["hsm-a", "hsm-b"] {
        // The only private key in it, and one of somebody's own.
        for key in ["customerCA.key", "software.pem"] {
            assert_eq!(unwrap_oaep(&intruder.file(key), &intruder.parcel(hsm), bench.path()), None, "{hsm} {key}");
        }
    }
    let names: Vec<_> =
        files(&daemon.site().ceremony()).into_iter().map(|file| file.file_name().unwrap().to_owned()).collect();
    let expected = ["customerCA.crt", "customerCA.key", "hsm-a.wrapping.json", "hsm-b.wrapping.json"];
    assert!(
        names.len() == expected.len() && expected.iter().all(|name| names.iter().any(|it| it == name)),
        "{names:?}"
    );
    // Nor does one token open another's, also for whoever has its PIN.
    let zone = daemon.zone("a");
    let other = read_wrapping_key(zone, &intruder.parcel("hsm-b"), bench.path());
    assert!(other.code == Some(1) && other.err.contains("C_UnwrapKey: 0x5"), "CKR_GENERAL_ERROR, not {other:?}");
    read_wrapping_key(zone, &intruder.parcel("hsm-a"), bench.path()).ok();
}

/// After a connect only the daemon knows the PINs, and whoever has what it has.
#[tokio::test(flavor = "multi_thread")]
async fn the_database_and_the_seal_key_give_the_pins_away() {
    let site = Site::prepare().await;
    site.rotate(true);
    let daemon = site.start().await;
    let zone = daemon.zone("a").clone();
    assert!(!zone.takes(&zone.pin()), "the PIN of the ceremony opens nothing any more");
    let site = daemon.terminate().1;
    let store = store(&site).await;
    let key_store = store.catalogue().key_stores().next().unwrap().id.clone();
    let pins = store.pins(&key_store).await.unwrap();
    let (_, pin) = pins.iter().find(|(hsm, _)| hsm.as_str() == "hsm-a").unwrap();
    let purpose = ["kmsuser pin", key_store.as_str(), "hsm-a"];

    let other = site.path().join("other.key");
    tool::run(Command::new("sh").args(["-c", "umask 077; head -c 32 /dev/urandom > \"$0\""]).arg(&other)).ok();
    let keys = |file: &Path| SealKeys::new(SealKey::read(file).unwrap(), Vec::new());
    assert!(keys(&other).open(&purpose, &pin.current).is_err(), "the database alone gives no PIN away");
    let opened = keys(&site.path().join("credentials/seal.key")).open(&purpose, &pin.current).unwrap();
    assert!(zone.takes(std::str::from_utf8(opened.expose()).unwrap()));
}

/// A sentence about security stands beside a test, and the test is there.
#[test]
fn the_tests_that_security_md_names_are_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("docs/security.md")).unwrap();
    let named: Vec<&str> = text.split('`').skip(1).step_by(2).filter(|name| name.contains("::")).collect();
    assert!(named.len() > 15, "{named:?}");
    for name in named {
        let modules: Vec<&str> = name.split("::").collect();
        let (test, file) = (modules[modules.len() - 1], modules[..modules.len() - 1].join("/"));
        let module = root.join("tests/real").join(name.replace("::", "/")).with_extension("rs");
        let source = fs::read_to_string(root.join("tests/real").join(file).with_extension("rs")).unwrap_or_default();
        let found = source.contains(&format!("fn {test}()")) || module.exists();
        assert!(found, "docs/security.md names {name}, which is no test");
    }
}
