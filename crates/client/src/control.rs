//! The calls of the services `KeysService`, `KeyStoresService` and `ClustersService`, and the health check.

use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::receipt::Asking;
use super::{Client, Error};
use model::secret::Secret;
use proto::v1 as wire;
use proto::v1::clusters_service_client::ClustersServiceClient;
use proto::v1::key_stores_service_client::KeyStoresServiceClient;
use proto::v1::keys_service_client::KeysServiceClient;

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
        let request = wire::DescribeKeyRequest { key_id: key_id.to_owned(), ..Default::default() };
        let response = self.keys().describe_key(self.request(request)).await?.into_inner();
        response.key_metadata.ok_or_else(super::crypto::broken_answer)
    }

    /// One page of the list of keys.
    pub async fn list_keys(&self, request: wire::ListKeysRequest) -> Result<wire::ListKeysResponse, Error> {
        Ok(self.keys().list_keys(self.request(request)).await?.into_inner())
    }

    /// Makes a key usable again, by key id or key ARN.
    pub async fn enable_key(&self, key_id: &str) -> Result<(), Error> {
        let request = wire::EnableKeyRequest { key_id: key_id.to_owned() };
        self.keys().enable_key(self.request(request)).await?;
        Ok(())
    }

    /// Makes a key unusable, by key id or key ARN.
    pub async fn disable_key(&self, key_id: &str) -> Result<(), Error> {
        let request = wire::DisableKeyRequest { key_id: key_id.to_owned() };
        self.keys().disable_key(self.request(request)).await?;
        Ok(())
    }

    /// One page of the list of key stores, or one key store.
    pub async fn describe_key_stores(
        &self,
        request: wire::DescribeKeyStoresRequest,
    ) -> Result<wire::DescribeKeyStoresResponse, Error> {
        Ok(self.key_stores().describe_key_stores(self.request(request)).await?.into_inner())
    }

    /// Registers a cluster as a key store and gives its id. The request's `key_store_password` is filled from
    /// `password` and wiped.
    pub async fn create_key_store(
        &self,
        request: wire::CreateKeyStoreRequest,
        password: &Secret,
    ) -> Result<String, Error> {
        let response: wire::CreateKeyStoreResponse = self.call_with_pin(request, password).await?;
        Ok(response.key_store_id)
    }

    /// Changes what is set in the request. Its `key_store_password` is filled from `password` and wiped.
    pub async fn update_key_store(
        &self,
        request: wire::UpdateKeyStoreRequest,
        password: Option<&Secret>,
    ) -> Result<(), Error> {
        let none = Secret::default();
        let _: wire::UpdateKeyStoreResponse = self.call_with_pin(request, password.unwrap_or(&none)).await?;
        Ok(())
    }

    /// Begins to connect a key store; [`Self::describe_key_stores`] tells what comes of it.
    pub async fn connect_key_store(&self, key_store_id: &str) -> Result<(), Error> {
        let request = wire::ConnectKeyStoreRequest { key_store_id: key_store_id.to_owned() };
        self.key_stores().connect_key_store(self.request(request)).await?;
        Ok(())
    }

    /// Ends the use of a key store's keys; logging out of its HSMs goes on after the answer.
    pub async fn disconnect_key_store(&self, key_store_id: &str) -> Result<(), Error> {
        let request = wire::DisconnectKeyStoreRequest { key_store_id: key_store_id.to_owned() };
        self.key_stores().disconnect_key_store(self.request(request)).await?;
        Ok(())
    }

    /// Forgets a key store that is disconnected and has no keys.
    pub async fn delete_key_store(&self, key_store_id: &str) -> Result<(), Error> {
        let request = wire::DeleteKeyStoreRequest { key_store_id: key_store_id.to_owned() };
        self.key_stores().delete_key_store(self.request(request)).await?;
        Ok(())
    }

    /// Shows the cluster with this id, or all clusters of the configuration where none is named.
    pub async fn describe_clusters(&self, cluster_id: Option<&str>) -> Result<Vec<wire::Cluster>, Error> {
        let request = wire::DescribeClustersRequest { cluster_id: cluster_id.unwrap_or_default().to_owned() };
        Ok(self.clusters().describe_clusters(self.request(request)).await?.into_inner().clusters)
    }

    /// Brings a further HSM into a connected cluster. The request's `key_store_password` is filled from `password` and
    /// wiped.
    pub async fn add_hsm(
        &self,
        request: wire::AddHsmRequest,
        password: &Secret,
    ) -> Result<wire::AddHsmResponse, Error> {
        self.call_with_pin(request, password).await
    }

    /// Seals all stored PINs and all secrets of access keys anew and says how many these were.
    pub async fn reseal_pins(&self) -> Result<wire::ResealPinsResponse, Error> {
        let request = self.request(wire::ResealPinsRequest {});
        Ok(self.clusters().reseal_pins(request).await?.into_inner())
    }

    /// Has the HSMs of a cluster looked at now and filled with what they lack.
    pub async fn resync_keys(&self, request: wire::ResyncKeysRequest) -> Result<wire::ResyncKeysResponse, Error> {
        Ok(self.clusters().resync_keys(self.request(request)).await?.into_inner())
    }

    /// What the HSMs of the cluster with this id did, or those of all clusters where none is named.
    pub async fn get_statistics(&self, cluster_id: Option<&str>) -> Result<wire::GetStatisticsResponse, Error> {
        let request = wire::GetStatisticsRequest { cluster_id: cluster_id.unwrap_or_default().to_owned() };
        Ok(self.clusters().get_statistics(self.request(request)).await?.into_inner())
    }

    /// Has an HSM of a connected cluster looked at, which takes some seconds.
    pub async fn diagnose_hsm(&self, cluster_id: &str, hsm_id: &str) -> Result<wire::DiagnoseHsmResponse, Error> {
        let request = wire::DiagnoseHsmRequest { cluster_id: cluster_id.to_owned(), hsm_id: hsm_id.to_owned() };
        Ok(self.clusters().diagnose_hsm(self.request(request)).await?.into_inner())
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

    pub(super) fn keys(&self) -> KeysServiceClient<Asking> {
        KeysServiceClient::new(self.channel())
    }

    fn key_stores(&self) -> KeyStoresServiceClient<Asking> {
        KeyStoresServiceClient::new(self.channel())
    }

    fn clusters(&self) -> ClustersServiceClient<Asking> {
        ClustersServiceClient::new(self.channel())
    }
}
