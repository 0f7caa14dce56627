//! Load as AWS's clients make it: HTTP/1.1 over TLS 1.3, one call at a time on each connection, each signed anew by AWS's
//! signer. What an SDK does beside that is left out, so that on a machine shared with the service the processor is left
//! to the service.
//!
//! It is a closed loop: each call is followed by the next one when it is answered. Latency counts from when a call is
//! signed and about to be sent.

use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_credential_types::Credentials;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4::SigningParams;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use model::clock::Clock;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::daemon::Environment;
use super::load::Figures;
use super::{Outcome, PLAINTEXT_BYTES, said};

/// Before each measurement, for connections and copies of keys that are made on first use.
const WARM_UP: Duration = Duration::from_millis(300);
const SERVICE: &str = "kms";
/// Longer than any call may take, in nanoseconds.
const LONGEST: u64 = 60_000_000_000;
/// Read at once.
const PIECE_BYTES: usize = 16 << 10;

/// What is called, under which key, how often at once, and for how long.
pub(super) struct Load<'a> {
    /// As AWS calls it.
    pub(super) operation: &'a str,
    pub(super) key: &'a str,
    pub(super) in_flight: usize,
    pub(super) length: Duration,
}

impl Load<'_> {
    /// Measures once, in a process of its own. A failed call is an error.
    pub(super) fn run(&self, program: &Path, environment: &Environment) -> Outcome<Figures> {
        let output = Command::new(program)
            .args(["aws-load", self.operation, self.key])
            .args([self.in_flight.to_string(), self.length.as_millis().to_string()])
            .envs(environment)
            .stdin(Stdio::null())
            .output()
            .map_err(said("starting the load"))?;
        if !output.status.success() {
            return Err(format!("{}: {}", self.operation, String::from_utf8_lossy(&output.stderr)));
        }
        let figures: Value = serde_json::from_slice(&output.stdout).map_err(said("reading the load's figures"))?;
        let figure = |name: &str| figures[name].as_f64().ok_or(format!("the load says nothing of {name}"));
        Ok(Figures { rate: figure("rate")?, p50: figure("p50_us")? })
    }
}

/// A variable of the environment, as the daemon's dev.env gives it.
pub(super) fn variable(name: &str) -> Outcome<String> {
    std::env::var(name).map_err(|_| format!("the environment says nothing of {name}"))
}

/// Makes load as its arguments say, where the environment says, and prints what came of it.
pub(super) fn run(arguments: &[OsString], clock: &Clock) -> Outcome<()> {
    let argument = |place: usize| arguments.get(place).and_then(|argument| argument.to_str());
    let number = |place| argument(place).and_then(|number| number.parse::<u64>().ok());
    let (Some(operation), Some(key), Some(in_flight), Some(millis)) = (argument(1), argument(2), number(3), number(4))
    else {
        return Err("aws-load OPERATION KEY IN-FLIGHT MILLISECONDS".to_owned());
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(said("starting the runtime"))?;
    let signer = Arc::new(Signer::of_environment(clock)?);
    let length = Duration::from_millis(millis);
    let latencies = runtime.block_on(load(&signer, operation, key, in_flight, length))?;
    let figures = json!({
        "rate": latencies.len() as f64 / length.as_secs_f64(),
        "p50_us": latencies.value_at_quantile(0.5) as f64 / 1e3,
    });
    println!("{figures}");
    Ok(())
}

async fn load(
    signer: &Arc<Signer>,
    operation: &str,
    key: &str,
    in_flight: u64,
    length: Duration,
) -> Outcome<Histogram<u64>> {
    let mut wires = Vec::new();
    for _ in 0..in_flight {
        wires.push(Wire::connect(signer).await?);
    }
    let first = wires.first_mut().ok_or("nothing is in flight")?;
    let body = Arc::new(body(first, signer, operation, key).await?);
    let operation: Arc<str> = operation.into();
    let from = signer.clock.now() + WARM_UP;
    let mut tasks = JoinSet::new();
    for wire in wires {
        let calling =
            Calling { signer: Arc::clone(signer), operation: Arc::clone(&operation), body: Arc::clone(&body) };
        // On panic: the measurement fails.
        tasks.spawn(calling.run(wire, from, from + length));
    }
    let mut all = empty_histogram()?;
    while let Some(came) = tasks.join_next().await {
        all.add(came.map_err(said("calling"))??).map_err(said("counting"))?;
    }
    if all.is_empty() { Err("no call was made".to_owned()) } else { Ok(all) }
}

fn empty_histogram() -> Outcome<Histogram<u64>> {
    Histogram::new_with_bounds(1, LONGEST, 3).map_err(said("making a histogram"))
}

/// What each call says.
async fn body(wire: &mut Wire, signer: &Signer, operation: &str, key: &str) -> Outcome<Vec<u8>> {
    let encrypt = json!({ "KeyId": key, "Plaintext": STANDARD.encode([0x5a; PLAINTEXT_BYTES]) }).to_string();
    let body = match operation {
        "GenerateDataKey" => json!({ "KeyId": key, "KeySpec": "AES_256" }).to_string(),
        "Decrypt" => {
            let answer = wire.call(&signer.request("Encrypt", encrypt.as_bytes())?).await?;
            let answer: Value = serde_json::from_slice(answer).map_err(said("reading a ciphertext"))?;
            json!({ "KeyId": key, "CiphertextBlob": answer["CiphertextBlob"] }).to_string()
        }
        _ => encrypt,
    };
    Ok(body.into_bytes())
}

/// What one connection does.
struct Calling {
    signer: Arc<Signer>,
    operation: Arc<str>,
    body: Arc<Vec<u8>>,
}

impl Calling {
    /// Calls until it is time, and counts what was sent and answered in it.
    async fn run(self, mut wire: Wire, from: Instant, until: Instant) -> Outcome<Histogram<u64>> {
        let Self { signer, operation, body } = self;
        let mut latencies = empty_histogram()?;
        loop {
            let request = signer.request(&operation, &body)?;
            let sent = signer.clock.now();
            if sent >= until {
                return Ok(latencies);
            }
            wire.call(&request).await?;
            let answered = signer.clock.now();
            if sent >= from && answered <= until {
                let nanos = u64::try_from((answered - sent).as_nanos()).unwrap_or(LONGEST);
                latencies.saturating_record(nanos.min(LONGEST));
            }
        }
    }
}

/// Whom to call and as who.
struct Signer {
    /// HOST:PORT.
    host: String,
    tls: Arc<ClientConfig>,
    access_key: (String, String),
    region: String,
    clock: Clock,
}

impl Signer {
    fn of_environment(clock: &Clock) -> Outcome<Self> {
        let url = variable("AWS_ENDPOINT_URL_KMS")?;
        let host = url.strip_prefix("https://").ok_or("the endpoint has no TLS")?.to_owned();
        let ca = CertificateDer::from_pem_file(variable("AWS_CA_BUNDLE")?).map_err(said("reading the CA"))?;
        let mut roots = RootCertStore::empty();
        roots.add(ca).map_err(said("reading the CA"))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let tls = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(said("preparing TLS"))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(Self {
            host,
            tls: Arc::new(tls),
            access_key: (variable("AWS_ACCESS_KEY_ID")?, variable("AWS_SECRET_ACCESS_KEY")?),
            region: variable("AWS_REGION")?,
            clock: clock.clone(),
        })
    }

    /// A signed request, as it goes over the wire.
    fn request(&self, operation: &str, body: &[u8]) -> Outcome<Vec<u8>> {
        let target = format!("TrentService.{operation}");
        let headers = [
            ("host", self.host.as_str()),
            ("content-type", "application/x-amz-json-1.1"),
            ("x-amz-target", &target),
            ("amz-sdk-invocation-id", "5ea4754a-8661-4e81-ab4d-56068134d511"),
            ("amz-sdk-request", "attempt=1; max=3"),
        ];
        let (id, secret) = &self.access_key;
        let identity = Credentials::new(id, secret, None, None, "bench").into();
        let params = SigningParams::builder().identity(&identity).region(&self.region).name(SERVICE);
        let params = params.time(self.clock.calendar()).settings(SigningSettings::default()).build();
        let params = params.map_err(said("preparing a signature"))?.into();
        let signable = SignableRequest::new("POST", "/", headers.into_iter(), SignableBody::Bytes(body));
        let signed = sign(signable.map_err(said("reading a request"))?, &params).map_err(said("signing"))?;
        let (instructions, _) = signed.into_parts();
        let mut head = String::with_capacity(1 << 10);
        head.push_str("POST / HTTP/1.1\r\nuser-agent: keystored-bench\r\n");
        for (name, value) in headers.into_iter().chain(instructions.headers()) {
            let _ = write!(head, "{name}: {value}\r\n");
        }
        let _ = write!(head, "content-length: {}\r\n\r\n", body.len());
        let mut request = head.into_bytes();
        request.extend_from_slice(body);
        Ok(request)
    }
}

/// A connection, which is kept.
struct Wire {
    stream: TlsStream<TcpStream>,
    read: Vec<u8>,
}

impl Wire {
    async fn connect(signer: &Signer) -> Outcome<Self> {
        let stream = TcpStream::connect(&signer.host).await.map_err(said("connecting"))?;
        stream.set_nodelay(true).map_err(said("connecting"))?;
        let name = ServerName::try_from("localhost").map_err(said("naming the service"))?;
        let stream = TlsConnector::from(Arc::clone(&signer.tls)).connect(name, stream).await;
        Ok(Self { stream: stream.map_err(said("connecting"))?, read: Vec::with_capacity(PIECE_BYTES) })
    }

    /// Sends a request; the body of its answer, which must be a good one.
    async fn call(&mut self, request: &[u8]) -> Outcome<&[u8]> {
        self.stream.write_all(request).await.map_err(said("sending"))?;
        self.stream.flush().await.map_err(said("sending"))?;
        self.read.clear();
        let head = loop {
            self.more().await?;
            if let Some(end) = self.read.windows(4).position(|part| part == b"\r\n\r\n") {
                break end + 4;
            }
        };
        let (good, length) = judge(&self.read[..head])?;
        while self.read.len() < head + length {
            self.more().await?;
        }
        let body = &self.read[head..];
        if good { Ok(body) } else { Err(format!("a call failed: {}", String::from_utf8_lossy(body))) }
    }

    async fn more(&mut self) -> Outcome<()> {
        match self.stream.read_buf(&mut self.read).await.map_err(said("reading"))? {
            0 => Err("the service has ended the connection".to_owned()),
            _ => Ok(()),
        }
    }
}

/// Whether an answer is a good one, and how long its body is.
fn judge(head: &[u8]) -> Outcome<(bool, usize)> {
    let head = std::str::from_utf8(head).map_err(said("reading an answer's head"))?;
    let length = head.lines().find_map(|line| {
        let (name, value) = line.split_once(": ")?;
        name.eq_ignore_ascii_case("content-length").then_some(value)
    });
    let length = length.and_then(|length| length.parse().ok()).ok_or("an answer does not say how long it is")?;
    Ok((head.starts_with("HTTP/1.1 200 "), length))
}
