//! What a listener speaks: with which files, inside which protocol, and with whom.

use std::path::PathBuf;

use config::{Aws, Grpc};

/// HTTP/2, as ALPN calls it.
pub(super) const HTTP2: &[u8] = b"h2";
/// HTTP/1.1, likewise.
pub(super) const HTTP1: &[u8] = b"http/1.1";

/// What a listener speaks, and with which files.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    /// The section of the configuration that says so.
    pub(super) section: &'static str,
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
    clients: Clients,
    /// What is spoken inside, by its name in ALPN.
    pub(super) protocol: &'static [u8],
    /// TLS 1.2 is spoken too.
    pub(super) tls12: bool,
}

/// Who may come.
#[derive(Clone, Debug)]
enum Clients {
    /// Those who show a certificate of these CAs.
    Known(PathBuf),
    /// They too, and those who show none.
    Asked(PathBuf),
    /// Everybody; nobody is asked.
    Anybody,
}

impl Terms {
    /// The gRPC listener's.
    pub(super) fn grpc(files: &Grpc) -> Self {
        Self::with(files, HTTP2)
    }

    /// Likewise, with another protocol inside.
    pub(super) fn with(files: &Grpc, protocol: &'static [u8]) -> Self {
        let Grpc { listen: _, certificate, key, client_ca } = files.clone();
        Self { section: "grpc", certificate, key, clients: Clients::Known(client_ca), protocol, tls12: false }
    }

    /// Those of the listener for AWS's clients.
    pub(super) fn aws(aws: &Aws) -> Self {
        let Aws { listen: _, certificate, key, client_ca, hosts: _, tls12 } = aws.clone();
        let clients = client_ca.map_or(Clients::Anybody, Clients::Asked);
        Self { section: "aws", certificate, key, clients, protocol: HTTP1, tls12 }
    }

    /// Whether clients must show a certificate.
    pub(super) fn needs_certificates(&self) -> bool {
        matches!(self.clients, Clients::Known(_))
    }

    /// CAs of client certificates, where clients are asked for one.
    pub(super) fn client_ca(&self) -> Option<&PathBuf> {
        match &self.clients {
            Clients::Known(path) | Clients::Asked(path) => Some(path),
            Clients::Anybody => None,
        }
    }
}
