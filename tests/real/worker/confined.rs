//! A hostile module in a worker, under the sandbox of every profile: whatever it tries when it is loaded is refused, and
//! the worker works.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;

use model::sandbox::{Protected, Sandbox, Tokens as Files};
use protocol::{Class, Op, Reply, Role};

use super::rig::{MODULE, Tokens};
use crate::hostile;

/// Those that this test knows of; another name is `generic`.
const PROFILES: &[&str] =
    &["softhsm", "kryoptic", "cloudhsm", "luna", "luna-fips", "luna-ha", "nshield", "utimaco", "generic"];

/// What a profile's module may reach, and SoftHSM's files, which it needs to be one here.
fn sandbox(tokens: &Tokens, profile: &str) -> Sandbox {
    let mut sandbox = Sandbox::of_profile(profile, &BTreeMap::new());
    sandbox.tokens = Files::SoftHsm;
    sandbox.read.push(tokens.dir.path().join("softhsm2.conf"));
    sandbox
}

#[test]
fn under_no_profile_it_gets_at_anything() {
    let mut tokens = Tokens::after_ceremony();
    let home = tokens.dir.path().to_owned();
    let report = home.join("tokens/report");
    for secret in ["seal.key", "keystored.db"] {
        fs::write(home.join(secret), "none of its business").unwrap();
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let _socket = UnixListener::bind(home.join("somebody.sock")).unwrap();
    let files = ["seal.key", "keystored.db", ""].map(|file| home.join(file).display().to_string());
    tokens.environment = BTreeMap::from(
        [
            ("HOSTILE_MODULE", MODULE.to_owned()),
            ("HOSTILE_REPORT", report.display().to_string()),
            ("HOSTILE_READ", files.join(":")),
            ("HOSTILE_WRITE", files[..2].join(":")),
            ("HOSTILE_PORTS", listener.local_addr().unwrap().port().to_string()),
            ("HOSTILE_SOCKET", home.join("somebody.sock").display().to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    for profile in PROFILES {
        let mut start = tokens.start(Role::Control);
        start.module = hostile::module();
        let sandbox = sandbox(&tokens, profile);
        let talks_to_sockets = !sandbox.sockets.is_empty();
        start.sandbox = Some(sandbox);
        let (mut worker, ready, _) = tokens.ready(start);
        let told = fs::read_to_string(&report).unwrap();
        assert!(told.lines().count() > 100, "{profile}: {told}");
        let done: Vec<&str> = told.lines().filter(|line| !line.starts_with("refused ")).collect();
        // Landlock of this kernel may not know Unix sockets by path; then it is said.
        let gap = ready.degraded.iter().any(|sentence| sentence.contains("knows no Unix sockets"));
        match (talks_to_sockets, gap) {
            (true, true) => assert_eq!(done, ["done connect to a Unix socket of somebody"], "{profile}"),
            _ => assert!(done.is_empty(), "{profile}: {done:#?}"),
        }
        assert!(!ready.degraded.iter().any(|sentence| sentence.contains("not applied")), "{:?}", ready.degraded);
        assert!(matches!(worker.call(Op::Probe), Reply::Done));
        worker.make_key();
        assert!(worker.stop().success());
        fs::remove_file(&report).unwrap();
    }
    assert_eq!(fs::read_to_string(home.join("seal.key")).unwrap(), "none of its business");
    listener.set_nonblocking(true).unwrap();
    assert!(listener.accept().is_err(), "nobody has connected");
}

/// The attempts are real: without a sandbox they succeed, but for what the system keeps from everybody.
#[test]
fn without_a_sandbox_it_gets_at_a_lot() {
    let mut tokens = Tokens::after_ceremony();
    let home = tokens.dir.path().to_owned();
    let (report, listener) = (home.join("tokens/report"), TcpListener::bind("127.0.0.1:0").unwrap());
    fs::write(home.join("seal.key"), "none of its business").unwrap();
    let port = listener.local_addr().unwrap().port();
    tokens.environment = BTreeMap::from(
        [
            ("HOSTILE_MODULE", MODULE.to_owned()),
            ("HOSTILE_REPORT", report.display().to_string()),
            ("HOSTILE_READ", home.join("seal.key").display().to_string()),
            ("HOSTILE_PORTS", port.to_string()),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    let mut start = tokens.start(Role::Control);
    (start.module, start.sandbox) = (hostile::module(), None);
    let (worker, ready, _) = tokens.ready(start);
    assert!(ready.degraded.iter().any(|sentence| sentence.contains("NOT confined")), "{:?}", ready.degraded);
    let told = fs::read_to_string(&report).unwrap();
    let seal = home.join("seal.key").display().to_string();
    for attempt in [
        &format!("read {seal}"),
        &format!("connect to {port}"),
        "signal the daemon",
        "make a process",
        "have the daemon own a descriptor",
        "have the daemon's limits",
        "listen",
    ] {
        assert!(told.lines().any(|line| line == format!("done {attempt}")), "{attempt}: {told}");
    }
    assert!(worker.stop().success());
}

#[test]
fn what_is_allowed_must_not_touch_what_is_protected() {
    let tokens = Tokens::after_ceremony();
    let protected = |path| Protected { what: "the seal key".to_owned(), path, readable: false };
    let home = tokens.dir.path();
    let link = home.join("link");
    std::os::unix::fs::symlink(home.join("tokens"), &link).unwrap();
    for path in [home.join("tokens"), home.join("tokens/seal.key"), link.join("seal.key")] {
        let mut start = tokens.start(Role::Data);
        let mut sandbox = sandbox(&tokens, "softhsm");
        sandbox.protected.push(protected(path.clone()));
        start.sandbox = Some(sandbox);
        let Err(fault) = tokens.found(start) else { panic!("{} is within reach", path.display()) };
        let said = fault.detail.unwrap_or_default();
        assert_eq!(fault.class, Class::Refused, "{said}");
        assert!(said.contains("the seal key") && said.contains("allow something narrower"), "{said}");
    }
}

#[test]
fn what_its_environment_names_and_it_may_not_open_is_told() {
    let mut tokens = Tokens::after_ceremony();
    let home = tokens.dir.path().to_owned();
    for (file, text) in
        [("vendor.conf", format!("ClientCert = {}/client.pem;\n", home.display())), ("client.pem", String::new())]
    {
        fs::write(home.join(file), text).unwrap();
    }
    tokens.environment.insert("VENDOR_CONF".to_owned(), home.join("vendor.conf").display().to_string());
    let denied = |tokens: &Tokens, read: &[&str]| {
        let mut start = tokens.start(Role::Data);
        let mut sandbox = sandbox(tokens, "generic");
        sandbox.read.extend(read.iter().map(|file| home.join(file)));
        start.sandbox = Some(sandbox);
        let (worker, ready, _) = tokens.ready(start);
        assert!(worker.stop().success());
        ready.degraded.into_iter().filter(|sentence| sentence.contains("may not open")).collect::<Vec<_>>()
    };
    let both = denied(&tokens, &[]);
    assert_eq!(both.len(), 2, "{both:?}");
    assert!(both.iter().any(|said| said.contains("vendor.conf, which the variable VENDOR_CONF names")), "{both:?}");
    assert!(
        both.iter().any(|said| said.contains("client.pem, which ") && said.contains("vendor.conf names")),
        "{both:?}"
    );
    assert_eq!(denied(&tokens, &["vendor.conf"]).len(), 1);
    assert!(denied(&tokens, &["vendor.conf", "client.pem"]).is_empty());
}
