use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Config, Error, Hsm, check, read_pin};
use crate::model::profile::Profile;

const GOOD: &str = r#"state_dir = "state"
zone = "a"

[arn]
region = "eu-central-1"
account = "123456789012"

[grpc]
listen = "127.0.0.1:0"
certificate = "/etc/keystored/server.pem"
key = "server.key"
client_ca = "credential:clients"

[[cluster]]
id = "cluster-abcdefg2345"
name = "main"

[[cluster.hsm]]
id = "hsm-a"
zone = "a"
module = "/usr/lib/softhsm/libsofthsm2.so"
token_label = "one"
profile = "softhsm"
pin_file = "credential:pin-a"
env.SOFTHSM2_CONF = "/a/softhsm2.conf"

[[cluster.hsm]]
id = "hsm-b"
zone = "b"
module = "/opt/vendor/lib/pkcs11.so"
token_label = "one"
pin_file = "pins/b"
kill.crypto_ms = 500
"#;

fn judge(text: &str) -> Result<Config, Error> {
    let file = Path::new("/etc/keystored/keystored.toml");
    check::check(&check::Context { file, text, credentials: Some(Path::new("/run/credentials/keystored")) })
}

/// The line and the message of what `GOOD` gives after one replacement.
fn refused(from: &str, to: &str) -> (usize, String) {
    assert!(GOOD.contains(from), "{from} is not in the text");
    let error = judge(&GOOD.replacen(from, to, 1)).expect_err("must be refused");
    assert!(error.to_string().starts_with("/etc/keystored/keystored.toml:"), "{error}");
    (error.line.expect("has a line"), error.message)
}

#[test]
fn a_good_file_is_read() {
    let config = judge(GOOD).expect("good");
    assert_eq!(config.state_dir, PathBuf::from("/etc/keystored/state"));
    assert_eq!(config.grpc.client_ca, PathBuf::from("/run/credentials/keystored/clients"));
    assert_eq!(config.grpc.key, PathBuf::from("/etc/keystored/server.key"));
    assert_eq!(&*config.scope.partition, "aws");
    assert_eq!(config.limits.default_deadline, Duration::from_millis(250));
    assert_eq!(config.limits.default_control_deadline, Duration::from_secs(30));
    assert!(config.log.json);
    let cluster = &config.clusters[0];
    assert_eq!(cluster.hedge_after, Duration::from_millis(40));
    let [a, b] = &cluster.hsms[..] else { panic!("two HSMs") };
    assert_eq!((a.profile, a.workers, a.sessions, a.hot_copies), (Profile::SoftHsm, 2, 1, true));
    assert_eq!(a.pin_file, PathBuf::from("/run/credentials/keystored/pin-a"));
    assert_eq!(a.environment["SOFTHSM2_CONF"], "/a/softhsm2.conf");
    assert_eq!((b.profile, b.workers, b.sessions, b.hot_copies), (Profile::Generic, 1, 8, false));
    assert_eq!(b.kill[0], Duration::from_millis(500));
    assert_eq!(b.kill[1], Duration::from_secs(5));
    assert!(b.sandbox);
}

#[test]
fn each_mistake_is_named_with_its_line() {
    let cases: &[(&str, &str, usize, &str)] = &[
        ("zone = \"a\"\n", "zone = \"a\n", 2, "invalid basic string"),
        ("zone = \"a\"\n", "zones = \"a\"\n", 2, "unknown field `zones`, expected one of"),
        ("zone = \"a\"\n", "zone = 3\n", 2, "expected a string"),
        ("zone = \"a\"\n", "zone = \"a b\"\n", 2, "is no zone; use 1 to 64 letters"),
        ("state_dir = \"state\"", "state_dir = \"\"", 1, "an empty path"),
        ("region = \"eu-central-1\"", "region = \"EU\"", 5, "is no region"),
        ("\"123456789012\"", "\"12345\"", 6, "is not twelve digits"),
        ("account = \"123456789012\"\n", "", 4, "missing field `account`"),
        ("\"127.0.0.1:0\"", "\"localhost\"", 9, "is no address; write IP:PORT"),
        ("\"credential:clients\"", "\"credential:../x\"", 12, "names no credential"),
        ("[[cluster]]\n", "[limits]\nconnections = 0\n[[cluster]]\n", 15, "0 is outside 1 to 65536"),
        (
            "[[cluster]]\n",
            "[limits]\nitems_in_work = 2000\n[[cluster]]\n",
            15,
            "one principal cannot have more than all",
        ),
        ("[[cluster]]\n", "[log]\nfilter = \"keystored=loud\"\n[[cluster]]\n", 15, "is no filter"),
        ("[[cluster]]\n", "[log]\nformat = \"xml\"\n[[cluster]]\n", 15, "expected `json` or `text`"),
        ("cluster-abcdefg2345", "cluster-abc1", 15, "is no cluster id; write cluster- and 11 to 16"),
        ("name = \"main\"", "name = \"\"", 16, "name is 1 to 256"),
        ("id = \"hsm-b\"", "id = \"hsm-a\"", 28, "is used twice"),
        ("id = \"hsm-b\"", "id = \"a/b\"", 28, "is no HSM id"),
        ("zone = \"b\"", "zone = \"a\"", 14, "at least two HSMs in two zones"),
        ("token_label = \"one\"", "token_label = \"\"", 22, "1 to 32 bytes"),
        ("token_label = \"one\"", "token_label = \"one\"\ntoken_serial = \"\"", 23, "1 to 16 bytes"),
        ("profile = \"softhsm\"", "profile = \"luna\"", 23, "expected `softhsm` or `generic`"),
        ("pin_file = \"pins/b\"", "pin = \"1234\"", 32, "a PIN does not belong in this file"),
        ("pin_file = \"pins/b\"\n", "", 27, "has no pin_file"),
        ("kill.crypto_ms = 500", "kill.crypto_ms = 1", 33, "1 is outside 10 to 60000"),
        ("kill.crypto_ms = 500", "kill.login_ms = 250", 33, "outside 10000"),
        ("kill.crypto_ms = 500", "workers = 65", 33, "65 is outside 1 to 64"),
        ("kill.crypto_ms = 500", "sessions = 257", 33, "257 is outside 1 to 256"),
        ("kill.crypto_ms = 500", "sessions = -1", 33, "invalid value"),
        ("kill.crypto_ms = 500", "queue.items = 0", 33, "outside 1 to"),
        ("kill.crypto_ms = 500", "env.\"A=B\" = \"\"", 33, "cannot be set in an environment"),
    ];
    for (from, to, line, says) in cases {
        let (found, message) = refused(from, to);
        assert!(message.contains(says), "{to:?}: {message}");
        assert_eq!(found, *line, "{to:?}: {message}");
    }
}

#[test]
fn clusters_are_needed_and_must_differ() {
    let error = judge(GOOD.split("[[cluster]]").next().expect("has a head")).expect_err("no cluster");
    assert!(error.message.contains("no [[cluster]]"), "{error}");
    let tail = &GOOD[GOOD.find("[[cluster]]").expect("has one")..];
    let twice = format!("{GOOD}\n{}", tail.replace("hsm-a", "hsm-c").replace("hsm-b", "hsm-d"));
    let error = judge(&twice).expect_err("the same id twice");
    assert!(error.message.contains("is used twice"), "{error}");
}

#[test]
fn one_token_is_not_two_hsms() {
    let same = GOOD.replace("/opt/vendor/lib/pkcs11.so", "/usr/lib/softhsm/libsofthsm2.so");
    assert!(judge(&same).is_ok(), "another environment is another token");
    let same = same.replace("env.SOFTHSM2_CONF = \"/a/softhsm2.conf\"\n", "");
    let error = judge(&same).expect_err("the same token");
    assert!(error.message.contains("the same token as HSM hsm-a"), "{error}");
}

#[test]
fn one_token_is_not_in_two_clusters() {
    let tail = &GOOD[GOOD.find("[[cluster]]").expect("has one")..];
    let other = tail.replace("hsm-a", "hsm-c").replace("hsm-b", "hsm-d").replacen("cluster-", "cluster-x", 1);
    let name = other.lines().find(|line| line.starts_with("name")).expect("has a name");
    let other = other.replacen(name, "name = \"other\"", 1);
    let error = judge(&format!("{GOOD}\n{other}")).expect_err("the same tokens");
    assert!(error.message.contains("the same token as HSM hsm-"), "{error}");
}

#[test]
fn a_cluster_has_at_most_64_hsms() {
    use std::fmt::Write as _;
    let mut text = GOOD.to_owned();
    for n in 0..63 {
        write!(
            text,
            "[[cluster.hsm]]\nid = \"h{n}\"\nzone = \"z{n}\"\nmodule = \"m\"\ntoken_label = \"t{n}\"\npin_file = \"p\"\n"
        )
        .expect("a String takes everything");
    }
    let error = judge(&text).expect_err("65 HSMs");
    assert!(error.message.contains("65 HSMs"), "{error}");
}

#[test]
fn a_credential_outside_systemd_is_refused() {
    let file = Path::new("keystored.toml");
    let error = check::check(&check::Context { file, text: GOOD, credentials: None }).expect_err("no credentials");
    assert_eq!(error.line, Some(12));
    assert!(error.message.contains("$CREDENTIALS_DIRECTORY"), "{error}");
}

#[test]
fn the_sample_is_good() {
    let text = include_str!("../../deploy/keystored.toml");
    let config = judge(text).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.clusters.len(), 1);
    assert_eq!(config.clusters[0].hsms.len(), 2);
}

fn hsm_with(pin: &[u8], mode: u32) -> (tempfile::TempDir, Hsm) {
    let directory = tempfile::tempdir().expect("a directory");
    let mut hsm = judge(GOOD).expect("good").clusters.remove(0).hsms.remove(0);
    hsm.pin_file = directory.path().join("pin");
    std::fs::write(&hsm.pin_file, pin).expect("written");
    std::fs::set_permissions(&hsm.pin_file, std::fs::Permissions::from_mode(mode)).expect("changed");
    (directory, hsm)
}

#[test]
fn a_pin_loses_its_newline() {
    let (_directory, hsm) = hsm_with(b"12345678\n", 0o400);
    assert_eq!(read_pin(&hsm).expect("good").expose(), b"12345678");
}

#[test]
fn bad_pin_files_are_refused_without_showing_them() {
    for (pin, mode, says) in [
        (b"".as_slice(), 0o400, "is empty"),
        (b"\n", 0o400, "is empty"),
        (&[b'7'; 300], 0o400, "longer than 255 bytes"),
        (b"12345678", 0o444, "everybody may read kmsuser's PIN (mode 444)"),
    ] {
        let (_directory, hsm) = hsm_with(pin, mode);
        let error = read_pin(&hsm).expect_err("must be refused").to_string();
        assert!(error.contains(says), "{error}");
        assert!(!error.contains("12345678"), "{error}");
    }
    let (directory, hsm) = hsm_with(b"1234", 0o400);
    drop(directory);
    assert!(read_pin(&hsm).expect_err("is gone").to_string().contains("put it there, or correct pin_file"));
}
