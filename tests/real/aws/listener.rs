//! The listener itself: its certificates, which TLS it speaks, what it asks of clients, and that it stops in order.

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use pki::Authority;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;

use crate::harness::aws::{Ask, Endpoint, Scope, client, principal};
use crate::harness::daemon::Site;
use crate::harness::{Daemon, tool, wait};
use crate::tls::{Pki, replace, text};

const DAY: Duration = Duration::from_secs(86_400);

/// A site whose AWS listener has these settings beside its own.
async fn site(settings: &[(&str, toml::Value)]) -> Site {
    let site = Site::prepare().await;
    site.configure(|config| {
        let aws = config["aws"].as_table_mut().unwrap();
        aws.extend(settings.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    });
    site
}

#[tokio::test(flavor = "multi_thread")]
async fn its_certificate_is_its_own_and_changes_without_a_restart() {
    let site = site(&[("certificate", "aws.pem".into()), ("key", "aws.key".into())]).await;
    let pki = Pki::over(&site);
    let others = Authority::generate("of the aws listener", pki.clock.calendar(), DAY).unwrap();
    let show = |site: &Site| {
        let (certificate, key) = text(&others.server(&["localhost"], pki.clock.calendar(), DAY).unwrap());
        replace(&site.path().join("aws.key"), &key);
        replace(&site.path().join("aws.pem"), &certificate);
    };
    show(&site);
    let daemon = site.launch();
    daemon.wait_until_ready();
    let mut aws = Endpoint::of(&daemon);
    assert!(aws.connect().await.is_err(), "it does not show what the gRPC listener shows");
    aws.config = Arc::new(client(others.certificate(), &[&rustls::version::TLS13]));
    let mut before = aws.connect().await.unwrap();
    let shown = |wire: &crate::harness::aws::Wire| wire.stream.get_ref().1.peer_certificates().unwrap()[0].to_vec();
    let first = shown(&before);
    show(daemon.site());
    wait::until_async("the new certificate is shown", wait::LONG, async || {
        (shown(&aws.connect().await.ok()?) != first).then_some(())
    })
    .await;
    before.send(b"GET /ping HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    assert_eq!(before.answer().await.unwrap().status, 200, "an open connection notices nothing");
    wait::until("it is measured", wait::LONG, || {
        daemon.ops("/metrics")?.1.contains("certificate=\"aws_server\"").then_some(())
    });
    replace(&daemon.site().path().join("aws.pem"), "not PEM");
    wait::until("it is told", wait::LONG, || daemon.ops("/readyz")?.1.contains("aws.pem").then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_asked_for_and_must_be_good_where_one_is_shown() {
    let site = site(&[("client_ca", "pki/ca.pem".into())]).await;
    let daemon = site.start().await;
    let caller = daemon.caller().await;
    let (key, aws) = (principal(&caller, "app", "KeyUser").await, Endpoint::of(&daemon));
    let random = Ask::kms("GenerateRandom", &json!({ "NumberOfBytes": 8 })).sign(&key, &Scope::of("kms"));
    let with = |certificate: &str, key: &str| {
        let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(daemon.address().ca.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider);
        let builder = builder.with_protocol_versions(&[&rustls::version::TLS13]).unwrap();
        let config = builder.with_root_certificates(roots).with_client_auth_cert(chain, key).unwrap();
        Endpoint { config: Arc::new(config), ..aws.clone() }
    };
    let status = async |aws: &Endpoint| -> std::io::Result<u16> {
        let mut wire = aws.connect().await?;
        wire.send(&random.bytes()).await?;
        Ok(wire.answer().await?.status)
    };
    let without = status(&aws).await.unwrap();
    let address = daemon.address();
    assert_eq!(status(&with(&address.certificate, &address.key)).await.unwrap(), without);
    let clock = model::clock::Clock::system();
    let stranger = Authority::generate("strangers", clock.calendar(), DAY).unwrap();
    let (certificate, its_key) = text(&stranger.client("app", None, clock.calendar(), DAY).unwrap());
    assert!(status(&with(&certificate, &its_key)).await.is_err(), "of no CA in aws.client_ca");
    // One that has ended is told so.
    let authority = std::fs::read_to_string(daemon.client_authority_key()).unwrap();
    let authority = Authority::load(&address.ca, &authority).unwrap();
    let yesterday = clock.calendar() - DAY;
    let (certificate, its_key) = text(&authority.client("app", None, yesterday, Duration::from_secs(60)).unwrap());
    let answer = with(&certificate, &its_key).ask(&random).await;
    assert_eq!(answer.error(), (400, "AccessDeniedException".to_owned()));
    assert!(answer.text().contains("expired"), "{}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_1_2_is_spoken_where_that_is_written() {
    for (tls12, wanted) in [(false, false), (true, true)] {
        let daemon = site(&[("tls12", tls12.into())]).await.launch();
        daemon.wait_until_ready();
        let mut aws = Endpoint::of(&daemon);
        assert!(aws.connect().await.is_ok());
        aws.config = Arc::new(client(&daemon.address().ca, &[&rustls::version::TLS12]));
        assert_eq!(aws.connect().await.is_ok(), wanted);
        let openssl = s_client(&daemon, aws.address, "h2,http/1.1");
        assert!(openssl.out.contains("ALPN protocol: http/1.1"), "{openssl:?}");
        let openssl = s_client(&daemon, aws.address, "h2");
        assert!(!openssl.out.contains("ALPN protocol: h2"), "{openssl:?}");
        // It drains as the other one does: an open connection that does nothing is no reason to wait.
        let idle = aws.connect().await;
        assert_eq!(daemon.terminate().0.code(), Some(0));
        drop(idle);
    }
}

fn s_client(daemon: &Daemon, address: std::net::SocketAddr, alpn: &str) -> tool::Ran {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &address.to_string(), "-alpn", alpn, "-verify_return_error"]);
    command.arg("-CAfile").arg(&daemon.site().layout.client[0]);
    tool::run(command.stdin(Stdio::null()))
}

#[tokio::test(flavor = "multi_thread")]
async fn check_tells_of_it() {
    let site = site(&[("certificate", "nobody.pem".into())]).await;
    let check = |site: &Site| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keystored"));
        tool::run(command.arg("check").arg("--config").arg(site.config_file()))
    };
    let ran = check(&site);
    assert!(ran.code == Some(1) && ran.out.contains("TLS of aws: ") && ran.out.contains("nobody.pem"), "{ran:?}");
    site.configure(|config| {
        drop(config["aws"].as_table_mut().unwrap().insert("certificate".into(), "pki/server.pem".into()))
    });
    let ran = check(&site);
    assert!(ran.out.contains("TLS of aws: certificate and key can be loaded and belong together"), "{ran:?}");
}
