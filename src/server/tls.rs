//! The TLS side of a listener: which certificate is shown, whose clients are trusted, and taking over changed files
//! while connections stay open.
//!
//! Invariant: configuration, verifier and generation change together. Sessions are never resumed: a resumed handshake
//! would not look at the client's certificate again.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::{ArcSwap, ArcSwapOption};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion, version};

use super::Error;
use super::client_auth::{self, AnyTime};
use super::pem::{certificates, facts, private, unusable};
use super::terms::Terms;
use auth::peer::Trust;
use pki::Facts;
use telemetry::metrics::Metrics;

/// How often the files are looked at.
const POLL: Duration = Duration::from_secs(1);

/// What the files say at the moment.
pub(super) struct Tls {
    terms: Terms,
    current: ArcSwap<Material>,
    /// Why what the files hold now is not in force, where that is so.
    unusable: ArcSwapOption<String>,
}

/// What one reading of the files gave.
pub(super) struct Material {
    /// For handshakes.
    pub(super) config: Arc<ServerConfig>,
    /// Which reading of the files it is.
    pub(super) generation: u64,
    /// What they say, for people.
    pub(super) shown: Shown,
    /// Judges strictly, by the time of the moment; the one for handshakes is more lenient. Absent where nobody is asked.
    verifier: Option<Arc<dyn ClientCertVerifier>>,
    stamps: [Stamp; 3],
}

/// What the certificates in force say.
#[derive(Clone, Debug, Default)]
pub(super) struct Shown {
    /// The server's chain, its own certificate first.
    pub(super) server: Vec<Facts>,
    /// CAs of clients.
    pub(super) client_authorities: Vec<Facts>,
}

/// What the last looks at the files saw.
struct Seen {
    /// The files that are in force, or that were found to be of no use.
    judged: [Stamp; 3],
    last: [Stamp; 3],
}

/// Tells whether a file is still the one that was read.
type Stamp = Option<(u64, u64, u64, i64, i64)>;

impl Tls {
    /// Reads the files.
    pub(super) fn load(terms: Terms) -> Result<Self, Error> {
        let material = read(&terms, 1)?;
        Ok(Self { terms, current: ArcSwap::from_pointee(material), unusable: ArcSwapOption::empty() })
    }

    /// What is spoken.
    pub(super) fn terms(&self) -> &Terms {
        &self.terms
    }

    /// What holds for a handshake that begins now.
    pub(super) fn current(&self) -> Arc<Material> {
        self.current.load_full()
    }

    /// What is wrong with the files as they are now, where others are in force.
    pub(super) fn trouble(&self) -> Option<String> {
        let why = self.unusable.load_full()?;
        Some(format!(
            "certificate files changed but cannot be used, and the old ones stay in force until a restart: {why}"
        ))
    }

    /// Looks at the files for ever and takes over what has changed; `changed` is told after each change.
    pub(super) async fn follow(&self, metrics: &Metrics, changed: impl Fn(u64)) {
        let mut seen = self.first_look();
        loop {
            tokio::time::sleep(POLL).await;
            match self.look(&mut seen) {
                None => continue,
                Some(Ok(generation)) => {
                    metrics.reloaded(true);
                    changed(generation);
                    match self.terms.section {
                        "grpc" => tracing::info!(generation, "certificate files changed; the new ones are in force"),
                        section => tracing::info!(generation, section, "certificate files changed and were taken over"),
                    }
                }
                Some(Err(error)) => {
                    metrics.reloaded(false);
                    let section = self.terms.section;
                    tracing::error!(%error, section, "certificate files changed but cannot be used; the old ones stay in force");
                }
            }
        }
    }

    fn first_look(&self) -> Seen {
        let stamps = self.stamps();
        Seen { judged: self.current.load().stamps, last: stamps }
    }

    /// Takes over what has changed. Files that cannot be used leave the old ones in force, and are reported once.
    fn look(&self, seen: &mut Seen) -> Option<Result<u64, Error>> {
        let now = self.stamps();
        // Files are written one after the other: what changed since the last look may not be complete yet.
        let settled = now == seen.last;
        seen.last = now;
        if !settled || now == seen.judged {
            return None;
        }
        seen.judged = now;
        let generation = self.current.load().generation + 1;
        let taken = read(&self.terms, generation).map(|material| {
            self.current.store(Arc::new(material));
            generation
        });
        self.unusable.store(taken.as_ref().err().map(|error| Arc::new(error.to_string())));
        Some(taken)
    }

    fn stamps(&self) -> [Stamp; 3] {
        stamps(&self.terms)
    }
}

impl Trust for Tls {
    fn generation(&self) -> u64 {
        self.current.load().generation
    }

    fn check(&self, chain: &[Vec<u8>], now: SystemTime) -> Result<(), String> {
        let (leaf, intermediates) = chain.split_first().ok_or("there is none")?;
        let intermediates: Vec<CertificateDer<'_>> = intermediates.iter().map(|der| der.as_slice().into()).collect();
        let now = UnixTime::since_unix_epoch(now.duration_since(UNIX_EPOCH).unwrap_or_default());
        let current = self.current.load();
        let verifier = current.verifier.as_ref().ok_or("nobody is asked for one here")?;
        let verdict = verifier.verify_client_cert(&leaf.as_slice().into(), &intermediates, now);
        verdict.map(|_| ()).map_err(|error| client_auth::reason(&error, self.terms.section))
    }
}

fn stamps(terms: &Terms) -> [Stamp; 3] {
    [Some(&terms.certificate), Some(&terms.key), terms.client_ca()].map(|path| {
        let metadata = std::fs::metadata(path?).ok()?;
        Some((metadata.dev(), metadata.ino(), metadata.len(), metadata.mtime(), metadata.mtime_nsec()))
    })
}

fn read(terms: &Terms, generation: u64) -> Result<Material, Error> {
    // Before the contents: a change in between is then seen at the next look.
    let stamps = stamps(terms);
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let clients = terms.client_ca().map(|path| authorities(path, terms, &provider)).transpose()?;
    let (verifier, client_authorities) = clients.unzip();
    let chain = certificates(&terms.certificate)?;
    let server = facts(&terms.certificate, &chain);
    let shown = Shown { server, client_authorities: client_authorities.unwrap_or_default() };
    let key = PrivateKeyDer::from_pem_slice(private(&terms.key)?.expose())
        .map_err(|error| unusable(&terms.key, &format!("no private key in PEM: {error}")))?;
    let versions: &[&SupportedProtocolVersion] =
        if terms.tls12 { &[&version::TLS13, &version::TLS12] } else { &[&version::TLS13] };
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .map_err(|error| Error::Wrong(error.to_string()))?;
    let builder = match &verifier {
        Some(verifier) => builder.with_client_cert_verifier(Arc::new(AnyTime(Arc::clone(verifier)))),
        None => builder.with_no_client_auth(),
    };
    let mut config = builder
        .with_single_cert(chain, key)
        .map_err(|error| unusable(&terms.certificate, &format!("{error} (with the key in {})", terms.key.display())))?;
    config.alpn_protocols = vec![terms.protocol.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Material { config: Arc::new(config), generation, shown, verifier, stamps })
}

/// CAs of clients: who judges by them, and what they say.
fn authorities(
    path: &Path,
    terms: &Terms,
    provider: &Arc<CryptoProvider>,
) -> Result<(Arc<dyn ClientCertVerifier>, Vec<Facts>), Error> {
    let certificates = certificates(path)?;
    let facts = facts(path, &certificates);
    let mut roots = RootCertStore::empty();
    for certificate in certificates {
        roots.add(certificate).map_err(|error| unusable(path, &error))?;
    }
    let mut verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    if !terms.needs_certificates() {
        verifier = verifier.allow_unauthenticated();
    }
    Ok((verifier.build().map_err(|error| unusable(path, &error))?, facts))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;
    use std::path::PathBuf;

    use super::super::terms::HTTP1;
    use super::*;
    use config::{Aws, Grpc};
    use model::clock::Clock;
    use pki::{Authority, Issued};

    const DAY: Duration = Duration::from_secs(86_400);

    struct Site {
        dir: tempfile::TempDir,
        clock: Clock,
    }

    impl Site {
        fn new() -> (Self, Authority) {
            let site = Self { dir: tempfile::tempdir().expect("a directory"), clock: Clock::system() };
            let authority = site.authority("first");
            site.write("ca", authority.certificate());
            site.keep(&authority.server(&["localhost"], site.clock.calendar(), DAY).expect("made"));
            (site, authority)
        }

        fn authority(&self, name: &str) -> Authority {
            Authority::generate(name, self.clock.calendar(), DAY).expect("made")
        }

        fn path(&self, name: &str) -> PathBuf {
            self.dir.path().join(name)
        }

        fn write(&self, name: &str, text: &str) {
            fs::write(self.path("new"), text).expect("written");
            fs::set_permissions(self.path("new"), fs::Permissions::from_mode(0o600)).expect("changed");
            fs::rename(self.path("new"), self.path(name)).expect("moved");
        }

        fn keep(&self, issued: &Issued) {
            self.write("cert", &issued.certificate);
            self.write("key", std::str::from_utf8(issued.key.expose()).expect("PEM"));
        }

        fn files(&self) -> Grpc {
            let [certificate, key, client_ca] = ["cert", "key", "ca"].map(|name| self.path(name));
            Grpc { listen: ([127, 0, 0, 1], 0).into(), certificate, key, client_ca }
        }

        fn refusal(&self) -> String {
            Tls::load(Terms::grpc(&self.files())).err().expect("must be refused").to_string()
        }
    }

    fn chain(issued: &Issued) -> Vec<Vec<u8>> {
        CertificateDer::pem_slice_iter(issued.certificate.as_bytes()).map(|der| der.expect("PEM").to_vec()).collect()
    }

    #[test]
    fn what_cannot_be_used_is_named() {
        let (site, authority) = Site::new();
        Tls::load(Terms::grpc(&site.files())).expect("good");
        for (mode, says) in [(0o604, "everybody may read it (mode 604)"), (0o602, "everybody may write it (mode 602)")]
        {
            fs::set_permissions(site.path("key"), fs::Permissions::from_mode(mode)).expect("changed");
            assert!(site.refusal().contains(&format!("/key: {says}; chmod 0400")), "{}", site.refusal());
        }
        site.write("key", "nonsense");
        assert!(site.refusal().contains("/key: no private key in PEM"), "{}", site.refusal());
        site.keep(&authority.server(&["localhost"], site.clock.calendar(), DAY).expect("made"));
        let other = authority.server(&["localhost"], site.clock.calendar(), DAY).expect("made");
        site.write("cert", &other.certificate);
        assert!(site.refusal().contains("/cert: ") && site.refusal().contains("with the key in"), "{}", site.refusal());
        site.write("cert", "");
        assert!(site.refusal().contains("/cert: no certificate in it"), "{}", site.refusal());
        site.keep(&other);
        fs::remove_file(site.path("ca")).expect("removed");
        assert!(site.refusal().contains("/ca: No such file"), "{}", site.refusal());
    }

    #[test]
    fn changed_files_are_taken_over_when_they_are_complete() {
        let (site, first) = Site::new();
        let tls = Tls::load(Terms::grpc(&site.files())).expect("good");
        let mut seen = tls.first_look();
        assert!(tls.look(&mut seen).is_none(), "nothing has changed");

        let second = site.authority("second");
        let now = site.clock.calendar();
        let clients = [&first, &second].map(|ca| chain(&ca.client("app", None, now, DAY).expect("made")));
        let check = |client: &[Vec<u8>]| tls.check(client, now);
        assert!(check(&clients[0]).is_ok() && check(&clients[1]).is_err());

        site.write("ca", second.certificate());
        assert!(tls.look(&mut seen).is_none(), "it may still be written");
        assert_eq!(tls.look(&mut seen).expect("a change").expect("good"), 2);
        assert_eq!(tls.generation(), 2);
        assert!(check(&clients[0]).is_err() && check(&clients[1]).is_ok());

        site.write("cert", "half a certif");
        assert!(tls.look(&mut seen).is_none());
        assert!(tls.look(&mut seen).expect("a change").is_err());
        assert!(tls.look(&mut seen).is_none(), "reported once");
        assert_eq!(tls.generation(), 2);
        assert!(check(&clients[1]).is_ok());
        assert!(tls.trouble().expect("it lasts").contains("/cert: "), "{:?}", tls.trouble());

        site.keep(&second.server(&["localhost"], now, DAY).expect("made"));
        tls.look(&mut seen);
        assert_eq!(tls.look(&mut seen).expect("a change").expect("good"), 3);
        assert_eq!(tls.trouble(), None);
    }

    #[test]
    fn expired_and_misused_certificates_are_refused() {
        let (site, authority) = Site::new();
        let tls = Tls::load(Terms::grpc(&site.files())).expect("good");
        let now = site.clock.calendar();
        let client = chain(&authority.client("app", None, now, DAY).expect("made"));
        assert!(tls.check(&client, now).is_ok());
        assert!(tls.check(&client, now + 2 * DAY).is_err());
        let server = chain(&authority.server(&["localhost"], now, DAY).expect("made"));
        assert!(tls.check(&server, now).is_err(), "a server's certificate is no client's");
        assert!(tls.check(&[], now).is_err());
    }

    #[test]
    fn a_listener_may_ask_for_certificates_or_not() {
        let (site, authority) = Site::new();
        let Grpc { listen, certificate, key, client_ca } = site.files();
        let now = site.clock.calendar();
        let client = chain(&authority.client("app", None, now, DAY).expect("made"));
        let mut aws = Aws { listen, certificate, key, client_ca: Some(client_ca), hosts: Vec::new(), tls12: false };
        let tls = Tls::load(Terms::aws(&aws)).expect("good");
        assert!(!tls.terms().needs_certificates() && tls.check(&client, now).is_ok());
        assert_eq!(tls.current().config.alpn_protocols, [HTTP1]);
        assert_eq!(tls.current().shown.client_authorities.len(), 1);
        let error = tls.check(&chain(&site.authority("other").client("app", None, now, DAY).expect("made")), now);
        assert!(error.expect_err("of another CA").contains("aws.client_ca"));
        (aws.client_ca, aws.tls12) = (None, true);
        let tls = Tls::load(Terms::aws(&aws)).expect("good");
        assert!(tls.check(&client, now).is_err(), "nobody vouches for it");
        assert!(tls.current().shown.client_authorities.is_empty());
        // A file that is not there is no file that changes.
        let mut seen = tls.first_look();
        assert!(tls.look(&mut seen).is_none());
    }
}
