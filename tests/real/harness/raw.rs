//! A client that speaks HTTP/2 frame by frame, so that it can leave undone what every library does.

use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::call::Address;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const HEADERS: u8 = 1;
pub(crate) const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
/// The setting, and the largest frame that every peer takes.
const INITIAL_WINDOW: u16 = 4;
const FRAME_BYTES: usize = 16 << 10;

/// One connection.
pub(crate) struct Raw {
    stream: TlsStream<TcpStream>,
    next: u32,
    out: Vec<u8>,
}

/// What comes back, as far as tests look at it: the kind of a frame and its stream.
pub(crate) type Seen = (u8, u32);

impl Raw {
    /// Connects; answers get so many bytes of window.
    pub(crate) async fn connect(address: &Address, config: &Arc<ClientConfig>, window: u32) -> std::io::Result<Self> {
        let to = address.url.trim_start_matches("https://");
        let stream = TcpStream::connect(to).await?;
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await?;
        let mut raw = Self { stream, next: 1, out: PREFACE.to_vec() };
        let mut settings = INITIAL_WINDOW.to_be_bytes().to_vec();
        settings.extend(window.to_be_bytes());
        raw.frame(SETTINGS, 0, 0, &settings);
        raw.flush().await?;
        Ok(raw)
    }

    /// Begins a call with these headers beside those that it needs; its stream.
    pub(crate) fn begin(&mut self, path: &str, headers: &[(&str, &str)], ends: bool) -> u32 {
        let stream = self.next;
        self.next += 2;
        let fixed = [(":method", "POST"), (":scheme", "https"), (":path", path), (":authority", "localhost")];
        let grpc = [("content-type", "application/grpc"), ("te", "trailers"), ("grpc-timeout", "60S")];
        let mut block = Vec::new();
        for (name, value) in fixed.iter().chain(&grpc).chain(headers) {
            // Literal, not indexed, its name too.
            block.push(0);
            for text in [name, value] {
                length(&mut block, text.len());
                block.extend(text.as_bytes());
            }
        }
        let pieces = block.chunks(FRAME_BYTES).count();
        for (number, piece) in block.chunks(FRAME_BYTES).enumerate() {
            let kind = if number == 0 { HEADERS } else { CONTINUATION };
            let last = if number + 1 == pieces { END_HEADERS } else { 0 };
            let end = if number == 0 && ends { END_STREAM } else { 0 };
            self.frame(kind, last | end, stream, piece);
        }
        stream
    }

    /// A header block that never ends.
    pub(crate) fn begin_without_end(&mut self) {
        let stream = self.next;
        self.next += 2;
        self.frame(HEADERS, 0, stream, &[0, 1, b'a', 1, b'b']);
    }

    /// Sends bytes of a request.
    pub(crate) fn data(&mut self, stream: u32, bytes: &[u8], ends: bool) {
        let pieces = bytes.chunks(FRAME_BYTES).count();
        for (number, piece) in bytes.chunks(FRAME_BYTES).enumerate() {
            let end = if ends && number + 1 == pieces { END_STREAM } else { 0 };
            self.frame(DATA, end, stream, piece);
        }
    }

    /// A whole unary call.
    pub(crate) fn call(&mut self, path: &str, message: &[u8]) -> u32 {
        let stream = self.begin(path, &[], false);
        self.data(stream, &framed(message), true);
        stream
    }

    /// Resets a stream.
    pub(crate) fn reset(&mut self, stream: u32) {
        self.frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes());
    }

    /// Opens a stream's window, or with 0 the connection's, by so many bytes.
    pub(crate) fn open_window(&mut self, stream: u32, bytes: u32) {
        self.frame(WINDOW_UPDATE, 0, stream, &bytes.to_be_bytes());
    }

    fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        self.out.extend(&length[1..]);
        self.out.extend([kind, flags]);
        self.out.extend(stream.to_be_bytes());
        self.out.extend(payload);
    }

    /// Sends what has been said so far.
    pub(crate) async fn flush(&mut self) -> std::io::Result<()> {
        let out = std::mem::take(&mut self.out);
        self.stream.write_all(&out).await?;
        self.stream.flush().await
    }

    /// The next frame.
    pub(crate) async fn read(&mut self) -> std::io::Result<Seen> {
        let mut head = [0; 9];
        self.stream.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        tokio::io::copy(&mut (&mut self.stream).take(length.into()), &mut tokio::io::sink()).await?;
        Ok((head[3], u32::from_be_bytes([head[5], head[6], head[7], head[8]])))
    }
}

/// A message as gRPC frames it.
pub(crate) fn framed(message: &[u8]) -> Vec<u8> {
    let length = u32::try_from(message.len()).unwrap().to_be_bytes();
    [&[0], &length[..], message].concat()
}

/// HPACK's integer with a prefix of seven bits.
fn length(block: &mut Vec<u8>, length: usize) {
    let Some(mut rest) = length.checked_sub(127) else {
        block.push(u8::try_from(length).unwrap());
        return;
    };
    block.push(127);
    while rest >= 128 {
        block.push(u8::try_from(rest % 128).unwrap() | 128);
        rest /= 128;
    }
    block.push(u8::try_from(rest).unwrap());
}

/// What a client of this address shows and trusts.
pub(crate) fn client_config(address: &Address) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(address.ca.as_bytes()).unwrap()).unwrap();
    let chain = CertificateDer::pem_slice_iter(address.certificate.as_bytes()).map(Result::unwrap).collect();
    let key = PrivateKeyDer::from_pem_slice(address.key.as_bytes()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&rustls::version::TLS13]);
    let mut config = builder.unwrap().with_root_certificates(roots).with_client_auth_cert(chain, key).unwrap();
    config.alpn_protocols.push(b"h2".to_vec());
    Arc::new(config)
}
