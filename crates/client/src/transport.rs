//! Connections: TCP, TLS 1.3 with a client certificate, HTTP/2 with keep-alive.
//!
//! The connector is ours instead of tonic's because tonic's accepts TLS 1.2 and hides why a handshake failed.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;
use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tonic::transport::{Channel, Endpoint};

use super::handshake;
use super::{Credentials, Error, MAX_CONNECTIONS, Settings, Trouble};
use pki::Validity;

/// A dead peer is noticed after both: this long without traffic while a call waits, and then this long without an
/// answer to the ping.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(10);
const KEEP_ALIVE_WAIT: Duration = Duration::from_secs(5);
/// How long the service has to send its first frame.
const FIRST_FRAME: Duration = Duration::from_secs(1);
/// A batch of 1 MiB fits, several in flight too.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 16 << 20;

pub(super) async fn connect(settings: &Settings) -> Result<Vec<Channel>, Error> {
    let target = Target::parse(&settings.address)?;
    let tls = TlsConnector::from(Arc::new(tls_config(&settings.credentials)?));
    let timeout = settings.connect_timeout;
    let endpoint = Endpoint::from(target.plain.clone())
        .origin(target.origin.clone())
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keep_alive_interval(KEEP_ALIVE_EVERY)
        .keep_alive_timeout(KEEP_ALIVE_WAIT)
        .keep_alive_while_idle(false);
    let own = certificates("the client certificate", &settings.credentials.certificate)?;
    let own = own.first().and_then(|der| Validity::of(der).ok());
    let (endpoint, target) = (&endpoint, &target);
    let channels = (0..settings.connections.clamp(1, MAX_CONNECTIONS)).map(|_| {
        let (tls, open) = (tls.clone(), target.clone());
        let connector = tower::service_fn(move |_: Uri| {
            let (tls, open) = (tls.clone(), open.clone());
            async move { open.open(&tls, timeout).await.map(TokioIo::new) }
        });
        async move {
            let channel = endpoint.connect_with_connector(connector).await;
            channel.map_err(|error| explain(&settings.address, &error, own))
        }
    });
    try_join_all(channels).await
}

/// Where to connect to.
#[derive(Clone, Debug)]
struct Target {
    host: String,
    port: u16,
    name: ServerName<'static>,
    /// What requests carry as scheme and authority.
    origin: Uri,
    /// The same with the scheme `http`: tonic refuses `https` where TLS is not its own.
    plain: Uri,
}

impl Target {
    fn parse(address: &str) -> Result<Self, Error> {
        let wrong = |why: &str| {
            Error::unreachable(
                Trouble::Address,
                format!("'{address}' is no address of a service: {why}; write https://HOST:PORT"),
            )
        };
        let rest = match address.split_once("://") {
            None => address,
            Some(("https", rest)) => rest,
            Some(_) => return Err(wrong("only https is spoken")),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let uri = |scheme: &str| format!("{scheme}://{rest}").parse::<Uri>();
        let origin = uri("https").map_err(|error| wrong(&error.to_string()))?;
        let plain = uri("http").map_err(|error| wrong(&error.to_string()))?;
        let host = origin.host().ok_or_else(|| wrong("the host is missing"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let port = origin.port_u16().ok_or_else(|| wrong("the port is missing"))?;
        if origin.path() != "/" {
            return Err(wrong("a path does not belong there"));
        }
        let name = ServerName::try_from(host.clone()).map_err(|_| wrong("the host is no name and no IP address"))?;
        Ok(Self { host, port, name, origin, plain })
    }

    async fn open(&self, tls: &TlsConnector, timeout: Duration) -> io::Result<BufReader<TlsStream<TcpStream>>> {
        let opening = async {
            let tcp = TcpStream::connect((self.host.as_str(), self.port)).await?;
            // Requests are small and written whole; waiting to fill a segment would only delay them.
            tcp.set_nodelay(true)?;
            let stream = tls.connect(self.name.clone(), tcp).await?;
            // A buffer of one byte serves the look below and is passed by in every later read.
            let mut stream = BufReader::with_capacity(1, stream);
            // In TLS 1.3 the service looks at the client's certificate when the client is done. Its first frame means
            // that it was content; waiting for it makes a refusal an error of the connection and not of some call.
            // Whoever lets the client speak first is not waited for.
            if let Ok(first) = tokio::time::timeout(FIRST_FRAME, stream.fill_buf()).await
                && first?.is_empty()
            {
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the service closed the connection at once"));
            }
            Ok(stream)
        };
        let late = |_| io::Error::new(io::ErrorKind::TimedOut, format!("no connection within {timeout:?}"));
        tokio::time::timeout(timeout, opening).await.map_err(late)?
    }
}

fn tls_config(credentials: &Credentials) -> Result<ClientConfig, Error> {
    let wrong = |what: &str, why: &str| Error::unreachable(Trouble::Files, format!("{what} cannot be used: {why}"));
    let mut roots = RootCertStore::empty();
    for certificate in certificates("the CA file", &credentials.authorities)? {
        roots.add(certificate).map_err(|error| wrong("the CA file", &error.to_string()))?;
    }
    let chain = certificates("the client certificate", &credentials.certificate)?;
    let key = PrivateKeyDer::from_pem_slice(credentials.key.expose())
        .map_err(|error| wrong("the client key", &error.to_string()))?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| wrong("TLS 1.3", &error.to_string()))?
        .with_root_certificates(roots)
        .with_client_auth_cert(chain, key)
        .map_err(|error| wrong("the client certificate with its key", &error.to_string()))?;
    config.alpn_protocols.push(b"h2".to_vec());
    Ok(config)
}

fn certificates(what: &str, pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let read: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match read {
        Ok(list) if !list.is_empty() => Ok(list),
        Ok(_) => Err("it holds no PEM certificate".to_owned()),
        Err(error) => Err(error.to_string()),
    }
    .map_err(|why| Error::unreachable(Trouble::Files, format!("{what} cannot be used: {why}")))
}

/// Why no connection came about.
fn explain(address: &str, error: &tonic::transport::Error, own: Option<Validity>) -> Error {
    let handshake::Reason { trouble, sentence } = handshake::reason(error, own);
    Error::unreachable(trouble, format!("cannot connect to {address}: {sentence}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_with_and_without_scheme() {
        for text in ["https://127.0.0.1:7443", "127.0.0.1:7443", "https://127.0.0.1:7443/"] {
            let target = Target::parse(text).unwrap();
            assert_eq!((target.host.as_str(), target.port), ("127.0.0.1", 7443), "{text}");
            assert_eq!(target.origin.scheme_str(), Some("https"));
        }
        let target = Target::parse("https://[::1]:7443").unwrap();
        assert_eq!(target.host, "::1");
    }

    #[test]
    fn wrong_addresses_are_refused_with_the_right_form() {
        for text in ["http://127.0.0.1:7443", "127.0.0.1", "https://localhost:7443/path", "", "https://:1", "a b:1"] {
            let error = Target::parse(text).unwrap_err();
            assert!(error.message.contains("https://HOST:PORT"), "{text}: {}", error.message);
        }
    }

    #[test]
    fn unusable_certificates_are_named() {
        let credentials =
            Credentials { authorities: b"nonsense".to_vec(), certificate: Vec::new(), key: Secret::default() };
        let error = tls_config(&credentials).unwrap_err();
        assert_eq!(error.message, "the CA file cannot be used: it holds no PEM certificate");
    }

    use model::secret::Secret;
}
