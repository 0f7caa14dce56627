//! Who may connect, and who may stay connected.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use model::clock::Clock;
use pki::{Authority, Issued};
use tonic::Code;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint};

use crate::harness::call::Address;
use crate::harness::daemon::{Daemon, Site};
use crate::harness::{Failure, context, tool, wait};

const DAY: Duration = Duration::from_secs(86_400);

/// A site whose certificates come from authorities that the test holds.
pub(crate) struct Pki {
    pub(crate) clients: Authority,
    pub(crate) servers: Authority,
    pub(crate) clock: Clock,
}

impl Pki {
    pub(crate) fn over(site: &Site) -> Self {
        Self::lasting(site, DAY)
    }

    /// One whose authorities last so long.
    pub(crate) fn lasting(site: &Site, valid_for: Duration) -> Self {
        let clock = Clock::system();
        let authority = |name| Authority::generate(name, clock.calendar(), valid_for).unwrap();
        let pki = Self { clients: authority("clients"), servers: authority("servers"), clock: clock.clone() };
        pki.trust(site, &[&pki.clients]);
        pki.new_server_certificate(site);
        pki
    }

    /// Writes the CAs of clients.
    pub(crate) fn trust(&self, site: &Site, authorities: &[&Authority]) {
        let all: String = authorities.iter().map(|authority| authority.certificate()).collect();
        replace(&file(site, "client_ca"), &all);
    }

    fn new_server_certificate(&self, site: &Site) {
        let names = ["localhost", "127.0.0.1"];
        self.show(site, &text(&self.servers.server(&names, self.clock.calendar(), DAY).unwrap()));
    }

    /// Writes what the server shows: a chain and its key.
    pub(crate) fn show(&self, site: &Site, (chain, key): &(String, String)) {
        replace(&file(site, "key"), key);
        replace(&file(site, "certificate"), chain);
    }

    fn client(&self, authority: &Authority, valid_for: Duration) -> (String, String) {
        text(&authority.client("tester", None, self.clock.calendar(), valid_for).unwrap())
    }

    pub(crate) fn address(&self, daemon: &Daemon, client: (String, String)) -> Address {
        let url = daemon.environment().unwrap()["KEYSTORED_ADDRESS"].clone();
        Address { url, ca: self.servers.certificate().to_owned(), certificate: client.0, key: client.1 }
    }
}

pub(crate) fn text(issued: &Issued) -> (String, String) {
    (issued.certificate.clone(), String::from_utf8(issued.key.expose().to_vec()).unwrap())
}

pub(crate) fn file(site: &Site, name: &str) -> PathBuf {
    site.path().join(site.config()["grpc"][name].as_str().unwrap())
}

/// Atomically, as whatever renews certificates does.
pub(crate) fn replace(path: &std::path::Path, content: &str) {
    let new = path.with_extension("new");
    fs::write(&new, content).unwrap();
    fs::set_permissions(&new, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    fs::rename(new, path).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_refused_and_certificates_change_without_a_restart() {
    let site = Site::prepare().await;
    let pki = Pki::over(&site);
    let daemon = site.launch();
    daemon.wait_until_ready();
    let caller = pki.address(&daemon, pki.client(&pki.clients, DAY)).connect().await.unwrap();
    daemon.connect_key_store(&caller).await;
    let key = caller.create_key("tls").await;

    nobody_without_a_good_certificate(&pki, &daemon, &key).await;
    only_tls_1_3(&pki, &daemon);

    // The server's certificate changes: new connections see the new one, the old connection goes on.
    let before = shown_certificate(&pki, &daemon);
    pki.new_server_certificate(daemon.site());
    wait::until("the new certificate is shown", wait::LONG, || {
        (shown_certificate(&pki, &daemon) != before).then_some(())
    });
    caller.encrypt(&key, b"the same connection", &context(&[])).await.unwrap();

    // A certificate expires while its connection is open; a busy machine may not have used it before that.
    let mut used = None;
    for seconds in [6, 12, 24, 48] {
        let short = pki.client(&pki.clients, Duration::from_secs(seconds));
        let Ok(expiring) = pki.address(&daemon, short).connect().await else { continue };
        if expiring.encrypt(&key, b"still valid", &context(&[])).await.is_ok() {
            used = Some(expiring);
            break;
        }
    }
    let expiring = used.expect("a certificate is used before it ends");
    let failure = wait::until_async("the expired certificate is refused", wait::LONG, async || {
        expiring.encrypt(&key, b"x", &context(&[])).await.err()
    })
    .await;
    assert_eq!(failure.code, Code::Unauthenticated, "{failure:?}");
    assert!(failure.message.contains("expired"), "{failure:?}");

    // The client CA is taken away while its connection is open.
    let others = Authority::generate("others", pki.clock.calendar(), DAY).unwrap();
    pki.trust(daemon.site(), &[&others]);
    let failure = wait::until_async("the untrusted certificate is refused", wait::LONG, async || {
        caller.encrypt(&key, b"x", &context(&[])).await.err()
    })
    .await;
    assert_eq!(failure.code, Code::Unauthenticated, "{failure:?}");
    let newcomer = pki.address(&daemon, pki.client(&others, DAY)).connect().await.unwrap();
    newcomer.encrypt(&key, b"welcome", &context(&[])).await.unwrap();

    // A file that is no certificate changes nothing.
    replace(&file(daemon.site(), "client_ca"), "not PEM");
    wait::until("the bad file is reported", wait::LONG, || daemon.log().contains("client").then_some(()));
    newcomer.encrypt(&key, b"still welcome", &context(&[])).await.unwrap();
}

async fn nobody_without_a_good_certificate(pki: &Pki, daemon: &Daemon, key: &str) {
    let strangers = Authority::generate("strangers", pki.clock.calendar(), DAY).unwrap();
    // An authority's certificates begin an hour before `now`: one of yesterday has expired.
    let yesterday = pki.clock.calendar() - DAY;
    let expired = text(&pki.clients.client("late", None, yesterday, Duration::from_secs(60)).unwrap());
    for (what, client) in [("a foreign CA", pki.client(&strangers, DAY)), ("an expired certificate", expired)] {
        let answer = match pki.address(daemon, client).connect().await {
            Ok(caller) => caller.encrypt(key, b"x", &context(&[])).await.map_err(|failure| format!("{failure:?}")),
            Err(error) => Err(error.to_string()),
        };
        assert!(answer.is_err(), "{what} was let in");
    }
    let url = daemon.environment().unwrap()["KEYSTORED_ADDRESS"].clone();
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pki.servers.certificate()));
    if let Ok(channel) = Endpoint::from_shared(url).unwrap().tls_config(tls).unwrap().connect().await {
        let mut health = tonic_health::pb::health_client::HealthClient::new(channel);
        let answer = health.check(tonic_health::pb::HealthCheckRequest::default()).await;
        let failure = Failure::from(answer.map(drop).expect_err("no certificate, but let in"));
        assert_ne!(failure.code, Code::Ok);
    }
}

fn only_tls_1_3(pki: &Pki, daemon: &Daemon) {
    let modern = s_client(pki, daemon, "-tls1_3");
    assert!(modern.out.contains("TLSv1.3") && modern.out.contains("Verify return code: 0"), "{modern:?}");
    let old = s_client(pki, daemon, "-tls1_2");
    assert!(old.code != Some(0) || old.out.contains("Cipher is (NONE)"), "{old:?}");
}

/// The server's certificate, PEM, as openssl sees it.
fn shown_certificate(pki: &Pki, daemon: &Daemon) -> String {
    let shown = s_client(pki, daemon, "-tls1_3").out;
    let begin = shown.find("-----BEGIN CERTIFICATE-----").unwrap_or_else(|| panic!("{shown}"));
    let end = shown.find("-----END CERTIFICATE-----").unwrap();
    shown[begin..end].to_owned()
}

fn s_client(pki: &Pki, daemon: &Daemon, version: &str) -> tool::Ran {
    let dir = daemon.site().path();
    let (certificate, key) = pki.client(&pki.clients, DAY);
    let write = |name: &str, content: &str| {
        let path = dir.join(name);
        fs::write(&path, content).unwrap();
        path
    };
    let address = daemon.environment().unwrap()["KEYSTORED_ADDRESS"].replace("https://", "");
    let mut command = Command::new("openssl");
    command.args(["s_client", version, "-connect", &address, "-alpn", "h2", "-verify_return_error"]);
    command.arg("-CAfile").arg(write("s_client-ca.pem", pki.servers.certificate()));
    command.arg("-cert").arg(write("s_client.pem", &certificate));
    command.arg("-key").arg(write("s_client.key", &key));
    tool::run(command.stdin(Stdio::null()))
}
