//! The Rust client library: a connection with mutual TLS, typed errors, file sealing.
//!
//! One [`Client`] holds one or several HTTP/2 connections to one service and is cheap to clone. A connection that
//! breaks is made again by the next call; no call is repeated by itself, because only the caller knows whether a
//! second result would hurt. Every call is bounded by the client's deadline, which travels to the service as
//! grpc-timeout.
//!
//! Plaintext that comes back is in [`Secret`]s. Plaintext that goes out is in the request messages of
//! [`proto`], which are not wiped. PINs go out from [`Secret`]s, in messages that are.

#![forbid(unsafe_code)]

mod access;
mod approvals;
mod audit;
mod chain;
mod control;
mod crypto;
mod error;
mod fingerprint;
mod handshake;
mod keys;
mod names;
mod pin;
pub mod raw;
mod receipt;
pub mod seal;
mod stream;
mod transport;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tonic::transport::Channel;

use model::secret::Secret;

use receipt::Asking;

pub use audit::AuditRecords;
pub use control::Health;
pub use crypto::{DataKey, Plaintext};
pub use error::{Code, Error, Fault};
pub use fingerprint::fingerprint;
pub use handshake::Trouble;
pub use receipt::{Receipt, Receipts};
pub use stream::{Answer, Answers, Outcome, Requests};

/// Most connections that one client opens.
pub const MAX_CONNECTIONS: usize = 64;

/// Who the caller is, and whom it trusts. All three are PEM.
#[derive(Clone, Debug)]
pub struct Credentials {
    /// Certificates of the authorities that may have signed the service's certificate.
    pub authorities: Vec<u8>,
    /// The caller's certificate, and the chain above it.
    pub certificate: Vec<u8>,
    /// The private key of the certificate.
    pub key: Secret,
}

/// How to reach a service.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `https://HOST:PORT`; the scheme may be left out.
    pub address: String,
    /// Who the caller is.
    pub credentials: Credentials,
    /// HTTP/2 connections, at least 1 and at most [`MAX_CONNECTIONS`]. Calls are spread over them in turn.
    pub connections: usize,
    /// How long to wait for one connection, TLS included.
    pub connect_timeout: Duration,
    /// How long to wait for each answer. Without one the service's own bound holds (250 ms for cryptography).
    pub deadline: Option<Duration>,
}

/// A connection to a service. Clones share it.
#[derive(Clone, Debug)]
pub struct Client {
    channels: Arc<[Channel]>,
    next: Arc<AtomicUsize>,
    deadline: Option<Duration>,
    receipts: Option<Receipts>,
}

impl Client {
    /// Connects, with all connections at once. A certificate that the service does not accept fails here.
    pub async fn connect(settings: &Settings) -> Result<Self, Error> {
        let channels = transport::connect(settings).await?;
        Ok(Self { channels: channels.into(), next: Arc::default(), deadline: settings.deadline, receipts: None })
    }

    /// The same connections with another deadline for each call.
    #[must_use]
    pub fn with_deadline(&self, deadline: Option<Duration>) -> Self {
        Self { deadline, ..self.clone() }
    }

    /// The same connections, whose calls ask where the audit log has their records; `receipts` hears of it. Those of
    /// [`raw`] do not ask, and the answers of a stream have their own ([`Answer::receipt`]).
    #[must_use]
    pub fn with_receipts(&self, receipts: Receipts) -> Self {
        Self { receipts: Some(receipts), ..self.clone() }
    }

    /// How many connections there are.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.channels.len()
    }

    /// The connection whose turn it is.
    fn channel(&self) -> Asking {
        let turn = if self.channels.len() > 1 { self.next.fetch_add(1, Ordering::Relaxed) } else { 0 };
        Asking { channel: self.nth_channel(turn), receipts: self.receipts.clone() }
    }

    fn nth_channel(&self, number: usize) -> Channel {
        // `transport::connect` makes at least one.
        self.channels[number % self.channels.len()].clone()
    }

    fn request<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        if let Some(deadline) = self.deadline {
            request.set_timeout(deadline);
        }
        request
    }
}
