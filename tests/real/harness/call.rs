//! A gRPC client made of the generated types alone, so that the tests do not trust the product's own client.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use proto::v1::access_service_client::AccessServiceClient;
use proto::v1::audit_service_client::AuditServiceClient;
use proto::v1::clusters_service_client::ClustersServiceClient;
use proto::v1::crypto_service_client::CryptoServiceClient;
use proto::v1::key_stores_service_client::KeyStoresServiceClient;
use proto::v1::keys_service_client::KeysServiceClient;
use proto::v1::{
    Cluster, ConnectKeyStoreRequest, ConnectionState, CreateKeyRequest, CreateKeyStoreRequest, DecryptRequest,
    DeleteKeyStoreRequest, DescribeClustersRequest, DescribeKeyRequest, DescribeKeyStoresRequest, DisableKeyRequest,
    DisconnectKeyStoreRequest, EnableKeyRequest, EncryptRequest, GenerateDataKeyRequest, GenerateDataKeyResponse,
    HsmStatus, ItemError, KeyMetadata, KeyStore, UpdateKeyStoreRequest,
};
use tonic::metadata::MetadataMap;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt;

use super::daemon::Site;
use super::wait;
use super::wire::AsItIs;

/// A connection with its three clients. Clones share the connection.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) crypto: CryptoServiceClient<Channel>,
    pub(crate) keys: KeysServiceClient<Channel>,
    pub(crate) stores: KeyStoresServiceClient<Channel>,
    pub(crate) clusters: ClustersServiceClient<Channel>,
    pub(crate) access: AccessServiceClient<Channel>,
    pub(crate) audit: AuditServiceClient<Channel>,
    channel: Channel,
    deadline: Duration,
}

/// A status with what ErrorInfo adds to it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) code: Code,
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) retryable: bool,
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {} (retryable {}): {}", self.code, self.reason, self.retryable, self.message)
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let details = status.get_error_details();
        let info = details.error_info();
        Self {
            code: status.code(),
            reason: info.map(|info| info.reason.clone()).unwrap_or_default(),
            message: status.message().to_owned(),
            retryable: info.and_then(|info| info.metadata.get("retryable")).is_some_and(|value| value == "true"),
        }
    }
}

impl From<ItemError> for Failure {
    fn from(error: ItemError) -> Self {
        Self { code: error.code.into(), reason: error.reason, message: error.message, retryable: error.retryable }
    }
}

/// Where a daemon is and what a client shows it. PEM.
#[derive(Clone, Debug)]
pub(crate) struct Address {
    pub(crate) url: String,
    pub(crate) ca: String,
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Address {
    /// Connects, or says why it could not.
    pub(crate) async fn connect(&self) -> Result<Caller, tonic::transport::Error> {
        self.connect_from(None, wait::LONG).await
    }

    /// Likewise from one of this machine's addresses, and within some time.
    pub(crate) async fn connect_from(
        &self,
        from: Option<IpAddr>,
        within: Duration,
    ) -> Result<Caller, tonic::transport::Error> {
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(&self.ca))
            .identity(Identity::from_pem(&self.certificate, &self.key));
        let endpoint = Endpoint::from_shared(self.url.clone())?.tls_config(tls)?.local_address(from);
        let channel = endpoint.connect_timeout(within).connect().await?;
        Ok(Caller::over(channel))
    }
}

impl Caller {
    /// What its calls go over, for a request that no client would make.
    pub(crate) fn channel(&self) -> Channel {
        self.channel.clone()
    }

    fn over(channel: Channel) -> Self {
        Self {
            crypto: CryptoServiceClient::new(channel.clone()),
            keys: KeysServiceClient::new(channel.clone()),
            stores: KeyStoresServiceClient::new(channel.clone()),
            clusters: ClustersServiceClient::new(channel.clone()),
            access: AccessServiceClient::new(channel.clone()),
            audit: AuditServiceClient::new(channel.clone()),
            channel,
            // Generous: most tests are not about deadlines, and two cores may be busy with a build.
            deadline: wait::LONG / 2,
        }
    }

    /// Calls a method by its path with an empty message, whatever its kind: what becomes of it.
    pub(crate) async fn raw(&self, path: &str) -> Result<(), Status> {
        self.raw_with(path, Vec::new()).await.map(drop)
    }

    /// Likewise with this message; the first message of the answer.
    pub(crate) async fn raw_with(&self, path: &str, message: Vec<u8>) -> Result<Vec<u8>, Status> {
        self.raw_saying(path, message, &[]).await.0
    }

    /// Likewise with these entries of metadata; and those of the answer.
    pub(crate) async fn raw_saying(
        &self,
        path: &str,
        message: Vec<u8>,
        entries: &[(&'static str, &str)],
    ) -> (Result<Vec<u8>, Status>, MetadataMap) {
        let mut request = self.request(tokio_stream::once(message));
        for (name, value) in entries {
            request.metadata_mut().insert(*name, value.parse().unwrap());
        }
        let mut grpc = tonic::client::Grpc::new(self.channel.clone());
        let ready = grpc.ready().await.map_err(|error| Status::from_error(Box::new(error)));
        let answer = match ready {
            Ok(()) => grpc.streaming(request, path.parse().unwrap(), AsItIs).await,
            Err(error) => Err(error),
        };
        let (answered, metadata) = match answer {
            Ok(answer) => {
                let (metadata, mut messages, _) = answer.into_parts();
                (messages.message().await.map(Option::unwrap_or_default), metadata)
            }
            Err(status) => (Err(status), MetadataMap::new()),
        };
        let metadata = answered.as_ref().err().map_or(metadata, |status| status.metadata().clone());
        (answered, metadata)
    }

    /// The same connection with another deadline for each call.
    pub(crate) fn with_deadline(&self, deadline: Duration) -> Self {
        Self { deadline, ..self.clone() }
    }

    /// A request with this caller's deadline.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.deadline);
        request
    }

    /// Makes a key and returns its id.
    pub(crate) async fn create_key(&self, description: &str) -> String {
        self.try_create_key(description, "").await.unwrap().key_id
    }

    pub(crate) async fn try_create_key(&self, description: &str, token: &str) -> Result<KeyMetadata, Failure> {
        let request = CreateKeyRequest {
            description: description.to_owned(),
            client_token: token.to_owned(),
            ..Default::default()
        };
        let response = self.keys.clone().create_key(self.request(request)).await?;
        Ok(response.into_inner().key_metadata.expect("CreateKey answers with the key"))
    }

    pub(crate) async fn describe_key(&self, key: &str) -> Result<KeyMetadata, Failure> {
        let request = DescribeKeyRequest { key_id: key.to_owned(), ..Default::default() };
        let response = self.keys.clone().describe_key(self.request(request)).await?;
        Ok(response.into_inner().key_metadata.expect("DescribeKey answers with the key"))
    }

    pub(crate) async fn encrypt(
        &self,
        key: &str,
        plaintext: &[u8],
        context: &BTreeMap<String, String>,
    ) -> Result<Vec<u8>, Failure> {
        let request = EncryptRequest {
            key_id: key.to_owned(),
            plaintext: plaintext.to_vec(),
            encryption_context: context.clone(),
            ..Default::default()
        };
        Ok(self.crypto.clone().encrypt(self.request(request)).await?.into_inner().ciphertext_blob.to_vec())
    }

    pub(crate) async fn decrypt(
        &self,
        ciphertext: &[u8],
        context: &BTreeMap<String, String>,
    ) -> Result<Vec<u8>, Failure> {
        let request = DecryptRequest {
            ciphertext_blob: ciphertext.to_vec().into(),
            encryption_context: context.clone(),
            ..Default::default()
        };
        Ok(self.crypto.clone().decrypt(self.request(request)).await?.into_inner().plaintext.to_vec())
    }

    pub(crate) async fn generate_data_key(
        &self,
        request: GenerateDataKeyRequest,
    ) -> Result<GenerateDataKeyResponse, Failure> {
        Ok(self.crypto.clone().generate_data_key(self.request(request)).await?.into_inner())
    }

    /// How each HSM of the only key store is.
    pub(crate) async fn hsms(&self) -> Result<Vec<HsmStatus>, Failure> {
        let request = self.request(DescribeKeyStoresRequest::default());
        let mut stores = self.stores.clone().describe_key_stores(request).await?.into_inner().key_stores;
        assert_eq!(stores.len(), 1, "this daemon has one key store");
        Ok(stores.remove(0).hsms)
    }

    /// Every key store.
    pub(crate) async fn key_stores(&self) -> Vec<KeyStore> {
        let request = self.request(DescribeKeyStoresRequest::default());
        self.stores.clone().describe_key_stores(request).await.unwrap().into_inner().key_stores
    }

    /// The key store with this id.
    pub(crate) async fn key_store(&self, id: &str) -> KeyStore {
        let stores = self.key_stores().await;
        stores.into_iter().find(|store| store.key_store_id == id).unwrap_or_else(|| panic!("there is no {id}"))
    }

    /// Makes a key store over a site's cluster, with its first PIN; its id.
    pub(crate) async fn create_key_store(&self, name: &str, site: &Site) -> Result<String, Failure> {
        self.create_key_store_with(name, site.cluster(), &site.trust_anchor(), &site.first_pin()).await
    }

    pub(crate) async fn create_key_store_with(
        &self,
        name: &str,
        cluster: &str,
        trust_anchor: &str,
        pin: &str,
    ) -> Result<String, Failure> {
        let request = CreateKeyStoreRequest {
            key_store_name: name.to_owned(),
            cluster_id: cluster.to_owned(),
            trust_anchor_certificate: trust_anchor.to_owned(),
            key_store_password: pin.to_owned(),
        };
        Ok(self.stores.clone().create_key_store(self.request(request)).await?.into_inner().key_store_id)
    }

    pub(crate) async fn update_key_store(&self, request: UpdateKeyStoreRequest) -> Result<(), Failure> {
        self.stores.clone().update_key_store(self.request(request)).await?;
        Ok(())
    }

    /// Begins to connect, and waits for what comes of it: the store CONNECTED, or FAILED.
    pub(crate) async fn connect(&self, id: &str) -> Result<KeyStore, Failure> {
        self.begin_connect(id).await?;
        Ok(self.settled(id).await)
    }

    pub(crate) async fn begin_connect(&self, id: &str) -> Result<(), Failure> {
        let request = ConnectKeyStoreRequest { key_store_id: id.to_owned() };
        self.stores.clone().connect_key_store(self.request(request)).await?;
        Ok(())
    }

    /// Waits until a store is neither connecting nor disconnecting.
    pub(crate) async fn settled(&self, id: &str) -> KeyStore {
        wait::until_async("the key store has settled", wait::LONG, async || {
            let store = self.key_store(id).await;
            let moves =
                [ConnectionState::Connecting, ConnectionState::Disconnecting].contains(&store.connection_state());
            (!moves).then_some(store)
        })
        .await
    }

    /// Disconnects, and waits until it is done.
    pub(crate) async fn disconnect(&self, id: &str) -> Result<KeyStore, Failure> {
        self.begin_disconnect(id).await?;
        Ok(self.settled(id).await)
    }

    pub(crate) async fn begin_disconnect(&self, id: &str) -> Result<(), Failure> {
        let request = DisconnectKeyStoreRequest { key_store_id: id.to_owned() };
        self.stores.clone().disconnect_key_store(self.request(request)).await?;
        Ok(())
    }

    pub(crate) async fn delete_key_store(&self, id: &str) -> Result<(), Failure> {
        let request = DeleteKeyStoreRequest { key_store_id: id.to_owned() };
        self.stores.clone().delete_key_store(self.request(request)).await?;
        Ok(())
    }

    /// Disables a key, or enables it.
    pub(crate) async fn switch_key(&self, key: &str, on: bool) -> Result<(), Failure> {
        let key_id = key.to_owned();
        match on {
            true => drop(self.keys.clone().enable_key(self.request(EnableKeyRequest { key_id })).await?),
            false => drop(self.keys.clone().disable_key(self.request(DisableKeyRequest { key_id })).await?),
        }
        Ok(())
    }

    /// The only cluster of the configuration.
    pub(crate) async fn cluster(&self) -> Cluster {
        let request = self.request(DescribeClustersRequest::default());
        let clusters = self.clusters.clone().describe_clusters(request).await.unwrap().into_inner().clusters;
        let [cluster] = &clusters[..] else { panic!("{clusters:?}") };
        cluster.clone()
    }
}
