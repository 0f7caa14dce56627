mod certificates;
mod document;
mod profiles;
mod sample;
mod topology;

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Config, Error, check};
use model::limits::Quotas;
use model::profile::{PinScope, Profile, Rotation, VerifyWraps};

const GOOD: &str = r#"state_dir = "state"
zone = "a"

[arn]
region = "eu-central-1"
account = "123456789012"

[seal]
key = "seal.key"

[grpc]
listen = "127.0.0.1:0"
certificate = "/etc/keystored/server.pem"
key = "server.key"
client_ca = "credential:clients"

[[cluster]]
id = "cluster-abcdefg2345"
rotation = "connect"

[[cluster.hsm]]
id = "hsm-a"
zone = "a"
module = "/usr/lib/softhsm/libsofthsm2.so"
token_label = "one"
profile = "softhsm"
token_serials = ["1"]
env.SOFTHSM2_CONF = "/a/softhsm2.conf"

[[cluster.hsm]]
id = "hsm-b"
zone = "b"
module = "/opt/vendor/lib/pkcs11.so"
token_label = "one"
workers = 1
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
    assert!(config.administrators.is_empty(), "nobody is an administrator by default");
    assert_eq!(config.limits.default_deadline, Duration::from_millis(250));
    assert_eq!(config.limits.default_control_deadline, Duration::from_secs(30));
    assert_eq!(config.limits.quotas, Quotas::default());
    assert!(config.log.json);
    let cluster = &config.clusters[0];
    assert_eq!(cluster.hedge_after, Duration::from_millis(40));
    assert_eq!((cluster.verify_wraps, cluster.verify_unwraps), (VerifyWraps::DataKeys, false));
    let [a, b] = &cluster.hsms[..] else { panic!("two HSMs") };
    assert_eq!((a.profile, a.workers, a.sessions, a.hot_copies), (Profile::SoftHsm, 2, 1, true));
    assert_eq!((&a.token_serials[..], &b.token_serials[..]), (&["1".to_owned()][..], &[][..]));
    assert_eq!((cluster.pin_scope, cluster.rotation, cluster.login_tries), (PinScope::Hsm, Rotation::Connect, 3));
    assert_eq!((config.seal.key, config.lock_dir), ("/etc/keystored/seal.key".into(), "/run/keystored".into()));
    assert_eq!(a.environment["SOFTHSM2_CONF"], "/a/softhsm2.conf");
    assert_eq!((b.profile, b.workers, b.sessions, b.hot_copies), (Profile::Generic, 1, 8, false));
    assert_eq!(b.kill[0], Duration::from_millis(500));
    assert_eq!(b.kill[1], Duration::from_secs(5));
    assert!(a.sandbox.is_some() && b.sandbox.is_some());
}

#[test]
fn quotas_are_as_written() {
    let limits =
        "[limits]\nkeys_per_key_store = 12_000\naliases_per_key = 1\ntags_per_key = 2\non_demand_rotations = 1\n";
    let config = judge(&GOOD.replacen("[[cluster]]", &format!("{limits}[[cluster]]"), 1)).expect("good");
    let quotas = Quotas { keys_per_key_store: 12_000, aliases_per_key: 1, tags_per_key: 2, on_demand_rotations: 1 };
    assert_eq!(config.limits.quotas, quotas);
}

#[test]
fn administrators_are_names_of_certificates() {
    let named = |names: &str| GOOD.replacen("\n[arn]", &format!("administrators = [{names}]\n[arn]"), 1);
    let config =
        judge(&named("\"spiffe://example/admin\", \"cn:admin\", \"dns:a.example\", \"cn:admin\"")).expect("good");
    let names: Vec<&str> = config.administrators.iter().map(String::as_str).collect();
    assert_eq!(names, ["cn:admin", "dns:a.example", "spiffe://example/admin"]);
    for (wrong, says) in [
        ("\"cn:admin\", \"root\"", "\"root\": the name of a certificate is cn:NAME, dns:NAME or spiffe://…"),
        ("\"cn:\"", "\"cn:\": the name of a certificate is"),
        ("\"cn:a\\u000ab\"", "without control characters"),
        (&"\"cn:a\", ".repeat(101), "more than 100 administrators"),
    ] {
        let error = judge(&named(wrong)).expect_err("must be refused");
        assert!(error.message.contains(says) && error.line == Some(3), "{wrong}: {error}");
    }
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
        ("\"127.0.0.1:0\"", "\"localhost\"", 12, "is no address; write IP:PORT"),
        ("\"credential:clients\"", "\"credential:../x\"", 15, "names no credential"),
        ("[[cluster]]\n", "[limits]\nconnections = 0\n[[cluster]]\n", 18, "0 is outside 1 to 65536"),
        ("[[cluster]]\n", "[limits]\nkeys_per_key_store = 0\n[[cluster]]\n", 18, "0 is outside 1 to 100000"),
        ("[[cluster]]\n", "[limits]\naliases_per_key = 1001\n[[cluster]]\n", 18, "1001 is outside 1 to 1000"),
        ("[[cluster]]\n", "[limits]\ntags_per_key = 0\n[[cluster]]\n", 18, "0 is outside 1 to 1000"),
        ("[[cluster]]\n", "[limits]\non_demand_rotations = 0\n[[cluster]]\n", 18, "0 is outside 1 to 10000"),
        (
            "[[cluster]]\n",
            "[limits]\nitems_in_work = 2000\n[[cluster]]\n",
            18,
            "one principal cannot have more than all",
        ),
        ("[[cluster]]\n", "[log]\nfilter = \"keystored=loud\"\n[[cluster]]\n", 18, "is no filter"),
        ("[[cluster]]\n", "[log]\nformat = \"xml\"\n[[cluster]]\n", 18, "expected `json` or `text`"),
        ("cluster-abcdefg2345", "cluster-abc1", 18, "is no cluster id; write cluster- and 11 to 16"),
        ("rotation = \"connect\"", "name = \"main\"", 19, "a cluster has no name"),
        ("rotation = \"connect\"", "rotation = \"daily\"", 19, "expected `connect` or `none`"),
        ("rotation = \"connect\"", "login_tries = 10", 19, "10 is outside 1 to 9"),
        ("key = \"seal.key\"", "former = []", 8, "missing field `key`"),
        ("id = \"hsm-b\"", "id = \"hsm-a\"", 31, "is used twice"),
        ("id = \"hsm-b\"", "id = \"a/b\"", 31, "is no HSM id"),
        ("zone = \"b\"", "zone = \"a\"", 17, "at least two HSMs in two zones"),
        ("token_label = \"one\"", "token_label = \"\"", 25, "1 to 32 bytes"),
        ("token_label = \"one\"", "token_label = \"one \"", 25, "the last no blank"),
        ("token_label = \"one\"", "token_label = \"o\\u001b[2Jne\"", 25, "without control characters"),
        ("token_label = \"one\"", "token_label = \"one\"\ntoken_serial = \"1\"", 26, "write token_serials"),
        ("token_serials = [\"1\"]", "token_serials = [\"\"]", 27, "1 to 16 bytes"),
        ("profile = \"softhsm\"", "profile = \"safenet\"", 26, "unknown variant `safenet`, expected one of `softhsm`"),
        ("workers = 1", "pin = \"1234\"", 35, "a PIN does not belong in this file"),
        ("workers = 1", "pin_file = \"pins/b\"", 35, "the daemon reads no PIN from a file"),
        ("kill.crypto_ms = 500", "kill.crypto_ms = 1", 36, "1 is outside 10 to 60000"),
        ("kill.crypto_ms = 500", "kill.login_ms = 250", 36, "outside 10000"),
        ("workers = 1", "workers = 65", 35, "65 is outside 1 to 64"),
        ("kill.crypto_ms = 500", "sessions = 257", 36, "257 is outside 1 to 256"),
        ("kill.crypto_ms = 500", "sessions = -1", 36, "invalid value"),
        ("kill.crypto_ms = 500", "queue.items = 0", 36, "outside 1 to"),
        ("kill.crypto_ms = 500", "env.\"A=B\" = \"\"", 36, "cannot be set in an environment"),
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
    let error = judge(&format!("{GOOD}\n{other}")).expect_err("the same tokens");
    assert!(error.message.contains("the same token as HSM hsm-"), "{error}");
}

#[test]
fn a_cluster_has_at_most_64_hsms() {
    use std::fmt::Write as _;
    let mut text = GOOD.to_owned();
    for n in 0..63 {
        write!(text, "[[cluster.hsm]]\nid = \"h{n}\"\nzone = \"z{n}\"\nmodule = \"m\"\ntoken_label = \"t{n}\"\n")
            .expect("a String takes everything");
    }
    let error = judge(&text).expect_err("65 HSMs");
    assert!(error.message.contains("65 HSMs"), "{error}");
}

#[test]
fn a_credential_outside_systemd_is_refused() {
    let file = Path::new("keystored.toml");
    let error = check::check(&check::Context { file, text: GOOD, credentials: None }).expect_err("no credentials");
    assert_eq!(error.line, Some(15));
    assert!(error.message.contains("$CREDENTIALS_DIRECTORY"), "{error}");
}

#[test]
fn the_sample_is_good() {
    let text = include_str!("../../../deploy/keystored.toml");
    let config = judge(text).unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(config.clusters.len(), 1);
    assert_eq!(config.clusters[0].hsms.len(), 2);
}
