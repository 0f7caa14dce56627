//! The file's shape, as serde reads it. Nothing is judged here but types and field names; [`super::check`] does the
//! rest. Values whose meaning is checked carry their place in the file, so that an error can name the line.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use toml::Spanned;

use model::profile::{PinScope, Profile, Rotation, VerifyWraps};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) state_dir: Spanned<String>,
    pub(super) lock_dir: Option<Spanned<String>>,
    pub(super) seal: Seal,
    pub(super) zone: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) administrators: Vec<Spanned<String>>,
    pub(super) arn: Arn,
    pub(super) grpc: Grpc,
    pub(super) aws: Option<Aws>,
    #[serde(default)]
    pub(super) ops: Ops,
    #[serde(default)]
    pub(super) limits: Limits,
    #[serde(default)]
    pub(super) approvals: Approvals,
    #[serde(default)]
    pub(super) rate_limits: RateLimits,
    #[serde(default)]
    pub(super) audit: Audit,
    #[serde(default)]
    pub(super) log: Log,
    #[serde(default)]
    pub(super) cluster: Vec<Spanned<Cluster>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Seal {
    pub(super) key: Spanned<String>,
    #[serde(default)]
    pub(super) former: Vec<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Arn {
    pub(super) partition: Option<Spanned<String>>,
    pub(super) region: Spanned<String>,
    pub(super) account: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Grpc {
    pub(super) listen: Spanned<String>,
    pub(super) certificate: Spanned<String>,
    pub(super) key: Spanned<String>,
    pub(super) client_ca: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Aws {
    pub(super) listen: Spanned<String>,
    pub(super) certificate: Spanned<String>,
    pub(super) key: Spanned<String>,
    pub(super) client_ca: Option<Spanned<String>>,
    #[serde(default)]
    pub(super) hosts: Vec<Spanned<String>>,
    #[serde(default)]
    pub(super) tls12: bool,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Ops {
    pub(super) listen: Option<Spanned<String>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limits {
    pub(super) default_deadline_ms: Option<Spanned<u64>>,
    pub(super) default_control_deadline_ms: Option<Spanned<u64>>,
    pub(super) items_in_work: Option<Spanned<u64>>,
    pub(super) items_in_work_per_principal: Option<Spanned<u64>>,
    pub(super) connections: Option<Spanned<u64>>,
    pub(super) streams: Option<Spanned<u64>>,
    pub(super) drain_s: Option<Spanned<u64>>,
    pub(super) keys_per_key_store: Option<Spanned<u64>>,
    pub(super) aliases_per_key: Option<Spanned<u64>>,
    pub(super) tags_per_key: Option<Spanned<u64>>,
    pub(super) on_demand_rotations: Option<Spanned<u64>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Approvals {
    #[serde(default)]
    pub(super) operations: Vec<Spanned<String>>,
    pub(super) required: Option<Spanned<u64>>,
    pub(super) expires_after_s: Option<Spanned<u64>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RateLimits {
    pub(super) requests_per_second_per_principal: Option<Spanned<u64>>,
    pub(super) requests_per_second_per_key_store: Option<Spanned<Rate>>,
    pub(super) burst_s: Option<Spanned<u64>>,
}

/// A figure, or the name of one.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Rate {
    Figure(u64),
    Named(String),
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Audit {
    pub(super) dir: Option<Spanned<String>>,
    pub(super) origin: Option<Spanned<String>>,
    pub(super) sync: Option<AuditSync>,
    pub(super) sync_interval_ms: Option<Spanned<u64>>,
    pub(super) json: Option<AuditJson>,
    pub(super) syslog: Option<AuditSyslog>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum AuditSync {
    Interval,
    Always,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AuditJson {
    pub(super) path: Spanned<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AuditSyslog {
    pub(super) address: Spanned<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Log {
    pub(super) format: Option<LogFormat>,
    pub(super) filter: Option<Spanned<String>>,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum LogFormat {
    Json,
    Text,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Cluster {
    pub(super) id: Spanned<String>,
    /// Known only to be refused with a sentence that says where key stores come from.
    pub(super) name: Option<Spanned<toml::Value>>,
    pub(super) hedge_after_ms: Option<Spanned<u64>>,
    #[serde(default)]
    pub(super) verify_wraps: VerifyWraps,
    #[serde(default)]
    pub(super) verify_unwraps: bool,
    #[serde(default)]
    pub(super) pin_scope: PinScope,
    #[serde(default)]
    pub(super) rotation: Rotation,
    pub(super) login_tries: Option<Spanned<u64>>,
    #[serde(default)]
    pub(super) hsm: Vec<Spanned<Hsm>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Hsm {
    pub(super) id: Spanned<String>,
    pub(super) zone: Option<Spanned<String>>,
    /// In its place, of an HSM that stands in several.
    pub(super) zones: Option<Spanned<Vec<Spanned<String>>>>,
    pub(super) module: Spanned<String>,
    pub(super) token_label: Spanned<String>,
    #[serde(default)]
    pub(super) token_serials: Vec<Spanned<String>>,
    /// Known only to be refused with the name that it has now.
    pub(super) token_serial: Option<Spanned<toml::Value>>,
    /// With the identity's certificate, of an HSM whose token holds none.
    pub(super) certificate: Option<Spanned<String>>,
    pub(super) profile: Option<Profile>,
    /// By group and key.
    #[serde(default)]
    pub(super) capabilities: BTreeMap<Spanned<String>, BTreeMap<Spanned<String>, Spanned<toml::Value>>>,
    #[serde(default)]
    pub(super) env: BTreeMap<Spanned<String>, String>,
    /// Known only to be refused with a sentence that says where a PIN belongs.
    pub(super) pin_file: Option<Spanned<toml::Value>>,
    /// The PIN itself; likewise known only to be refused.
    pub(super) pin: Option<Spanned<toml::Value>>,
    pub(super) workers: Option<Spanned<u64>>,
    pub(super) sessions: Option<Spanned<u64>>,
    pub(super) hot_copies: Option<Spanned<bool>>,
    pub(super) require_mlock: Option<bool>,
    pub(super) sandbox: Option<Spanned<Sandbox>>,
    #[serde(default)]
    pub(super) kill: Kill,
    #[serde(default)]
    pub(super) queue: Queue,
}

/// A switch, or what is allowed beside what the profile needs.
pub(super) enum Sandbox {
    Switch(bool),
    More(More),
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct More {
    pub(super) read: Vec<Spanned<String>>,
    pub(super) write: Vec<Spanned<String>>,
    pub(super) connect: Vec<Spanned<Place>>,
}

/// A TCP port, or a Unix socket.
#[derive(Deserialize)]
#[serde(untagged)]
pub(super) enum Place {
    Port(u64),
    Socket(String),
}

/// By hand, so that a mistake within the table is named; of an untagged enum it would only be said that nothing fits.
impl<'de> Deserialize<'de> for Sandbox {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;

        impl<'de> Visitor<'de> for Either {
            type Value = Sandbox;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false or { read = […], write = […], connect = […] }")
            }

            fn visit_bool<E>(self, on: bool) -> Result<Sandbox, E> {
                Ok(Sandbox::Switch(on))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Sandbox, A::Error> {
                More::deserialize(MapAccessDeserializer::new(map)).map(Sandbox::More)
            }
        }

        deserializer.deserialize_any(Either)
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kill {
    pub(super) crypto_ms: Option<Spanned<u64>>,
    pub(super) place_ms: Option<Spanned<u64>>,
    pub(super) generate_ms: Option<Spanned<u64>>,
    pub(super) login_ms: Option<Spanned<u64>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Queue {
    pub(super) items: Option<Spanned<u64>>,
    pub(super) bytes: Option<Spanned<u64>>,
}
