//! `keystorectl key-store describe`

use clap::Args;
use serde::Serialize;

use super::advice::advice;
use crate::Context;
use crate::failure::Failure;
use crate::printer::{Report, facts, wrapped_table};
use crate::status::{Finding, Hsm, connection_state, to_the_second, yes_or_no};
use client::fingerprint;
use model::limits;
use proto::v1 as wire;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
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
    /// Both only in state FAILED.
    connection_error_code: Option<String>,
    connection_error_message: Option<String>,
    trust_anchor_certificate: String,
    trust_anchor_sha256: Option<String>,
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
        let code = self.connection_error_code.as_deref();
        let error = code.map(|code| match &self.connection_error_message {
            Some(message) => format!("{code}: {message}"),
            None => code.to_owned(),
        });
        let advice = code.map(|code| format!("\n\nWhat to do: {}", advice(code, &self.key_store_id)));
        let facts = facts([
            ("Key store", format!("{} ({})", self.key_store_name, self.key_store_id)),
            ("Cluster", self.cluster_id.clone()),
            ("Connection", self.connection_state.to_owned()),
            ("Error", error.unwrap_or_default()),
            ("Trust anchor", self.trust_anchor_sha256.as_ref().map(|hex| format!("SHA-256 {hex}")).unwrap_or_default()),
            ("Created", self.creation_date.clone().unwrap_or_default()),
        ]);
        // Two tables: one would be too wide to read.
        let health = self.hsms.iter().map(|hsm| {
            vec![
                hsm.hsm_id.clone(),
                hsm.zone.clone(),
                hsm.health.to_owned(),
                to_the_second(hsm.since.as_deref()),
                format!("{}/{}", hsm.ready_workers, hsm.workers),
                hsm.reason.clone(),
            ]
        });
        let health = wrapped_table(&["hsm", "zone", "health", "since", "workers", "reason"], health);
        let login = self.hsms.iter().map(|hsm| {
            vec![
                hsm.hsm_id.clone(),
                hsm.token_label.clone(),
                hsm.token_serial.clone(),
                yes_or_no(hsm.proven),
                to_the_second(hsm.last_rotation.as_deref()),
                hsm.pin_tries_left.to_string(),
            ]
        });
        let login = wrapped_table(&["hsm", "token", "serial", "proven", "pin rotated", "pin tries left"], login);
        let gaps = self.hsms.iter().flat_map(|hsm| hsm.confinement_gaps.iter().map(move |gap| (hsm, gap)));
        let gaps: Vec<_> = gaps.map(|(hsm, gap)| vec![hsm.hsm_id.clone(), gap.clone()]).collect();
        let gaps =
            (!gaps.is_empty()).then(|| format!("\n\n{}", wrapped_table(&["hsm", "confinement of its module"], gaps)));
        let (advice, gaps) = (advice.unwrap_or_default(), gaps.unwrap_or_default());
        format!("{facts}{advice}\n\n{health}\n\n{login}{gaps}{}{}", self.found(), self.notes())
    }

    /// What `keystored check` says of the HSMs' profiles, here of those that the daemon goes by.
    fn notes(&self) -> String {
        let notes = self.hsms.iter().flat_map(|hsm| hsm.notes.iter().map(move |note| (hsm, note)));
        let rows: Vec<_> = notes.map(|(hsm, note)| vec![hsm.hsm_id.clone(), note.clone()]).collect();
        if rows.is_empty() {
            return String::new();
        }
        format!("\n\n{}", wrapped_table(&["hsm", "to know of it"], rows))
    }

    /// What the HSMs' tokens were found to do, where a worker has looked: how much is as the configuration says, and what
    /// is not.
    fn found(&self) -> String {
        let mut rows = Vec::new();
        for hsm in self.hsms.iter().filter(|hsm| !hsm.findings.is_empty()) {
            let hold = hsm.findings.iter().filter(|finding| finding.holds()).count();
            let all = format!("{hold} of {} hold", hsm.findings.len());
            rows.push(vec![hsm.hsm_id.clone(), all, String::new(), String::new(), String::new()]);
            rows.extend(hsm.findings.iter().filter(|finding| !finding.holds()).map(|finding| {
                let Finding { name, expected, found, verdict, .. } = finding;
                vec![hsm.hsm_id.clone(), name.clone(), expected.clone(), found.clone(), (*verdict).to_owned()]
            }));
        }
        if rows.is_empty() {
            return String::new();
        }
        format!("\n\n{}", wrapped_table(&["hsm", "self-test", "expected", "found", "verdict"], rows))
    }
}

impl From<wire::KeyStore> for KeyStore {
    fn from(store: wire::KeyStore) -> Self {
        let connection_state = connection_state(store.connection_state());
        let told = |text: String| Some(text).filter(|text| !text.is_empty());
        Self {
            key_store_id: store.key_store_id,
            key_store_name: store.key_store_name,
            cluster_id: store.cluster_id,
            connection_state,
            creation_date: store.creation_date.map(|date| date.to_string()),
            hsms: store.hsms.into_iter().map(Hsm::from).collect(),
            connection_error_code: told(store.connection_error_code),
            connection_error_message: told(store.connection_error_message),
            trust_anchor_sha256: fingerprint(&store.trust_anchor_certificate),
            trust_anchor_certificate: store.trust_anchor_certificate,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PEM: &str = "-----BEGIN CERTIFICATE-----\nYWJj\n-----END CERTIFICATE-----\n";

    fn store(state: wire::ConnectionState) -> wire::KeyStore {
        let hsm = |id: &str, health: wire::HsmHealth, reason: &str| wire::HsmStatus {
            hsm_id: id.to_owned(),
            zone: "zone-a".to_owned(),
            health: health.into(),
            reason: reason.to_owned(),
            since: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 123_000_000 }),
            token_label: "keystored zone a".to_owned(),
            token_serial: "0123456789abcdef".to_owned(),
            ready_workers: 2,
            workers: 2,
            proven: health == wire::HsmHealth::Healthy,
            last_rotation: None,
            pin_tries_left: 3,
            steps: vec![wire::HsmStep { at: None, step: "logging in".to_owned() }],
            confinement_gaps: Some(reason.to_owned()).filter(|gap| !gap.is_empty()).into_iter().collect(),
            findings: [wire::HsmVerdict::Holds, wire::HsmVerdict::Untried]
                .into_iter()
                .map(|verdict| wire::HsmFinding {
                    name: "wrap.oaep_hash".to_owned(),
                    expected: "sha1".to_owned(),
                    found: "not tried".to_owned(),
                    verdict: verdict.into(),
                    sentence: String::new(),
                })
                .collect(),
            notes: Some(reason)
                .filter(|reason| !reason.is_empty())
                .map(|_| "it takes 3300 keys".to_owned())
                .into_iter()
                .collect(),
        };
        let long = "the module has not answered for 2 s and was killed; it is started again with growing pauses, and the \
                    HSM is asked again as soon as it has proven itself";
        wire::KeyStore {
            key_store_id: "cks-1".to_owned(),
            key_store_name: "lab".to_owned(),
            connection_state: state.into(),
            hsms: vec![hsm("hsm-a", wire::HsmHealth::Healthy, ""), hsm("hsm-b", wire::HsmHealth::Unused, long)],
            trust_anchor_certificate: PEM.to_owned(),
            ..Default::default()
        }
    }

    #[test]
    fn text_is_readable_at_110_columns() {
        let text = KeyStore::from(store(wire::ConnectionState::Connected)).text();
        assert!(text.lines().all(|line| line.chars().count() <= 110), "{text}");
        assert!(text.contains("hsm-b  zone-a  Unused   2023-11-14T22:13:20Z  2/2      the module"), "{text}");
        assert!(text.contains("hsm-a  keystored zone a  0123456789abcdef  yes     never        3"), "{text}");
        assert!(text.contains("SHA-256 ba7816bf") && !text.contains("BEGIN CERTIFICATE"), "{text}");
        assert!(!text.contains("Error") && !text.contains("What to do"), "{text}");
        assert!(text.contains("hsm-a  1 of 2 hold") && text.contains("untried"), "{text}");
        assert!(text.contains("hsm-b  it takes 3300 keys") && !text.contains("hsm-a  it takes"), "{text}");
    }

    #[test]
    fn a_failed_connect_is_shown_with_what_to_do() {
        let failed = wire::KeyStore {
            connection_error_code: "INVALID_CREDENTIALS".to_owned(),
            connection_error_message: "hsm-a refused the PIN on record".to_owned(),
            ..store(wire::ConnectionState::Failed)
        };
        let text = KeyStore::from(failed.clone()).text();
        assert!(text.contains("Error         INVALID_CREDENTIALS: hsm-a refused"), "{text}");
        assert!(text.contains("What to do: disconnect first"), "{text}");
        let json = serde_json::to_value(KeyStore::from(failed)).unwrap();
        assert_eq!(json["connection_error_code"], "INVALID_CREDENTIALS");
    }

    #[test]
    fn json_has_the_whole_certificate_and_the_steps() {
        let json = serde_json::to_value(KeyStore::from(store(wire::ConnectionState::Connected))).unwrap();
        assert_eq!(json["trust_anchor_certificate"], PEM);
        assert_eq!(json["connection_error_code"], serde_json::Value::Null);
        assert_eq!(json["hsms"][0]["steps"][0]["step"], "logging in");
        assert_eq!(json["hsms"][1]["health"], "Unused");
        assert_eq!(json["hsms"][1]["notes"][0], "it takes 3300 keys");
        assert_eq!(json["hsms"][0]["proven"], true);
    }
}
