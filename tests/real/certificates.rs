//! Certificates that are wrong, or soon will be: said by check, at start and while the daemon runs, and to each client that
//! meets one, in a sentence.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use model::clock::Clock;
use pki::Authority;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use tonic::Code;

use crate::harness::daemon::Site;
use crate::harness::tool::{self, Ran};
use crate::harness::{Daemon, wait, wire};
use crate::tls::{Pki, file, replace, text};

const DAY: Duration = Duration::from_secs(86_400);
const LONG: Duration = Duration::from_secs(400 * 86_400);
const NAMES: [&str; 2] = ["localhost", "127.0.0.1"];

fn check(site: &Site) -> Ran {
    tool::keystored(&["check".as_ref(), "--config".as_ref(), site.config_file().as_os_str()])
}

#[tokio::test(flavor = "multi_thread")]
async fn check_names_what_is_wrong_with_certificates() {
    let site = Site::for_grpc_alone().await;
    let pki = Pki::lasting(&site, LONG);
    let now = pki.clock.calendar();
    let other = Authority::generate("another CA", now, LONG).unwrap();
    let server = |names: &[&str], from, valid_for| text(&pki.servers.server(names, from, valid_for).unwrap());
    let good = server(&NAMES, now, LONG);
    pki.show(&site, &good);
    let sound = check(&site).ok();
    assert!(sound.contains("server: CN=localhost for localhost, 127.0.0.1, until "), "{sound}");
    assert!(sound.contains("signed by CN=servers") && !sound.contains("note: the"), "{sound}");

    let own_key = String::from_utf8(pki.servers.key().into_exposed()).unwrap();
    let authority = (pki.servers.certificate().to_owned(), own_key);
    let gap = (format!("{}{}", good.0, other.certificate()), good.1.clone());
    let whole = (format!("{}{}", good.0, pki.servers.certificate()), good.1.clone());
    for (what, shown, code, says) in [
        ("has ended", server(&NAMES, now - 10 * DAY, DAY), 1, "wrong: the server certificate CN=localhost ended on "),
        ("is not valid yet", server(&NAMES, now + 2 * DAY, LONG), 1, "is not valid before "),
        ("names nobody", server(&[], now, LONG), 1, "names no host (subjectAltName)"),
        ("is for clients", text(&pki.clients.client("app", None, now, LONG).unwrap()), 1, "without serverAuth"),
        ("is a CA's", authority, 1, "is a CA's"),
        ("has a gap above it", gap, 1, "which CN=servers has signed"),
        ("has its root with it", whole, 0, "everything is as it should be"),
        ("ends in 20 days", server(&NAMES, now, 20 * DAY), 0, "note: the server certificate CN=localhost ends on "),
        ("ends in 3 days", server(&NAMES, now, 3 * DAY + DAY / 2), 0, "in 3 days"),
    ] {
        pki.show(&site, &shown);
        let ran = check(&site);
        assert_eq!(ran.code, Some(code), "{what}: {ran:?}");
        assert!(ran.out.contains(says), "{what}: {}", ran.out);
        assert!(code == 0 || ran.out.contains("to do: "), "{what}: {}", ran.out);
    }
    pki.show(&site, &good);

    let ended = Authority::generate("old clients", now - 10 * DAY, DAY).unwrap();
    for (client_ca, says) in [
        (format!("{}{}", pki.clients.certificate(), ended.certificate()), "the client CA CN=old clients ended on "),
        (format!("{}{}", pki.clients.certificate(), good.0), "the client CA CN=localhost is no CA's certificate"),
    ] {
        replace(&file(&site, "client_ca"), &client_ca);
        let ran = check(&site);
        assert_eq!(ran.code, Some(1), "{ran:?}");
        assert!(ran.out.contains(says), "{}", ran.out);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_key_that_others_can_read_is_refused() {
    let site = Site::for_grpc_alone().await;
    let key = file(&site, "key");
    for (mode, says) in [(0o644, "everybody may read it (mode 644)"), (0o602, "everybody may write it (mode 602)")] {
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
        for verb in ["check", "serve"] {
            let ran = tool::keystored(&[verb.as_ref(), "--config".as_ref(), site.config_file().as_os_str()]);
            assert_ne!(ran.code, Some(0), "{ran:?}");
            let said = format!("{}{}", ran.out, ran.err);
            assert!(said.contains("server.key") && said.contains(says) && said.contains("chmod 0400"), "{said}");
        }
    }
    // As a seal key that its group may read, as systemd hands it over.
    fs::set_permissions(&key, fs::Permissions::from_mode(0o440)).unwrap();
    check(&site).ok();

    // keystorectl uses the key of its own user all the same, and says so.
    let daemon = site.launch();
    daemon.wait_until_ready();
    let own = daemon.environment().unwrap()["KEYSTORED_KEY"].clone();
    assert_eq!(daemon.keystorectl(&["health"]).err, "");
    fs::set_permissions(&own, fs::Permissions::from_mode(0o644)).unwrap();
    let ran = daemon.keystorectl(&["health"]);
    assert!(ran.code == Some(0) && ran.err.contains("everybody may read your private key (mode 644)"), "{ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_a_certificate_is_told_while_the_daemon_runs() {
    let site = Site::for_grpc_alone().await;
    let pki = Pki::lasting(&site, LONG);
    let now = pki.clock.calendar();
    let server = |from, valid_for| text(&pki.servers.server(&NAMES, from, valid_for).unwrap());
    pki.show(&site, &server(now, 3 * DAY));
    let daemon = site.launch();
    daemon.wait_until_ready();
    daemon.wait_until_logged("the server certificate CN=localhost ends on ");
    let state = || {
        let (code, body) = daemon.ops("/readyz").unwrap();
        assert_eq!(code, 200, "calls are answered: {body}");
        let (_, metrics) = daemon.ops("/metrics").unwrap();
        (body, metrics)
    };
    let gauge = |metrics: &str, which: &str| -> f64 {
        let prefix = format!("keystored_certificate_not_after_timestamp_seconds{{{which}}} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&prefix));
        line.unwrap_or_else(|| panic!("{prefix} is missing in\n{metrics}")).parse().unwrap()
    };
    let (_, metrics) = wait::until("its end is told", wait::LONG, || {
        let (body, metrics) = state();
        let told = body.contains("in 2 days") || body.contains("in 3 days");
        (told && metrics.contains("keystored_degraded{reason=\"certificate\"} 1")).then_some((body, metrics))
    });
    let first = gauge(&metrics, "certificate=\"server\",subject=\"CN=localhost\"");
    let cas = gauge(&metrics, "certificate=\"client_ca\",subject=\"CN=clients\"");
    assert!(cas > first, "the CA lasts longer");

    // Renewed, it is no trouble any more.
    pki.show(daemon.site(), &server(now, LONG));
    wait::until("the renewed certificate is no trouble", wait::LONG, || {
        let (body, metrics) = state();
        let calm = !body.contains("certificate") && metrics.contains("keystored_degraded{reason=\"certificate\"} 0");
        (calm && gauge(&metrics, "certificate=\"server\",subject=\"CN=localhost\"") > first + 300.0 * 86_400.0)
            .then_some(())
    });
    // One that has ended is.
    pki.show(daemon.site(), &server(now - 10 * DAY, DAY));
    wait::until("the ended certificate is told", wait::LONG, || {
        let (body, metrics) = state();
        let told = body.contains("the server certificate CN=localhost ended on ");
        (told && metrics.contains("keystored_degraded{reason=\"certificate\"} 1")).then_some(())
    });
    // Files that cannot be used are trouble too: the next start would fail.
    fs::set_permissions(file(daemon.site(), "key"), fs::Permissions::from_mode(0o644)).unwrap();
    replace(&file(daemon.site(), "certificate"), &server(now, LONG).0);
    wait::until("files that cannot be used are told", wait::LONG, || {
        let (body, _) = state();
        (body.contains("cannot be used, and the old ones stay in force") && body.contains("everybody may read it"))
            .then_some(())
    });
    wait::until("the log is told", wait::LONG, || daemon.log().contains("CN=localhost ended on").then_some(()));
    // Hundreds of looks later each has been told once.
    let warnings = |says: &str| {
        let log = daemon.log();
        log.lines()
            .filter(|line| line.contains("\"WARN\"") || line.contains(" WARN "))
            .filter(|line| line.contains(says))
            .count()
    };
    for says in ["CN=localhost ends on", "CN=localhost ended on"] {
        let direct = warnings(says);
        assert!((1..=2).contains(&direct), "{says}: told {direct} times\n{}", daemon.log_tail());
    }
}

/// A client's certificate that the daemon does not take, and what its user is told.
struct Case {
    what: &'static str,
    client: (String, String),
    says: &'static str,
    /// The handshake passes, and each call is answered with the sentence: every client sees it.
    by_call: bool,
    metric: &'static str,
}

fn cases(pki: &Pki) -> Vec<Case> {
    let now = pki.clock.calendar();
    let client = |name: &str, from, valid_for| text(&pki.clients.client(name, None, from, valid_for).unwrap());
    let strangers = Authority::generate("strangers", now, LONG).unwrap();
    let case = |what, client, says, by_call, metric| Case { what, client, says, by_call, metric };
    vec![
        case("no usable name", client("", now, LONG), "names nobody", true, "certificate"),
        case("not valid yet", client("early", now + 2 * DAY, DAY), "is not valid before", true, "certificate"),
        case("ended", client("late", now - 10 * DAY, DAY), "has expired", true, "certificate"),
        case(
            "another CA",
            text(&strangers.client("mallory", None, now, LONG).unwrap()),
            "none of the service's client CAs",
            false,
            "unknown_ca",
        ),
        case(
            "another CA, and ended",
            text(&strangers.client("mallory", None, now - 10 * DAY, DAY).unwrap()),
            "none of the service's client CAs",
            false,
            "unknown_ca",
        ),
        case(
            "for servers",
            text(&pki.clients.server(&["localhost"], now, LONG).unwrap()),
            "not one for clients",
            false,
            "certificate",
        ),
    ]
}

/// What a client needs to show this certificate, as keystorectl reads it.
fn environment(pki: &Pki, daemon: &Daemon, client: &(String, String)) -> BTreeMap<String, String> {
    let mut environment = daemon.environment().unwrap();
    let content = [("CA", pki.servers.certificate()), ("CERT", &client.0), ("KEY", &client.1)];
    for (name, content) in content {
        let path = daemon.site().path().join(format!("case-{name}.pem"));
        replace(&path, content);
        environment.insert(format!("KEYSTORED_{name}"), path.to_str().unwrap().to_owned());
    }
    environment
}

fn refused(daemon: &Daemon, reason: &str) -> u64 {
    let (_, metrics) = daemon.ops("/metrics").unwrap();
    let prefix = format!("keystored_connections_refused_total{{reason=\"{reason}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&prefix)).map_or(0, |count| count.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_is_told_in_a_sentence_what_is_wrong_with_its_certificate() {
    let site = Site::for_grpc_alone().await;
    let pki = Pki::lasting(&site, LONG);
    let daemon = site.launch();
    daemon.wait_until_ready();
    for case in cases(&pki) {
        let what = case.what;
        let before = refused(&daemon, case.metric);
        let environment = environment(&pki, &daemon, &case.client);
        let ran = tool::keystorectl(environment.clone(), &["health"]);
        assert_eq!(ran.code, Some(3), "{what}: {ran:?}");
        let lines: Vec<&str> = ran.err.lines().collect();
        assert!(lines.len() == 2 && lines[1].starts_with("hint: --cert"), "{what}: {ran:?}");
        assert!(lines[0].starts_with("error: ") && lines[0].contains(case.says), "{what}: {ran:?}");
        assert!(!ran.err.contains("docs.rs") && !ran.err.contains("alert"), "{what}: {ran:?}");
        wait::until("it is counted", wait::LONG, || (refused(&daemon, case.metric) > before).then_some(()));

        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/handshake.py");
        let said = tool::run(Command::new("/usr/bin/python3").arg(script).envs(&environment)).ok();
        match case.by_call {
            true => assert!(said.starts_with("UNAUTHENTICATED") && said.contains(case.says), "{what}: {said}"),
            false => assert!(said.starts_with("UNAVAILABLE"), "{what}: {said}"),
        }
    }
    // What is not a matter of names and times is an alert that any TLS client understands.
    let stranger = cases(&pki).remove(3);
    let said = s_client(&environment(&pki, &daemon, &stranger.client));
    assert!(said.contains("alert unknown ca"), "{said}");
    for says in ["of no CA in grpc.client_ca", "names nobody", "is not valid before", "not for clients"] {
        daemon.wait_until_logged(says);
    }
}

/// An intermediate CA under a root, and what it issues.
struct Intermediate {
    root: String,
    own: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Intermediate {
    /// Valid from then on for so long; its root is valid always.
    fn lasting(from: SystemTime, valid_for: Duration) -> Self {
        let authority = |name: &str, from: SystemTime, valid_for| {
            let mut params = named(name, from, valid_for);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
            (params, KeyPair::generate().unwrap())
        };
        let (params, key) = authority("root", from - LONG, 3 * LONG);
        let root = params.self_signed(&key).unwrap().pem();
        let above = Issuer::new(params, key);
        let (params, key) = authority("intermediate", from, valid_for);
        let own = params.signed_by(&key, &above).unwrap().pem();
        Self { root, own, issuer: Issuer::new(params, key) }
    }

    /// A chain for this use and its key; the leaf is valid now.
    fn issue(&self, usage: ExtendedKeyUsagePurpose) -> (String, String) {
        let mut params = named("leaf", Clock::system().calendar() - DAY, LONG);
        params.extended_key_usages = vec![usage];
        params.subject_alt_names = vec![SanType::DnsName("localhost".try_into().unwrap())];
        let key = KeyPair::generate().unwrap();
        let leaf = params.signed_by(&key, &self.issuer).unwrap().pem();
        (format!("{leaf}{}", self.own), key.serialize_pem())
    }
}

fn named(name: &str, from: SystemTime, valid_for: Duration) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = from.into();
    params.not_after = (from + valid_for).into();
    params
}

#[tokio::test(flavor = "multi_thread")]
async fn an_intermediate_that_has_ended_is_named() {
    let site = Site::for_grpc_alone().await;
    let pki = Pki::lasting(&site, LONG);
    let now = pki.clock.calendar();
    let (good, ended) = (Intermediate::lasting(now - DAY, LONG), Intermediate::lasting(now - 10 * DAY, 8 * DAY));
    for (intermediate, code, says) in [
        (&good, 0, "the last certificate of its chain is signed by CN=root: clients must know"),
        (&ended, 1, "wrong: the intermediate certificate CN=intermediate ended on "),
    ] {
        pki.show(&site, &intermediate.issue(ExtendedKeyUsagePurpose::ServerAuth));
        let ran = check(&site);
        assert!(ran.code == Some(code) && ran.out.contains(says), "{says}: {ran:?}");
    }
    // The intermediate is not there: clients that know the root alone cannot find their way.
    let (chain, key) = good.issue(ExtendedKeyUsagePurpose::ServerAuth);
    pki.show(&site, &(chain.replace(&good.own, ""), key));
    let ran = check(&site);
    assert!(
        ran.out.contains("it is signed by CN=intermediate: clients must know the certificate of that CA"),
        "{ran:?}"
    );

    pki.show(&site, &text(&pki.servers.server(&NAMES, now, LONG).unwrap()));
    replace(&file(&site, "client_ca"), &format!("{}{}", good.root, ended.root));
    let daemon = site.launch();
    daemon.wait_until_ready();
    let health = |client| tool::keystorectl(environment(&pki, &daemon, &client), &["health"]);
    assert_eq!(health(good.issue(ExtendedKeyUsagePurpose::ClientAuth)).ok().trim(), "serving");
    let ran = health(ended.issue(ExtendedKeyUsagePurpose::ClientAuth));
    assert_eq!(ran.code, Some(3), "{ran:?}");
    assert!(ran.err.contains("it, or a CA's certificate above it, has ended"), "{ran:?}");
    let (chain, key) = good.issue(ExtendedKeyUsagePurpose::ClientAuth);
    let ran = health((chain.replace(&good.own, ""), key));
    assert!(ran.err.contains("none of the service's client CAs"), "{ran:?}");
}

/// openssl's words about a connection on which it waits for the service.
fn s_client(environment: &BTreeMap<String, String>) -> String {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-tls1_3", "-alpn", "h2", "-ign_eof", "-connect"]);
    command.arg(environment["KEYSTORED_ADDRESS"].trim_start_matches("https://"));
    for (flag, name) in [("-CAfile", "KEYSTORED_CA"), ("-cert", "KEYSTORED_CERT"), ("-key", "KEYSTORED_KEY")] {
        command.arg(flag).arg(&environment[name]);
    }
    let ran = tool::run(command.stdin(Stdio::null()));
    format!("{}{}", ran.out, ran.err)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_only_passes_the_handshake_is_served_nothing() {
    let site = Site::for_grpc_alone().await;
    let pki = Pki::lasting(&site, LONG);
    let daemon = site.launch();
    daemon.wait_until_ready();
    let methods = wire::paths();
    assert!(methods.len() > 25, "{methods:?}");
    for case in cases(&pki).into_iter().filter(|case| case.by_call) {
        for method in &methods {
            let caller = pki.address(&daemon, case.client.clone()).connect().await.unwrap();
            let status = caller.raw(method).await.expect_err("it is served");
            assert_eq!(status.code(), Code::Unauthenticated, "{}, {method}: {status:?}", case.what);
            assert!(status.message().contains(case.says), "{}, {method}: {status:?}", case.what);
        }
    }
    // And it does not stay.
    let idle = pki.address(&daemon, cases(&pki).remove(0).client).connect().await.unwrap();
    wait::until("the connections are closed", wait::LONG, || {
        let (_, metrics) = daemon.ops("/metrics").unwrap();
        metrics.contains("keystored_connections 0\n").then_some(())
    });
    drop(idle);
}

#[tokio::test(flavor = "multi_thread")]
async fn keystorectl_says_in_a_sentence_what_is_wrong_with_the_services_certificate() {
    let site = Site::for_grpc_alone().await;
    let pki = Pki::lasting(&site, LONG);
    let now = Clock::system().calendar();
    let daemon = site.launch();
    daemon.wait_until_ready();
    let client = text(&pki.clients.client("tester", None, now, LONG).unwrap());
    let environment = environment(&pki, &daemon, &client);
    let others = Authority::generate("servers", now, LONG).unwrap();
    let server = |names: &[&str], from, valid_for| text(&pki.servers.server(names, from, valid_for).unwrap());
    for (shown, says) in [
        (server(&NAMES, now - 10 * DAY, DAY), "its certificate ended on "),
        (server(&NAMES, now + 2 * DAY, DAY), "its certificate is not valid before "),
        (server(&["keys.example"], now, LONG), "its certificate is not made for this name: it is for"),
        (server(&[], now, LONG), "it is for no name at all"),
        (text(&others.server(&NAMES, now, LONG).unwrap()), "its certificate is not signed by the given CA"),
        (text(&pki.servers.client("localhost", None, now, LONG).unwrap()), "its certificate is not one for servers"),
    ] {
        let taken = || daemon.log().matches("the new ones are in force").count();
        let before = taken();
        pki.show(daemon.site(), &shown);
        wait::until("the certificate is shown", wait::LONG, || (taken() > before).then_some(()));
        let ran = tool::keystorectl(environment.clone(), &["health"]);
        assert_eq!(ran.code, Some(3), "{ran:?}");
        let lines: Vec<&str> = ran.err.lines().collect();
        assert!(lines.len() == 2 && lines[0].contains(says) && lines[1].starts_with("hint: --ca"), "{says}: {ran:?}");
    }
}
