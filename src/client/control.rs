//! The calls of the services `Keys` and `KeyStores`, and the health check.

use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::{Client, Error};
use crate::proto::v1 as wire;
use crate::proto::v1::key_stores_client::KeyStoresClient;
use crate::proto::v1::keys_client::KeysClient;

/// What the health service says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Health {
    /// It takes calls.
    Serving,
    /// It starts or drains.
    NotServing,
}

impl Client {
    /// Makes a key.
    pub async fn create_key(&self, request: wire::CreateKeyRequest) -> Result<wire::KeyMetadata, Error> {
        let response = self.keys().create_key(self.request(request)).await?.into_inner();
        response.key_metadata.ok_or_else(super::crypto::broken_answer)
    }

    /// Shows one key, by key id or key ARN.
    pub async fn describe_key(&self, key_id: &str) -> Result<wire::KeyMetadata, Error> {
        let request = wire::DescribeKeyRequest { key_id: key_id.to_owned() };
        let response = self.keys().describe_key(self.request(request)).await?.into_inner();
        response.key_metadata.ok_or_else(super::crypto::broken_answer)
    }

    /// One page of the list of keys.
    pub async fn list_keys(&self, request: wire::ListKeysRequest) -> Result<wire::ListKeysResponse, Error> {
        Ok(self.keys().list_keys(self.request(request)).await?.into_inner())
    }

    /// One page of the list of key stores, or one key store.
    pub async fn describe_key_stores(
        &self,
        request: wire::DescribeKeyStoresRequest,
    ) -> Result<wire::DescribeKeyStoresResponse, Error> {
        let mut client = KeyStoresClient::new(self.channel());
        Ok(client.describe_key_stores(self.request(request)).await?.into_inner())
    }

    /// Whether the service takes calls.
    pub async fn health(&self) -> Result<Health, Error> {
        let request = self.request(HealthCheckRequest { service: String::new() });
        let response = HealthClient::new(self.channel()).check(request).await?.into_inner();
        match response.status() {
            ServingStatus::Serving => Ok(Health::Serving),
            _ => Ok(Health::NotServing),
        }
    }

    fn keys(&self) -> KeysClient<tonic::transport::Channel> {
        KeysClient::new(self.channel())
    }
}
