//! The development key store: made and connected over gRPC, as an operator does it in production.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use super::files::error;
use super::{Error, Layout, reachable, zone};
use client::{Client, Credentials, Settings};
use model::clock::Clock;
use model::secret::Secret;
use proto::v1::{ConnectionState, CreateKeyStoreRequest, DescribeKeyStoresRequest, KeyStore};

/// Its name.
const NAME: &str = "dev";
/// What takes longer is said as it is.
const WITHIN: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(50);

/// Makes the key store and connects it, where there is none yet; one that is there stays in the state that it has,
/// until it is CONNECTED or somebody has to do something about it. What is to be said of it comes back. After an error
/// it can be called again: `made` remembers that the key store is this one's own, and still to be connected.
pub async fn connect(layout: &Layout, grpc: SocketAddr, clock: &Clock, made: &mut bool) -> Result<String, Error> {
    let client = client(layout, grpc).await?;
    let store = match store(&client).await? {
        Some(store) if *made && store.connection_state() == ConnectionState::Disconnected => {
            begin(&client, &store.key_store_id).await?
        }
        Some(store) => store,
        None => {
            let request = CreateKeyStoreRequest {
                key_store_name: NAME.to_owned(),
                cluster_id: layout.cluster.to_string(),
                trust_anchor_certificate: String::from_utf8_lossy(&read(&layout.trust_anchor)?).into_owned(),
                key_store_password: String::new(),
            };
            let pin = Secret::new(read(&layout.pin)?);
            let id = client.create_key_store(request, &pin).await.map_err(|error| failed(&error))?;
            *made = true;
            begin(&client, &id).await?
        }
    };
    settled(layout, &client, store, clock).await
}

/// Has a key store connected; what it then is for the moment.
async fn begin(client: &Client, id: &str) -> Result<KeyStore, Error> {
    client.connect_key_store(id).await.map_err(|error| failed(&error))?;
    Ok(KeyStore { connection_state: ConnectionState::Connecting.into(), ..KeyStore::default() })
}

/// Waits until a connect that is under way has come to something.
async fn settled(layout: &Layout, client: &Client, mut store: KeyStore, clock: &Clock) -> Result<String, Error> {
    let until = clock.now() + WITHIN;
    loop {
        let way_out = "keystorectl key-store";
        match store.connection_state() {
            // The first connect changes PINs, and with them what is to be put back should a token file be emptied.
            // While a worker logs in, nobody may look at those files; the control worker is ready before the others.
            ConnectionState::Connected if store.hsms.iter().all(|hsm| hsm.ready_workers == hsm.workers) => {
                zone::keep_copies(&layout.zones)?;
                return Ok(format!("key store {NAME} is connected"));
            }
            ConnectionState::Connected if clock.now() > until => {
                return Ok(format!("key store {NAME} is connected, though not in every zone"));
            }
            ConnectionState::Failed => {
                return Ok(format!(
                    "key store {NAME} could not be connected ({}): {}; mend it, then {way_out} disconnect --name {NAME} \
                     and connect --name {NAME}",
                    store.connection_error_code, store.connection_error_message
                ));
            }
            ConnectionState::Disconnected => {
                return Ok(format!(
                    "key store {NAME} is disconnected, as it was left; {way_out} connect --name {NAME}"
                ));
            }
            _ if clock.now() > until => return Ok(format!("key store {NAME} is still connecting")),
            _ => tokio::time::sleep(LOOK).await,
        }
        store = self::store(client).await?.ok_or_else(|| Error::Wrong(format!("key store {NAME} has gone")))?;
    }
}

async fn store(client: &Client) -> Result<Option<KeyStore>, Error> {
    let page = client.describe_key_stores(DescribeKeyStoresRequest::default()).await.map_err(|error| failed(&error))?;
    Ok(page.key_stores.into_iter().find(|store| store.key_store_name == NAME))
}

/// Connects as the administrator.
pub(super) async fn client(layout: &Layout, grpc: SocketAddr) -> Result<Client, Error> {
    let [ca, certificate, key] = &layout.client;
    let settings = Settings {
        address: format!("https://{}", reachable(grpc)),
        credentials: Credentials {
            authorities: read(ca)?,
            certificate: read(certificate)?,
            key: Secret::new(read(key)?),
        },
        connections: 1,
        connect_timeout: Duration::from_secs(10),
        deadline: Some(Duration::from_secs(30)),
    };
    Client::connect(&settings).await.map_err(|error| failed(&error))
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|cause| error(path, &cause))
}

fn failed(error: &dyn std::fmt::Display) -> Error {
    Error::Wrong(format!("key store {NAME}: {error}"))
}
