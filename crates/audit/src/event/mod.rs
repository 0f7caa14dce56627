//! Events: what happened, in the shape of AWS CloudTrail's records, so that what reads those reads these.
//!
//! An event is written at once and by hand, since one is written for each call, before its answer is given out: a tree of
//! JSON would cost more than the record. Plaintext, ciphertext, PINs, passwords, grant tokens, secrets, trust anchors and
//! policies that are shown have no place in it; encryption contexts and what else a caller says stand in clear, as AWS has it.

mod contexts;
mod id;
mod items;
mod json;
mod split;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::net::IpAddr;
use std::time::Duration;

pub use self::id::{EventId, time};
pub use self::items::{Ask, Asked, Done, Items, Key, Length, NONE, Says, Served, Shape};
pub use self::json::{Fields, Value};
pub use self::split::whole;

use self::id::push_time;
use self::json::{Container, Line, Out};
use self::split::{ADDITIONAL, Split};
use crate::layout::RECORD_BYTES;
use crate::log::{Leaves, NoLeaf};
use model::id::Scope;

/// The version of CloudTrail's records whose members these have.
pub const VERSION: &str = "1.11";
/// The source of what AWS KMS does, too.
pub const KMS: &str = "kms.amazonaws.com";
/// The source of what it does not.
pub const OURS: &str = "keystored";
/// The source of what AWS's STS does, too.
pub const STS: &str = "sts.amazonaws.com";
/// Bytes of what a caller says of itself that stand in each leaf of an event; all that is checked is shorter.
const SAID: usize = 4 << 10;
/// As much as most records of one item have.
const USUAL: usize = 2 << 10;

/// Who did something.
#[derive(Clone, Copy, Debug)]
pub enum Actor<'a> {
    /// A principal that policies know.
    Principal {
        /// Its id.
        id: &'a str,
        /// Its ARN.
        arn: &'a str,
        /// The access key with which the call was signed.
        access_key: Option<&'a str>,
    },
    /// Somebody who proved to have this name, which is mapped to no principal: an administrator of the configuration, or
    /// somebody who may do nothing.
    Unmapped(&'a str),
    /// Nobody proved to be anybody.
    Anonymous,
    /// The service itself.
    Service,
}

/// What is said of one call: as it was about to be carried out, or of what became of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It is about to be carried out. What it changes has not happened yet, or a crash keeps its outcome from being known.
    Intent,
    /// How it ended.
    Outcome,
    /// Results of a call whose outcome is on record are withheld: permission or state was taken away meanwhile.
    Withheld,
}

impl Phase {
    /// Its name in records.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Intent => "intent",
            Self::Outcome => "outcome",
            Self::Withheld => "withheld",
        }
    }
}

/// What was asked for.
#[derive(Clone, Copy, Debug)]
pub enum Request<'a> {
    /// Nothing that has parameters.
    None,
    /// Parameters by AWS's names.
    Fields(&'a Fields),
    /// Items of a call that uses keys.
    Items(&'a Items),
}

/// The connection that a call came by.
#[derive(Clone, Copy, Debug)]
pub struct Tls<'a> {
    /// The version of the protocol.
    pub version: &'a str,
    /// How it is encrypted.
    pub cipher_suite: &'a str,
    /// The host that the client asked.
    pub host: Option<&'a str>,
}

/// What happened.
#[derive(Clone, Debug)]
pub struct Event<'a> {
    /// Its id.
    pub id: EventId,
    /// When, in milliseconds since the Unix epoch.
    pub unix_millis: i64,
    /// [`KMS`], [`STS`] or [`OURS`].
    pub source: &'static str,
    /// The operation, by AWS's name where AWS has it.
    pub name: &'a str,
    /// Region and account.
    pub scope: &'a Scope,
    /// Who did it.
    pub actor: Actor<'a>,
    /// From where.
    pub address: Option<IpAddr>,
    /// What the client calls itself.
    pub user_agent: Option<&'a str>,
    /// By which connection.
    pub tls: Option<Tls<'a>>,
    /// Why it failed: the exception's name, and the message.
    pub failure: Option<(&'a str, &'a str)>,
    /// What was asked for.
    pub request: Request<'a>,
    /// What was answered, where AWS records that.
    pub response: Option<&'a Fields>,
    /// By which interface.
    pub interface: Option<&'static str>,
    /// By which name of a certificate.
    pub certificate: Option<&'a str>,
    /// What is said of the call.
    pub phase: Phase,
    /// The event that said that the call is about to be carried out.
    pub intent: Option<EventId>,
    /// How long it took.
    pub latency: Option<Duration>,
    /// Which statement of a policy, grant or administrator's right decided on it.
    pub decided_by: Option<&'a str>,
    /// What else is to be said.
    pub additional: &'a Fields,
    /// Under which id an interface had the call; empty where it has none.
    pub request_id: &'a str,
    /// Nothing was changed by it.
    pub read_only: bool,
    /// ARNs of what it was about.
    pub resources: &'a [&'a str],
}

thread_local! {
    /// What a record is written into, to be copied once and in one piece: one is written for each call.
    static LINE: RefCell<Line> = const { RefCell::new(Line(Vec::new())) };
}

impl Event<'_> {
    /// As the log keeps it. Nothing is cut: what one leaf has no room for stands in further ones. Where it is longer than an
    /// event may be, which takes megabytes of characters that JSON escapes, its length and digest stand for what is long.
    pub fn leaves(&self) -> Result<Leaves, NoLeaf> {
        let one = LINE.with_borrow_mut(|line| {
            line.0.clear();
            self.write(line);
            let one = (line.0.len() <= RECORD_BYTES).then(|| Leaves::one(&line.0));
            // One that became large is not kept: each thread has one, and the next record may be long in coming.
            if line.0.capacity() > RECORD_BYTES {
                line.0 = Vec::new();
            }
            one
        });
        let leaves = one.unwrap_or_else(|| leaves_of(&self.split()));
        leaves.or_else(|_| {
            let additional = self.abridged();
            leaves_of(&Event { request: Request::None, additional: &additional, ..self.clone() }.records())
        })
    }

    /// What is said beside, with the length and the digest of what is left out: of the members that may be long, as they
    /// would stand in one record, from `errorCode` or `requestParameters` on.
    fn abridged(&self) -> Fields {
        let mut line = Line(Vec::new());
        self.write_rest(&mut line);
        let length = i64::try_from(line.0.len()).unwrap_or(i64::MAX);
        let told = Fields::new().number("bytes", length).text("sha256", &json::sha256(&line.0));
        self.additional.clone().with("abridged", Value::Object(told))
    }

    /// The same as text, one record for each leaf.
    #[must_use]
    pub fn records(&self) -> Vec<Vec<u8>> {
        let mut line = Line(Vec::with_capacity(USUAL));
        self.write(&mut line);
        if line.0.len() <= RECORD_BYTES { vec![line.0] } else { self.split() }
    }

    /// All of it in one record.
    fn write(&self, line: &mut Line) {
        line.open(Container::Object);
        self.write_head(line);
        self.write_rest(line);
        line.close(Container::Object);
    }

    /// All of it in as many records as that takes.
    fn split(&self) -> Vec<Vec<u8>> {
        let mut head = Line(Vec::new());
        self.write_head(&mut head);
        let mut split = Split::new(&head.0, RECORD_BYTES);
        self.write_rest(&mut split);
        split.finish()
    }

    /// What stands in each leaf, and is bounded.
    fn write_head(&self, line: &mut Line) {
        line.named_text("eventVersion", VERSION);
        line.name("userIdentity");
        self.write_actor(line);
        line.name("eventTime");
        line.0.push(b'"');
        push_time(&mut line.0, self.unix_millis);
        line.0.push(b'"');
        line.named_text("eventSource", self.source);
        line.named_text("eventName", self.name);
        line.named_text("awsRegion", &self.scope.region);
        let service = matches!(self.actor, Actor::Service);
        match self.address {
            Some(address) => {
                use std::io::Write as _;
                line.name("sourceIPAddress");
                // A Vec takes everything.
                let _ = write!(line.0, "\"{address}\"");
            }
            None if service => line.named_text("sourceIPAddress", INTERNAL),
            None => {}
        }
        match self.user_agent {
            Some(user_agent) => line.named_text("userAgent", short(user_agent)),
            None if service => line.named_text("userAgent", INTERNAL),
            None => {}
        }
        if !self.request_id.is_empty() {
            line.named_text("requestID", short(self.request_id));
        }
        line.name("eventID");
        self.id.push(&mut line.0);
        line.name("readOnly");
        line.flag(self.read_only);
        line.named_text("eventType", if service { "AwsServiceEvent" } else { "AwsApiCall" });
        line.name("managementEvent");
        line.flag(true);
        line.named_text("recipientAccountId", &self.scope.account);
        line.named_text("eventCategory", "Management");
        if let Some(Tls { version, cipher_suite, host }) = self.tls {
            line.name("tlsDetails");
            line.open(Container::Object);
            line.named_text("tlsVersion", version);
            line.named_text("cipherSuite", cipher_suite);
            if let Some(host) = host {
                line.named_text("clientProvidedHostHeader", short(host));
            }
            line.close(Container::Object);
        }
    }

    fn write_actor(&self, line: &mut Line) {
        line.open(Container::Object);
        match self.actor {
            Actor::Principal { id, arn, access_key } => {
                let mut parts = arn.splitn(6, ':').skip(4);
                let (account, what) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
                let (kind, path) = what.split_once('/').unwrap_or((what, ""));
                let kind = match kind {
                    "root" => "Root",
                    "role" => "Role",
                    "assumed-role" => "AssumedRole",
                    "federated-user" => "FederatedUser",
                    _ => "IAMUser",
                };
                line.named_text("type", kind);
                line.named_text("principalId", short(id));
                line.named_text("arn", short(arn));
                line.named_text("accountId", short(account));
                if let Some(key) = access_key {
                    line.named_text("accessKeyId", short(key));
                }
                if kind == "IAMUser" {
                    line.named_text("userName", short(path.rsplit('/').next().unwrap_or(path)));
                }
            }
            Actor::Unmapped(name) => {
                line.named_text("type", "Unknown");
                line.named_text("principalId", short(name));
                line.named_text("accountId", &self.scope.account);
            }
            Actor::Anonymous => {
                line.named_text("type", "AWSAccount");
                line.named_text("principalId", "");
                line.named_text("accountId", "ANONYMOUS_PRINCIPAL");
            }
            Actor::Service => {
                line.named_text("accountId", &self.scope.account);
                line.named_text("invokedBy", INTERNAL);
            }
        }
        line.close(Container::Object);
    }

    /// What may be long.
    fn write_rest(&self, out: &mut impl Out) {
        if let Some((code, message)) = self.failure {
            out.named_text("errorCode", code);
            if !message.is_empty() {
                out.named_text("errorMessage", message);
            }
        }
        out.name("requestParameters");
        match self.request {
            Request::None => out.raw(b"null"),
            Request::Fields(fields) if fields.is_empty() => out.raw(b"null"),
            Request::Fields(fields) => fields.write(out),
            Request::Items(items) => items.write_request(out),
        }
        out.name("responseElements");
        match self.response {
            Some(fields) => fields.write(out),
            None => out.raw(b"null"),
        }
        out.name("resources");
        out.open(Container::Array);
        for arn in self.resources {
            out.open(Container::Object);
            out.named_text("accountId", arn.split(':').nth(4).unwrap_or_default());
            out.named_text("type", kind_of(arn));
            out.named_text("ARN", arn);
            out.close(Container::Object);
        }
        out.close(Container::Array);
        self.write_additional(out);
    }

    fn write_additional(&self, out: &mut impl Out) {
        out.name(ADDITIONAL);
        out.open(Container::Object);
        out.named_number("eventTimeMillis", self.unix_millis);
        if let Some(interface) = self.interface {
            out.named_text("interface", interface);
        }
        if let Some(certificate) = self.certificate {
            out.named_text("certificate", certificate);
        }
        if self.phase != Phase::Outcome || self.intent.is_some() {
            out.named_text("phase", self.phase.name());
        }
        if let Some(intent) = self.intent {
            let mut text = Vec::with_capacity(38);
            intent.push(&mut text);
            out.name("intentEventID");
            out.raw(&text);
        }
        if let Some(latency) = self.latency {
            out.named_number("latencyMicros", i64::try_from(latency.as_micros()).unwrap_or(i64::MAX));
        }
        if let Some(reason) = self.decided_by {
            out.named_text("decidedBy", reason);
        }
        self.additional.write_members(out);
        if let Request::Items(items) = self.request {
            items.write_additional(out);
        }
        out.close(Container::Object);
    }
}

fn leaves_of(records: &[Vec<u8>]) -> Result<Leaves, NoLeaf> {
    let mut leaves = Leaves::new();
    records.iter().try_for_each(|record| leaves.push(record)).map(|()| leaves)
}

/// What AWS has the service itself be called.
const INTERNAL: &str = "AWS Internal";

/// The beginning of what a caller says of itself, where that is too long to stand in each leaf.
fn short(text: &str) -> &str {
    &text[..text.floor_char_boundary(SAID)]
}

/// What an ARN is one of.
fn kind_of(arn: &str) -> &'static str {
    let what = arn.splitn(6, ':').nth(5).unwrap_or_default();
    match what.split(['/', ':']).next() {
        Some("key") => "AWS::KMS::Key",
        Some("alias") => "AWS::KMS::Alias",
        Some("key-store") => "Keystored::KeyStore",
        Some("cluster") => "Keystored::Cluster",
        Some("group") => "Keystored::Group",
        Some("policy") => "Keystored::Policy",
        _ => "Keystored::Principal",
    }
}
