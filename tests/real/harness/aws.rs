//! A client of AWS KMS made by hand: HTTP/1.1 over TLS, and signatures by AWS's own description of them, so that it can do
//! what no client would.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::hmac;
use model::clock::Clock;
use proto::v1::{AttachPolicyRequest, CreateAccessKeyRequest, CreatePrincipalRequest, attach_policy_request};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::ServerName;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::call::Caller;
use super::daemon::{Daemon, Site};

/// The region of development daemons.
pub(crate) const REGION: &str = "eu-central-1";

impl Site {
    /// One with a listener for gRPC and none for AWS's clients.
    pub(crate) async fn for_grpc_alone() -> Self {
        let site = Self::prepare().await;
        site.configure(|config| drop(config.remove("aws")));
        site
    }
}

/// An access key.
#[derive(Clone)]
pub(crate) struct AccessKey {
    /// The ARN of its principal.
    pub(crate) principal: String,
    pub(crate) id: String,
    pub(crate) secret: String,
}

/// Makes a principal of this name with an access key, attached to one of the policies of the program.
pub(crate) async fn principal(caller: &Caller, name: &str, policy: &str) -> AccessKey {
    let mut access = caller.access.clone();
    let arn = format!("arn:aws:iam::000000000000:user/{name}");
    let request = CreatePrincipalRequest { arn: arn.clone(), ..Default::default() };
    access.create_principal(request).await.unwrap();
    let to = Some(attach_policy_request::To::Principal(arn.clone()));
    access.attach_policy(AttachPolicyRequest { policy: policy.to_owned(), to }).await.unwrap();
    another_key(caller, &arn).await
}

/// A further access key of a principal.
pub(crate) async fn another_key(caller: &Caller, principal: &str) -> AccessKey {
    let request = CreateAccessKeyRequest { principal: principal.to_owned() };
    let made = caller.access.clone().create_access_key(request).await.unwrap().into_inner();
    let id = made.access_key.unwrap().access_key_id;
    AccessKey { principal: principal.to_owned(), id, secret: made.secret_access_key }
}

/// A request, which tests make wrong before it is sent.
#[derive(Clone)]
pub(crate) struct Ask {
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

/// What a signature says beside the request.
#[derive(Clone)]
pub(crate) struct Scope {
    pub(crate) service: &'static str,
    pub(crate) region: &'static str,
    pub(crate) at: SystemTime,
}

impl Scope {
    /// As it should be.
    pub(crate) fn of(service: &'static str) -> Self {
        Self { service, region: REGION, at: Clock::system().calendar() }
    }
}

impl Ask {
    /// For an operation of KMS, not signed yet.
    pub(crate) fn kms(operation: &str, body: &Value) -> Self {
        let media = "application/x-amz-json-1.1";
        let ask = Self::with_body(media, body.to_string().into_bytes());
        ask.header("x-amz-target", &format!("TrentService.{operation}"))
    }

    /// For STS.
    pub(crate) fn sts(form: &str) -> Self {
        Self::with_body("application/x-www-form-urlencoded; charset=utf-8", form.as_bytes().to_vec())
    }

    fn with_body(media: &str, body: Vec<u8>) -> Self {
        let ask = Self { method: "POST", path: "/".to_owned(), headers: Vec::new(), body };
        ask.header("host", "localhost").header("content-type", media)
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Signs it as it is.
    pub(crate) fn sign(self, key: &AccessKey, scope: &Scope) -> Self {
        let (date, moment) = date(scope.at);
        let mut ask = self.header("x-amz-date", &moment);
        let mut signed: Vec<(String, String)> =
            ask.headers.iter().map(|(name, value)| (name.to_lowercase(), value.trim().to_owned())).collect();
        signed.sort();
        let names: Vec<&str> = signed.iter().map(|(name, _)| name.as_str()).collect();
        let names = names.join(";");
        let mut canonical = format!("{}\n{}\n\n", ask.method, ask.path);
        for (name, value) in &signed {
            writeln!(canonical, "{name}:{value}").unwrap();
        }
        write!(canonical, "\n{names}\n{}", hex(digest(&SHA256, &ask.body).as_ref())).unwrap();
        let Scope { service, region, .. } = scope;
        let place = format!("{date}/{region}/{service}/aws4_request");
        let to_sign =
            format!("AWS4-HMAC-SHA256\n{moment}\n{place}\n{}", hex(digest(&SHA256, canonical.as_bytes()).as_ref()));
        let mut secret = format!("AWS4{}", key.secret).into_bytes();
        for part in [&date, *region, *service, "aws4_request"] {
            secret = mac(&secret, part);
        }
        let signature = hex(&mac(&secret, &to_sign));
        let value =
            format!("AWS4-HMAC-SHA256 Credential={}/{place}, SignedHeaders={names}, Signature={signature}", key.id);
        ask = ask.header("authorization", &value);
        ask
    }

    /// As it goes over the wire.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        [self.head(self.body.len()), self.body.clone()].concat()
    }

    /// Its head, which announces so long a body.
    pub(crate) fn head(&self, length: usize) -> Vec<u8> {
        let mut head = format!("{} {} HTTP/1.1\r\n", self.method, self.path);
        for (name, value) in &self.headers {
            write!(head, "{name}: {value}\r\n").unwrap();
        }
        write!(head, "content-length: {length}\r\n\r\n").unwrap();
        head.into_bytes()
    }
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

/// `20261129` and `20261129T221500Z`.
fn date(at: SystemTime) -> (String, String) {
    let seconds = at.duration_since(UNIX_EPOCH).unwrap().as_secs();
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    // Days since 0000-03-01, by eras of 400 years (H. Hinnant, chrono-compatible low-level date algorithms).
    let shifted = days + 719_468;
    let (era, of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    let date = format!("{year:04}{month:02}{day:02}");
    let time = format!("T{:02}{:02}{:02}Z", second / 3_600, second / 60 % 60, second % 60);
    (date.clone(), date + &time)
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.headers["content-type"], "application/x-amz-json-1.1", "{self:?}");
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Status and name of an error.
    pub(crate) fn error(&self) -> (u16, String) {
        let name = self.json()["__type"].as_str().unwrap_or_default().to_owned();
        assert_eq!(self.headers.get("x-amzn-errortype"), Some(&name), "{self:?}");
        (self.status, name)
    }
}

/// Where a daemon listens for AWS's clients, and what one trusts and shows.
#[derive(Clone)]
pub(crate) struct Endpoint {
    pub(crate) address: SocketAddr,
    pub(crate) config: Arc<ClientConfig>,
}

impl Endpoint {
    /// Of a daemon; its client shows no certificate.
    pub(crate) fn of(daemon: &Daemon) -> Self {
        let url = daemon.environment().unwrap()["AWS_ENDPOINT_URL_KMS"].clone();
        let address = url.trim_start_matches("https://").parse().unwrap();
        Self { address, config: Arc::new(client(&daemon.address().ca, &[&rustls::version::TLS13])) }
    }

    pub(crate) async fn connect(&self) -> std::io::Result<Wire> {
        self.connect_from(Ipv4Addr::LOCALHOST, None).await
    }

    /// From one of this machine's addresses, with a buffer of so many bytes for what comes.
    pub(crate) async fn connect_from(&self, from: Ipv4Addr, buffer: Option<u32>) -> std::io::Result<Wire> {
        let socket = TcpSocket::new_v4()?;
        if let Some(bytes) = buffer {
            socket.set_recv_buffer_size(bytes)?;
        }
        socket.bind((from, 0).into())?;
        let stream = socket.connect(self.address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(Arc::clone(&self.config)).connect(name, stream).await?;
        Ok(Wire { stream, read: Vec::new() })
    }

    /// One request on a connection of its own.
    pub(crate) async fn ask(&self, ask: &Ask) -> Answer {
        let mut wire = self.connect().await.unwrap();
        wire.send(&ask.bytes()).await.unwrap();
        wire.answer().await.unwrap()
    }
}

/// What a client without a certificate trusts.
pub(crate) fn client(ca: &str, versions: &[&'static rustls::SupportedProtocolVersion]) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    builder.with_root_certificates(roots).with_no_client_auth()
}

/// A connection.
pub(crate) struct Wire {
    pub(crate) stream: TlsStream<TcpStream>,
    read: Vec<u8>,
}

impl Wire {
    pub(crate) async fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// The next answer.
    pub(crate) async fn answer(&mut self) -> std::io::Result<Answer> {
        self.answer_to("POST").await
    }

    pub(crate) async fn answer_to(&mut self, method: &str) -> std::io::Result<Answer> {
        let head = self.head().await?;
        let mut lines = head.split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let header = |line: &str| {
            let (name, value) = line.split_once(": ")?;
            Some((name.to_lowercase(), value.to_owned()))
        };
        let headers: BTreeMap<String, String> = lines.filter_map(header).collect();
        let length = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
        let length = if method == "HEAD" || status == 100 { 0 } else { length };
        while self.read.len() < length {
            self.more().await?;
        }
        let body = self.read.drain(..length).collect();
        Ok(Answer { status, headers, body })
    }

    async fn head(&mut self) -> std::io::Result<String> {
        loop {
            if let Some(end) = self.read.windows(4).position(|part| part == b"\r\n\r\n") {
                let head = self.read.drain(..end + 4).take(end).collect();
                return Ok(String::from_utf8(head).unwrap());
            }
            self.more().await?;
        }
    }

    async fn more(&mut self) -> std::io::Result<()> {
        let mut piece = [0; 16 << 10];
        let read = self.stream.read(&mut piece).await?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        self.read.extend_from_slice(&piece[..read]);
        Ok(())
    }

    /// Waits until the other side has ended the connection.
    pub(crate) async fn ends(&mut self, within: Duration) {
        let end = async { while self.more().await.is_ok() {} };
        tokio::time::timeout(within, end).await.expect("the connection ends");
    }
}

#[test]
fn dates_are_those_of_the_calendar() {
    let at = |seconds| date(UNIX_EPOCH + Duration::from_secs(seconds)).1;
    for (seconds, shown) in [
        (0, "19700101T000000Z"),
        (951_782_399, "20000228T235959Z"),
        (951_782_400, "20000229T000000Z"),
        (1_440_938_160, "20150830T123600Z"),
        (1_798_761_599, "20261231T235959Z"),
    ] {
        assert_eq!(at(seconds), shown);
    }
}
