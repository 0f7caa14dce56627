//! `keystorectl key-store describe`

use clap::Args;
use serde::Serialize;

use crate::cli::Context;
use crate::cli::failure::Failure;
use crate::cli::printer::{Report, facts, table};
use crate::model::limits;
use crate::proto::v1 as wire;

#[derive(Debug, Args)]
pub(in crate::cli) struct Arguments {
    /// Key store id [default: all]
    id: Option<String>,
    /// Name of the key store instead of its id
    #[arg(long, conflicts_with = "id")]
    name: Option<String>,
}

#[derive(Serialize)]
struct KeyStores {
    key_stores: Vec<KeyStore>,
}

#[derive(Serialize)]
struct KeyStore {
    key_store_id: String,
    key_store_name: String,
    cluster_id: String,
    connection_state: &'static str,
    creation_date: Option<String>,
    hsms: Vec<Hsm>,
}

#[derive(Serialize)]
struct Hsm {
    hsm_id: String,
    zone: String,
    health: &'static str,
    reason: String,
    since: Option<String>,
    token_label: String,
    token_serial: String,
    ready_workers: u32,
    workers: u32,
}

pub(super) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let client = context.connection.connect().await?;
    let mut request = wire::DescribeKeyStoresRequest {
        key_store_id: arguments.id.unwrap_or_default(),
        key_store_name: arguments.name.unwrap_or_default(),
        limit: None,
        marker: String::new(),
    };
    if request.key_store_id.is_empty() && request.key_store_name.is_empty() {
        request.limit = Some(limits::LIST_LIMIT);
    }
    let mut found = KeyStores { key_stores: Vec::new() };
    loop {
        let page = client.describe_key_stores(request.clone()).await?;
        let more = page.truncated && !page.key_stores.is_empty();
        found.key_stores.extend(page.key_stores.into_iter().map(KeyStore::from));
        if !more {
            break;
        }
        request.marker = page.next_marker;
    }
    context.printer.report(&found)
}

impl Report for KeyStores {
    fn text(&self) -> String {
        if self.key_stores.is_empty() {
            return "There are no key stores.".to_owned();
        }
        self.key_stores.iter().map(KeyStore::text).collect::<Vec<_>>().join("\n\n")
    }
}

impl KeyStore {
    fn text(&self) -> String {
        let facts = facts([
            ("Key store", format!("{} ({})", self.key_store_name, self.key_store_id)),
            ("Cluster", self.cluster_id.clone()),
            ("Connection", self.connection_state.to_owned()),
            ("Created", self.creation_date.clone().unwrap_or_default()),
        ]);
        let headings = ["hsm", "zone", "health", "workers", "token", "serial", "since", "reason"];
        let rows = self.hsms.iter().map(|hsm| {
            vec![
                hsm.hsm_id.clone(),
                hsm.zone.clone(),
                hsm.health.to_owned(),
                format!("{}/{}", hsm.ready_workers, hsm.workers),
                hsm.token_label.clone(),
                hsm.token_serial.clone(),
                hsm.since.clone().unwrap_or_default(),
                hsm.reason.clone(),
            ]
        });
        format!("{facts}\n\n{}", table(&headings, rows))
    }
}

impl From<wire::KeyStore> for KeyStore {
    fn from(store: wire::KeyStore) -> Self {
        let connection_state = match store.connection_state() {
            wire::ConnectionState::Unspecified => "UNKNOWN",
            wire::ConnectionState::Disconnected => "DISCONNECTED",
            wire::ConnectionState::Connecting => "CONNECTING",
            wire::ConnectionState::Connected => "CONNECTED",
            wire::ConnectionState::Disconnecting => "DISCONNECTING",
            wire::ConnectionState::Failed => "FAILED",
        };
        Self {
            key_store_id: store.key_store_id,
            key_store_name: store.key_store_name,
            cluster_id: store.cluster_id,
            connection_state,
            creation_date: store.creation_date.map(|date| date.to_string()),
            hsms: store.hsms.into_iter().map(Hsm::from).collect(),
        }
    }
}

impl From<wire::HsmStatus> for Hsm {
    fn from(hsm: wire::HsmStatus) -> Self {
        let health = match hsm.health() {
            wire::HsmHealth::Unspecified => "Unknown",
            wire::HsmHealth::Starting => "Starting",
            wire::HsmHealth::Healthy => "Healthy",
            wire::HsmHealth::Suspect => "Suspect",
            wire::HsmHealth::Down => "Down",
            wire::HsmHealth::Unused => "Unused",
        };
        Self {
            hsm_id: hsm.hsm_id,
            zone: hsm.zone,
            health,
            reason: hsm.reason,
            since: hsm.since.map(|date| date.to_string()),
            token_label: hsm.token_label,
            token_serial: hsm.token_serial,
            ready_workers: hsm.ready_workers,
            workers: hsm.workers,
        }
    }
}
