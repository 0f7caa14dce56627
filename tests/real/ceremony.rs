//! The ceremony as its operator carries it out: keystorectl on SoftHSM tokens in every state, seen by other PKCS#11
//! clients and by OpenSSL.

mod broken_off;
mod further_hsm;
mod lab;
mod met;
mod unsuitable;

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};

use rustix::fs::{FlockOperation, flock};

use self::lab::{CLUSTER, Lab, PIN, SO_PIN, field, files, label};
use crate::harness::chaos;
use crate::harness::tool::{self, Ran};

const ZONES: [&str; 2] = ["a", "b"];

fn with(mut command: Command, arguments: &[&str]) -> Ran {
    tool::run(command.args(arguments))
}

#[test]
fn what_modules_say_reaches_the_operator() {
    let lab = Lab::blank();
    let mut config: toml::Table = fs::read_to_string(lab.config()).unwrap().parse().unwrap();
    let hsm = config["cluster"][0]["hsm"][1].as_table_mut().unwrap();
    let control = chaos::control(hsm, &lab.path("chaos"));
    control.set("[[rule]]\nfunction = \"C_Login\"\nfault = { talk = \"the battery is low\\n\" }").unwrap();
    fs::write(lab.config(), config.to_string()).unwrap();
    let ran = lab.run(None);
    let said = ran.err.lines().find(|line| line.contains("the battery is low"));
    assert!(said.is_some_and(|line| line.contains("hsm-b") && line.contains("WARN")), "{ran:?}");
    ran.ok();
}

#[test]
fn blank_tokens_become_a_cluster_once() {
    let lab = Lab::blank();
    let ran = lab.run(None);
    assert!(ran.err.contains("HSM hsm-b: initialising a blank token as 'zone-b'"), "{ran:?}");
    let anchor = lab.folder().join("customerCA.crt");
    for next in [
        "keystored check --config keystored.toml".to_owned(),
        format!("keystorectl key-store create NAME --cluster {CLUSTER} --trust-anchor {}", anchor.display()),
    ] {
        assert!(ran.err.contains(&next), "{next} is not in {}", ran.err);
    }
    let out = ran.ok();
    assert!(out.contains(&anchor.display().to_string()), "{out}");
    assert_eq!(fs::metadata(lab.path("state")).unwrap().permissions().mode() & 0o777, 0o700);
    let mode = |name: &str| fs::metadata(lab.folder().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode("customerCA.key"), 0o600);
    assert_eq!(mode(""), 0o700);
    ZONES.iter().for_each(|zone| lab.assert_complete(zone));

    let before = (ZONES.map(|zone| lab.token_files(zone)), files(&lab.folder()));
    assert_eq!(before.0[0].len(), lab::OBJECTS.len());
    // Nobody's PIN but kmsuser's from now on.
    let json = with(lab.init(), &["--pin-file", "user.pin", "--json"]);
    assert_eq!(json.err, "");
    let json: serde_json::Value = serde_json::from_str(&json.ok()).unwrap();
    assert_eq!((ZONES.map(|zone| lab.token_files(zone)), files(&lab.folder())), before);
    assert_eq!(json["cluster"], CLUSTER);
    assert_eq!(json["trust_anchor"], anchor.to_str().unwrap());
    // By which an auditor knows the authority behind the keys of the audit log, in the form that `audit keys` prints.
    let openssl = ["x509", "-noout", "-fingerprint", "-sha256", "-in", anchor.to_str().unwrap()];
    let shown = with(Command::new("openssl"), &openssl).ok();
    let fingerprint = shown.trim().split_once('=').unwrap().1.replace(':', "").to_lowercase();
    assert_eq!(json["trust_anchor_sha256"], fingerprint);
    assert!(out.contains(&format!("SHA-256       {fingerprint}\n")), "{out}");
    for (place, zone) in ZONES.iter().enumerate() {
        let hsm = &json["hsms"][place];
        assert_eq!(hsm["hsm_id"], format!("hsm-{zone}"));
        assert_eq!(lab.serials(zone), [hsm["serial"].as_str().unwrap()]);
    }
}

/// As OpenSSL and pkcs11-tool see what was made.
#[test]
fn independent_witnesses_find_what_was_promised() {
    let lab = Lab::blank();
    lab.run(None).ok();
    for zone in ZONES {
        let serials = lab.serials(zone);
        let [serial] = &serials[..] else { panic!("{serials:?}") };
        for pair in ["identity", "transport"] {
            // Certificates are for everybody: there is no login.
            let der = lab.path(&format!("{zone}-{pair}.der"));
            let object = format!("keystored-{pair}");
            let out = der.to_str().unwrap();
            lab.pkcs11_tool(zone, &["--read-object", "--type", "cert", "--label", &object, "--output-file", out]).ok();
            let pem = lab.path(&format!("{zone}-{pair}.pem"));
            openssl(&lab, &["x509", "-inform", "DER", "-in", out, "-out", pem.to_str().unwrap()]).ok();
            let verified = openssl(&lab, &["verify", "-CAfile", "ceremony/customerCA.crt", pem.to_str().unwrap()]).ok();
            assert!(verified.trim_end().ends_with(": OK"), "{verified}");
            let options = ["x509", "-noout", "-subject", "-nameopt", "multiline", "-in", pem.to_str().unwrap()];
            let subject = openssl(&lab, &options).ok();
            let is = |name: &str, value: &str| {
                let mut lines = subject.lines().filter_map(|line| line.split_once('='));
                lines.any(|(key, found)| key.trim() == name && found.trim() == value)
            };
            assert!(is("commonName", &format!("hsm-{zone}")) && is("serialNumber", serial), "{subject}");
        }
        let objects = lab.objects(zone);
        let of = |class: &str, label: &str| {
            let found = objects.iter().find(|text| text.starts_with(class) && field(text, "label:") == label);
            found.unwrap_or_else(|| panic!("no {class} {label}")).as_str()
        };
        let identity = of("Private Key Object; EC", "keystored-identity");
        assert_eq!(field(identity, "Usage:"), "sign", "{identity}");
        assert_eq!(field(identity, "Access:"), "sensitive, always sensitive, never extractable, local", "{identity}");
        let transport = of("Private Key Object; RSA", "keystored-transport");
        assert_eq!(field(transport, "Usage:"), "unwrap", "{transport}");
        assert_eq!(field(transport, "Access:"), "sensitive, always sensitive, never extractable, local", "{transport}");
        let wrapping = of("Secret Key Object", "keystored-cluster-wrapping");
        assert_eq!(
            (field(wrapping, "Usage:"), field(wrapping, "Access:")),
            ("wrap, unwrap", "sensitive"),
            "{wrapping}"
        );
        assert_key_is_certified(&lab, zone);
    }
    let key = openssl(&lab, &["pkey", "-in", "ceremony/customerCA.key", "-pubout"]).ok();
    assert_eq!(key, openssl(&lab, &["x509", "-in", "ceremony/customerCA.crt", "-noout", "-pubkey"]).ok());
}

/// The certificate is of the very key in the token: what that signs, OpenSSL verifies.
fn assert_key_is_certified(lab: &Lab, zone: &str) {
    let (text, signature) = (lab.path("text"), lab.path("signature"));
    fs::write(&text, "to be signed").unwrap();
    let digest = lab.path("digest");
    openssl(lab, &["dgst", "-sha256", "-binary", "-out", "digest", "text"]).ok();
    // By its id: for signing, pkcs11-tool knows no labels and takes any private key.
    let id: String = "keystored-identity".bytes().map(|byte| format!("{byte:02x}")).collect();
    let arguments = ["--login", "--pin", "env:LAB_PIN", "--sign", "--mechanism", "ECDSA", "--id", &id];
    let files = ["--signature-format", "openssl", "--input-file", digest.to_str().unwrap()];
    let output = ["--output-file", signature.to_str().unwrap()];
    lab.pkcs11_tool(zone, &[&arguments[..], &files, &output].concat()).ok();
    let certificate = lab.path("certificate.der");
    let read = ["--read-object", "--type", "cert", "--label", "keystored-identity", "--output-file"];
    lab.pkcs11_tool(zone, &[&read[..], &[certificate.to_str().unwrap()]].concat()).ok();
    let public = openssl(lab, &["x509", "-inform", "DER", "-in", "certificate.der", "-noout", "-pubkey"]).ok();
    fs::write(lab.path("public"), public).unwrap();
    openssl(lab, &["dgst", "-sha256", "-verify", "public", "-signature", "signature", "text"]).ok();
}

fn openssl(lab: &Lab, arguments: &[&str]) -> Ran {
    tool::run(Command::new("openssl").args(arguments).current_dir(lab.path("")))
}

#[test]
fn prepared_tokens_are_taken_as_they_are() {
    let lab = Lab::blank();
    // Zone a was initialised with both PINs, zone b by a security officer alone.
    let (a, b) = (label("a"), label("b"));
    lab.tool("softhsm2-util", "a", &["--init-token", "--free", "--label", &a, "--so-pin", SO_PIN, "--pin", PIN]).ok();
    init_by_officer(&lab, "b", &b);
    let serials = ZONES.map(|zone| lab.serials(zone));
    let ran = lab.run(None);
    assert!(!ran.err.contains("initialising a blank token"), "{ran:?}");
    assert!(!ran.err.contains("hsm-a: setting kmsuser's PIN"), "{ran:?}");
    assert!(ran.err.contains("hsm-b: setting kmsuser's PIN"), "{ran:?}");
    ran.ok();
    assert_eq!(ZONES.map(|zone| lab.serials(zone)), serials);
    ZONES.iter().for_each(|zone| lab.assert_complete(zone));
}

fn init_by_officer(lab: &Lab, zone: &str, label: &str) {
    let arguments = ["--slot-index", "0", "--init-token", "--label", label, "--so-pin", SO_PIN];
    lab.tool("pkcs11-tool", zone, &arguments).ok();
    assert!(!has_user(lab, zone));
}

fn has_user(lab: &Lab, zone: &str) -> bool {
    lab.tool("pkcs11-tool", zone, &["--list-token-slots"]).ok().contains("PIN initialized")
}

#[test]
fn a_token_that_has_a_user_needs_no_officer_and_others_do() {
    let lab = Lab::blank();
    let label = label("a");
    lab.tool("softhsm2-util", "a", &["--init-token", "--free", "--label", &label, "--so-pin", "another", "--pin", PIN])
        .ok();
    let ran = with(lab.init(), &["--pin-file", "user.pin"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains("HSM hsm-b") && ran.err.contains("only with a security officer's PIN"), "{ran:?}");
    assert!(files(&lab.tokens("b")).is_empty());
    // For one HSM alone, beside a PIN of kmsuser's that is for each.
    let pins = ["--pin-file", "hsm-b=user.pin", "--pin-file", "hsm-a=user.pin", "--so-pin-file", "hsm-b=so.pin"];
    with(lab.init(), &pins).ok();
    ZONES.iter().for_each(|zone| lab.assert_complete(zone));
}

#[test]
fn a_wrong_pin_of_kmsuser_is_tried_once_and_changes_nothing() {
    let lab = Lab::blank();
    for zone in ZONES {
        let label = label(zone);
        let pins = ["--so-pin", SO_PIN, "--pin", PIN];
        lab.tool("softhsm2-util", zone, &[&["--init-token", "--free", "--label", &label][..], &pins].concat()).ok();
    }
    lab.secret_file("wrong.pin", "no-such-pin");
    let before = lab.token_files("b");
    let other = files(&lab.tokens("b"));
    let ran = with(lab.init(), &["--pin-file", "wrong.pin"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    for words in ["HSM hsm-a", "CKR_PIN_INCORRECT", "the PIN was tried once and is not tried again"] {
        assert!(ran.err.contains(words), "{words}: {ran:?}");
    }
    assert!(!ran.err.contains("no-such-pin") && !ran.err.contains("hsm-b: logging in"), "{ran:?}");
    assert!(lab.token_files("a").is_empty() && before.is_empty());
    assert_eq!(files(&lab.tokens("b")), other, "the other token was not touched");
    // SoftHSM says no more than that: the count is low.
    let slots = |zone| lab.tool("pkcs11-tool", zone, &["--list-token-slots"]).ok();
    assert!(slots("a").contains("user PIN count low") && !slots("b").contains("user PIN count low"));
    assert!(!lab.folder().join("hsm-a.wrapping.json").exists());
    with(lab.init(), &["--pin-file", "user.pin"]).ok();
    ZONES.iter().for_each(|zone| lab.assert_complete(zone));
}

#[test]
fn a_wrong_pin_of_the_officer_is_tried_once_and_changes_nothing() {
    let lab = Lab::blank();
    init_by_officer(&lab, "a", &label("a"));
    lab.secret_file("wrong.pin", "no-such-pin");
    let ran = with(lab.init(), &["--pin-file", "user.pin", "--so-pin-file", "wrong.pin"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    for words in ["HSM hsm-a", "CKR_PIN_INCORRECT", "the PIN was tried once and is not tried again"] {
        assert!(ran.err.contains(words), "{words}: {ran:?}");
    }
    assert!(!ran.err.contains("hsm-a: logging in") && !ran.err.contains("no-such-pin"), "{ran:?}");
    assert!(!has_user(&lab, "a") && lab.token_files("a").is_empty());
    assert!(files(&lab.tokens("b")).is_empty(), "the other token was not touched");
    lab.run(None).ok();
    ZONES.iter().for_each(|zone| lab.assert_complete(zone));
}

#[test]
fn nothing_begins_that_cannot_be_carried_out() {
    let lab = Lab::blank();
    let pins = ["--pin-file", "user.pin", "--so-pin-file", "so.pin"];
    for (arguments, code, words) in [
        (&[][..], 2, "kmsuser's PIN of HSM hsm-a, hsm-b is missing, and standard input is no terminal"),
        (&["--pin-file", "hsm-a=user.pin"], 2, "kmsuser's PIN of HSM hsm-b is missing"),
        (&["--pin-file", "user.pin", "--ask-so-pin"], 2, "the security officer's PIN of HSM hsm-a, hsm-b is missing"),
        (&["--pin-file", "hsm-x=user.pin"], 2, "hsm-x is no HSM of cluster-keystoredev"),
        (&["--pin-file", "-", "--so-pin-file", "-"], 2, "standard input holds one PIN"),
        (&["--pin-file", "nowhere.pin"], 5, "nowhere.pin"),
        (&["--cluster", "cluster-another", "--pin-file", "user.pin"], 2, "a cluster id is cluster- and 11 to 16"),
        (&["--cluster", "cluster-zzzzzzzzzzz", "--pin-file", "user.pin"], 2, "has no cluster cluster-zzzzzzzzzzz"),
    ] {
        let ran = with(lab.init(), arguments);
        assert_eq!(ran.code, Some(code), "{arguments:?}: {ran:?}");
        assert!(ran.err.contains(words), "{arguments:?}: {ran:?}");
    }
    fs::set_permissions(lab.path("user.pin"), fs::Permissions::from_mode(0o644)).unwrap();
    let open = with(lab.init(), &pins);
    assert!(open.code == Some(5) && open.err.contains("mode 644"), "{open:?}");
    fs::set_permissions(lab.path("user.pin"), fs::Permissions::from_mode(0o600)).unwrap();

    let config = fs::read_to_string(lab.config()).unwrap();
    fs::write(lab.config(), config.replace("\"state\"", "\"user.pin/state\"")).unwrap();
    let nowhere = with(lab.init(), &pins);
    assert!(nowhere.code == Some(5) && nowhere.err.contains("state_dir"), "{nowhere:?}");
    fs::write(lab.config(), config).unwrap();

    // A daemon that has the HSM keeps it.
    let lock = File::create(lab.lock_file("a")).unwrap();
    flock(&lock, FlockOperation::LockExclusive).unwrap();
    let taken = with(lab.init(), &pins);
    assert!(taken.code == Some(1) && taken.err.contains("HSM hsm-a is in use"), "{taken:?}");
    assert!(ZONES.iter().all(|zone| files(&lab.tokens(zone)).is_empty()));
    drop(lock);
    lab.run(None).ok();
}

/// Each PIN is asked for once, twice over, and never shown.
#[test]
fn pins_are_typed_on_a_terminal() {
    let lab = Lab::blank();
    let line = format!(
        "{} cluster init --config keystored.toml --folder ceremony --ask-so-pin",
        env!("CARGO_BIN_EXE_keystorectl")
    );
    let mut command = Command::new("timeout");
    command.args(["300", "script", "--quiet", "--return", "--command", &line, "/dev/null"]);
    command.current_dir(lab.path("")).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("script of util-linux");
    let (mut keyboard, mut screen) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
    let mut shown = String::new();
    let mut until = |wanted: &str, shown: &mut String| {
        let mut byte = [0];
        while !shown.ends_with(wanted) {
            assert_eq!(screen.read(&mut byte).unwrap(), 1, "{wanted:?} did not come:\n{shown}");
            shown.push(char::from(byte[0]));
        }
    };
    for (whose, pin) in [("the security officer's PIN", SO_PIN), ("kmsuser's PIN", PIN)] {
        for again in ["", ", once more"] {
            until(&format!("{whose} of HSM hsm-a, hsm-b{again}: "), &mut shown);
            keyboard.write_all(format!("{pin}\n").as_bytes()).unwrap();
        }
    }
    until("further HSMs into the cluster.", &mut shown);
    screen.read_to_string(&mut shown).unwrap();
    assert!(child.wait().unwrap().success(), "{shown}");
    assert!(!shown.contains(PIN) && !shown.contains(SO_PIN), "{shown}");
    ZONES.iter().for_each(|zone| lab.assert_complete(zone));
}
