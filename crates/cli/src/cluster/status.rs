//! `keystorectl cluster status`

use std::fmt::Write as _;

use clap::Args;
use serde::Serialize;

use crate::failure::Failure;
use crate::printer::{Report, facts, wrapped_table};
use crate::status::{self, connection_state, yes_or_no};
use crate::{Context, parse};
use proto::v1 as wire;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Cluster id [default: all of the configuration]
    #[arg(value_parser = parse::cluster_id)]
    id: Option<String>,
    /// List the key versions that are missing in each HSM, at most 100 of each
    #[arg(long)]
    missing: bool,
    /// List the key versions that an HSM holds and no key explains, at most 100 of each
    #[arg(long)]
    orphans: bool,
}

#[derive(Serialize)]
struct Clusters {
    clusters: Vec<Cluster>,
    #[serde(skip)]
    list_missing: bool,
    #[serde(skip)]
    list_orphans: bool,
}

#[derive(Serialize)]
struct Cluster {
    cluster_id: String,
    /// None where no key store is over it.
    key_store_id: Option<String>,
    connection_state: Option<&'static str>,
    keys: u64,
    hsms: Vec<Hsm>,
}

#[derive(Serialize)]
struct Hsm {
    #[serde(flatten)]
    status: status::Hsm,
    joined: bool,
    member: bool,
    keys_missing: u64,
    missing: Vec<String>,
    keys_removed: u64,
    keys_orphaned: u64,
    orphans: Vec<String>,
}

pub(super) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let client = context.connection.connect().await?;
    let clusters = client.describe_clusters(arguments.id.as_deref()).await?;
    let clusters = clusters.into_iter().map(Cluster::from).collect();
    context.printer.report(&Clusters { clusters, list_missing: arguments.missing, list_orphans: arguments.orphans })
}

impl Report for Clusters {
    fn text(&self) -> String {
        if self.clusters.is_empty() {
            return "There are no clusters in the configuration.".to_owned();
        }
        let shown = self.clusters.iter().map(|cluster| {
            let mut text = cluster.text();
            if self.list_missing {
                cluster.hsms.iter().for_each(|hsm| hsm.list("Missing", hsm.keys_missing, &hsm.missing, &mut text));
            }
            if self.list_orphans {
                cluster.hsms.iter().for_each(|hsm| hsm.list("Orphans", hsm.keys_orphaned, &hsm.orphans, &mut text));
            }
            text
        });
        shown.collect::<Vec<_>>().join("\n\n")
    }
}

impl Cluster {
    fn text(&self) -> String {
        let facts = facts([
            ("Cluster", self.cluster_id.clone()),
            ("Key store", self.key_store_id.clone().unwrap_or_else(|| "none".to_owned())),
            ("Connection", self.connection_state.unwrap_or_default().to_owned()),
            ("Key versions", self.keys.to_string()),
        ]);
        let headings = ["hsm", "zone", "joined", "proven", "health", "missing", "removed", "orphans", "reason"];
        let rows = self.hsms.iter().map(|hsm| {
            vec![
                hsm.status.hsm_id.clone(),
                hsm.status.zone.clone(),
                yes_or_no(hsm.joined),
                yes_or_no(hsm.status.proven),
                hsm.status.health.to_owned(),
                hsm.keys_missing.to_string(),
                hsm.keys_removed.to_string(),
                hsm.keys_orphaned.to_string(),
                hsm.reason(),
            ]
        });
        format!("{facts}\n\n{}", wrapped_table(&headings, rows))
    }
}

impl Hsm {
    /// Why it is not as it should be.
    fn reason(&self) -> String {
        match self.status.reason.is_empty() && self.status.proven && !self.member {
            true => {
                "its token holds no cluster wrapping key: `keystorectl cluster add-hsm` goes on from here".to_owned()
            }
            false => self.status.reason.clone(),
        }
    }

    fn list(&self, what: &str, count: u64, versions: &[String], text: &mut String) {
        if count == 0 {
            return;
        }
        let (id, listed) = (&self.status.hsm_id, versions.len());
        // Writing to a String cannot fail.
        let _ = match u64::try_from(listed) {
            Ok(all) if all == count => write!(text, "\n\n{what} in {id}:"),
            _ => write!(text, "\n\n{what} in {id}, the first {listed} of {count}:"),
        };
        for version in versions {
            let _ = write!(text, "\n  {version}");
        }
    }
}

impl From<wire::Cluster> for Cluster {
    fn from(cluster: wire::Cluster) -> Self {
        let state = connection_state(cluster.connection_state());
        let key_store_id = Some(cluster.key_store_id).filter(|id| !id.is_empty());
        Self {
            cluster_id: cluster.cluster_id,
            connection_state: key_store_id.is_some().then_some(state),
            key_store_id,
            keys: cluster.keys,
            hsms: cluster.hsms.into_iter().map(Hsm::from).collect(),
        }
    }
}

impl From<wire::ClusterHsm> for Hsm {
    fn from(hsm: wire::ClusterHsm) -> Self {
        Self {
            status: hsm.status.unwrap_or_default().into(),
            joined: hsm.joined,
            member: hsm.member,
            keys_missing: hsm.keys_missing,
            missing: hsm.missing,
            keys_removed: hsm.keys_removed,
            keys_orphaned: hsm.keys_orphaned,
            orphans: hsm.orphans,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clusters(list_missing: bool) -> Clusters {
        let hsm = |id: &str, joined, missing: &[&str], count| wire::ClusterHsm {
            status: Some(wire::HsmStatus {
                hsm_id: id.to_owned(),
                zone: "zone-a".to_owned(),
                health: wire::HsmHealth::Unused.into(),
                reason: "the HSM has not joined the cluster: `keystorectl cluster add-hsm` brings it in".to_owned(),
                ..Default::default()
            }),
            joined,
            member: joined,
            keys_missing: count,
            missing: missing.iter().map(|&version| version.to_owned()).collect(),
            keys_removed: 1_000_000,
            keys_orphaned: 1,
            orphans: vec!["three/1".to_owned()],
        };
        let used = wire::Cluster {
            cluster_id: "cluster-keystoredev".to_owned(),
            key_store_id: "cks-7cb7f8d9a8144ba0a".to_owned(),
            connection_state: wire::ConnectionState::Connected.into(),
            hsms: vec![hsm("hsm-a", true, &[], 0), hsm("hsm-b", false, &["one/1", "two/1"], 300)],
            keys: 300,
        };
        let unused = wire::Cluster { cluster_id: "cluster-other".to_owned(), ..Default::default() };
        Clusters {
            clusters: [used, unused].into_iter().map(Cluster::from).collect(),
            list_missing,
            list_orphans: list_missing,
        }
    }

    #[test]
    fn text_shows_what_each_hsm_lacks() {
        let text = clusters(false).text();
        assert!(text.contains("hsm-b  zone-a  no      no      Unused  300      1000000  1"), "{text}");
        assert!(text.contains("Connection    CONNECTED"), "{text}");
        assert!(text.contains("Key store     none"), "{text}");
        assert!(!text.contains("one/1"), "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= 110), "{text}");
    }

    #[test]
    fn a_token_without_the_wrapping_key_is_told_apart() {
        let mut hsm = clusters(false).clusters.remove(0).hsms.remove(1);
        assert!(hsm.reason().contains("has not joined"), "{}", hsm.reason());
        (hsm.joined, hsm.status.proven, hsm.status.reason) = (true, true, String::new());
        assert!(hsm.reason().contains("holds no cluster wrapping key"), "{}", hsm.reason());
        hsm.member = true;
        assert_eq!(hsm.reason(), "");
    }

    #[test]
    fn missing_versions_are_listed_when_wanted() {
        let text = clusters(true).text();
        assert!(text.contains("Missing in hsm-b, the first 2 of 300:\n  one/1\n  two/1\n\nOrphans in hsm-a"), "{text}");
        assert!(text.contains("Orphans in hsm-b:\n  three/1\n\nCluster"), "{text}");
        assert!(!text.contains("Missing in hsm-a"), "{text}");
    }

    #[test]
    fn json_shows_all_of_it() {
        let json = serde_json::to_value(clusters(false)).unwrap();
        let hsm = &json["clusters"][0]["hsms"][1];
        assert_eq!(
            (&hsm["hsm_id"], &hsm["joined"], &hsm["missing"][1]),
            (&"hsm-b".into(), &false.into(), &"two/1".into())
        );
        assert_eq!(json["clusters"][1]["connection_state"], serde_json::Value::Null);
    }
}
