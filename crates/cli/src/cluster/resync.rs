//! `keystorectl cluster resync`

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use serde::Serialize;

use crate::failure::Failure;
use crate::names::key_id;
use crate::printer::Report;
use crate::{Context, parse};
use proto::v1 as wire;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Cluster id
    #[arg(value_parser = parse::cluster_id)]
    cluster: String,
    /// Put this key back where somebody removed it: key id, key ARN, alias or alias ARN
    #[arg(long, value_name = "KEY", value_parser = NonEmptyStringValueParser::new())]
    key: Option<String>,
    /// Only in this HSM
    #[arg(long, value_parser = parse::hsm_id)]
    hsm: Option<String>,
    /// Put every key back that is taken for removed in that HSM, as after restoring its token from an older backup
    #[arg(long, requires = "hsm", conflicts_with = "key")]
    all_removed: bool,
}

#[derive(Serialize)]
struct Resynced {
    keys_wanted_again: u64,
    keys_to_place: u64,
    #[serde(skip)]
    cluster: String,
}

impl Report for Resynced {
    fn text(&self) -> String {
        let Self { keys_wanted_again: again, keys_to_place: all, cluster } = self;
        if *all == 0 {
            return "The HSMs are being looked at; nothing is known to be missing.".to_owned();
        }
        format!(
            "Key versions that were taken for removed and are wanted again: {again}\n\
             Key versions to place or prove, over all HSMs: {all}\n\
             `keystorectl cluster status {cluster}` shows how many are still missing."
        )
    }
}

pub(super) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let client = context.connection.connect().await?;
    let Arguments { cluster, key, hsm, all_removed } = arguments;
    let request = wire::ResyncKeysRequest {
        cluster_id: cluster.clone(),
        key_id: match key {
            Some(key) => key_id(&client, &key).await?,
            None => String::new(),
        },
        hsm_id: hsm.unwrap_or_default(),
        all_removed,
    };
    let wire::ResyncKeysResponse { keys_wanted_again, keys_to_place } = client.resync_keys(request).await?;
    context.printer.report(&Resynced { keys_wanted_again, keys_to_place, cluster })
}
