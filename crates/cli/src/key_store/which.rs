//! How a command is told which key store it is for.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use crate::failure::{Exit, Failure};
use client::Client;
use proto::v1::{DescribeKeyStoresRequest, KeyStore};

/// A key store by its id or its name. Not by an empty text: a variable that is not set would name whatever comes first.
#[derive(Clone, Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct Which {
    /// Key store id
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    id: Option<String>,
    /// Name of the key store instead of its id
    #[arg(long, value_parser = NonEmptyStringValueParser::new())]
    name: Option<String>,
}

impl Which {
    /// Its id. Asks the service only where a name is given.
    pub(super) async fn id(&self, client: &Client) -> Result<String, Failure> {
        match &self.id {
            Some(id) => Ok(id.clone()),
            None => Ok(self.find(client).await?.key_store_id),
        }
    }

    /// The store as it is now.
    pub(super) async fn find(&self, client: &Client) -> Result<KeyStore, Failure> {
        let id = self.id.clone().unwrap_or_default();
        let name = self.name.clone().unwrap_or_default();
        describe(client, DescribeKeyStoresRequest { key_store_id: id, key_store_name: name, ..Default::default() })
            .await
    }
}

/// The one store that a request names.
pub(super) async fn describe(client: &Client, request: DescribeKeyStoresRequest) -> Result<KeyStore, Failure> {
    let mut found = client.describe_key_stores(request).await?.key_stores;
    match (found.pop(), found.is_empty()) {
        (Some(store), true) => Ok(store),
        _ => Err(Failure::new(Exit::Refused, "the service does not show one key store of that id or name")
            .with_hint("`keystorectl key-store describe` shows the key stores there are")),
    }
}
