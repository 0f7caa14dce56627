//! Calls whose request carries a PIN.
//!
//! **Invariant:** the PIN's text in a message of ours is wiped when the call is over, also when it was given up or
//! never sent. What the transport copies on the way is not.

use std::marker::PhantomData;

use http::uri::PathAndQuery;
use prost::Message;
use tonic::Status;
use tonic::client::Grpc;
use tonic::codec::{BufferSettings, Codec, EncodeBuf, Encoder};
use zeroize::Zeroize;

use super::raw::ready;
use super::{Client, Code, Error};
use model::exception::Exception;
use model::limits;
use model::secret::Secret;
use proto::codec::BoundedCodec;
use proto::v1 as wire;

/// A request with a PIN in it.
pub(super) trait CarriesPin: Message + 'static {
    /// Where the generated client would send it.
    const PATH: &'static str;
    /// What comes back.
    type Answer: Message + Default + 'static;

    /// The field.
    fn pin(&mut self) -> &mut String;
}

macro_rules! carries_pin {
    ($($request:ident -> $answer:ident at $path:literal;)+) => {$(
        impl CarriesPin for wire::$request {
            const PATH: &'static str = concat!("/keystored.v1.", $path);
            type Answer = wire::$answer;

            fn pin(&mut self) -> &mut String {
                &mut self.key_store_password
            }
        }
    )+};
}

carries_pin! {
    CreateKeyStoreRequest -> CreateKeyStoreResponse at "KeyStoresService/CreateKeyStore";
    UpdateKeyStoreRequest -> UpdateKeyStoreResponse at "KeyStoresService/UpdateKeyStore";
    AddHsmRequest -> AddHsmResponse at "ClustersService/AddHsm";
}

impl Client {
    /// Puts the PIN into the message and makes the call.
    pub(super) async fn call_with_pin<M: CarriesPin>(&self, message: M, pin: &Secret) -> Result<M::Answer, Error> {
        let message = Guarded::new(message, pin)?;
        let mut grpc = Grpc::new(self.channel()).max_decoding_message_size(limits::MESSAGE_BYTES);
        ready(&mut grpc).await?;
        let path = PathAndQuery::from_static(M::PATH);
        Ok(grpc.unary(self.request(message), path, PinCodec(PhantomData)).await?.into_inner())
    }
}

/// A message whose PIN is wiped when it is dropped.
struct Guarded<M: CarriesPin>(M);

impl<M: CarriesPin> Guarded<M> {
    fn new(message: M, pin: &Secret) -> Result<Self, Error> {
        let mut guarded = Self(message);
        let text = std::str::from_utf8(pin.expose()).map_err(|_| no_text())?;
        let field = guarded.0.pin();
        field.zeroize();
        // Allocated at its length at once: growing would leave an unwiped copy behind.
        *field = text.to_owned();
        Ok(guarded)
    }
}

impl<M: CarriesPin> Drop for Guarded<M> {
    fn drop(&mut self) {
        self.0.pin().zeroize();
    }
}

/// What the service would answer, could it be asked.
fn no_text() -> Error {
    Error {
        exception: Some(Exception::Validation.name().to_owned()),
        message: "the password must be printable ASCII characters".to_owned(),
        retryable: false,
        code: Code::InvalidArgument,
        request_id: None,
        trouble: None,
        approval_id: None,
    }
}

/// The generated services' codec for a guarded message.
struct PinCodec<M>(PhantomData<M>);

impl<M: CarriesPin> Codec for PinCodec<M> {
    type Encode = Guarded<M>;
    type Decode = M::Answer;
    type Encoder = Self;
    type Decoder = BoundedCodec<M, M::Answer>;

    fn encoder(&mut self) -> Self {
        Self(PhantomData)
    }

    fn decoder(&mut self) -> Self::Decoder {
        BoundedCodec::default()
    }
}

impl<M: CarriesPin> Encoder for PinCodec<M> {
    type Item = Guarded<M>;
    type Error = Status;

    fn encode(&mut self, item: Guarded<M>, buffer: &mut EncodeBuf<'_>) -> Result<(), Status> {
        item.0.encode(buffer).map_err(|error| Status::internal(error.to_string()))
    }

    fn buffer_settings(&self) -> BufferSettings {
        // A trust anchor or two certificates, and the PIN: one allocation, so that growing copies no PIN.
        BufferSettings::new(32 << 10, 64 << 10)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use hyper_util::rt::TokioIo;
    use tonic::transport::{Endpoint, Server};
    use tonic::{Request, Response};

    use super::*;
    use proto::v1::clusters_service_server::{ClustersService, ClustersServiceServer};
    use proto::v1::key_stores_service_server::{KeyStoresService, KeyStoresServiceServer};

    /// A service that keeps what it is told as "call: PIN".
    #[derive(Clone, Default)]
    struct Fake(Arc<Mutex<Vec<String>>>);

    impl Fake {
        fn hear<T: Default>(&self, what: String) -> Result<Response<T>, Status> {
            self.0.lock().unwrap().push(what);
            Ok(Response::new(T::default()))
        }
    }

    /// A service whose methods hear one field each. The attribute must see the methods, so the macro makes all of it.
    macro_rules! heard {
        ($service:ident: $($call:ident $request:ident -> $response:ident $told:expr),+ $(,)?) => {
            #[tonic::async_trait]
            impl $service for Fake {
                $(async fn $call(&self, request: Request<wire::$request>) -> Result<Response<wire::$response>, Status> {
                    let told: fn(wire::$request) -> String = $told;
                    self.hear(format!("{}: {}", stringify!($call), told(request.into_inner())))
                })+
            }
        };
    }

    heard! { KeyStoresService:
        create_key_store CreateKeyStoreRequest -> CreateKeyStoreResponse |it| it.key_store_password,
        update_key_store UpdateKeyStoreRequest -> UpdateKeyStoreResponse |it| it.key_store_password,
        describe_key_stores DescribeKeyStoresRequest -> DescribeKeyStoresResponse |it| it.key_store_id,
        connect_key_store ConnectKeyStoreRequest -> ConnectKeyStoreResponse |it| it.key_store_id,
        disconnect_key_store DisconnectKeyStoreRequest -> DisconnectKeyStoreResponse |it| it.key_store_id,
        delete_key_store DeleteKeyStoreRequest -> DeleteKeyStoreResponse |it| it.key_store_id,
    }

    heard! { ClustersService:
        describe_clusters DescribeClustersRequest -> DescribeClustersResponse |it| it.cluster_id,
        add_hsm AddHsmRequest -> AddHsmResponse |it| it.key_store_password,
        reseal_pins ResealPinsRequest -> ResealPinsResponse |_| String::new(),
        resync_keys ResyncKeysRequest -> ResyncKeysResponse |it| it.key_id,
        get_statistics GetStatisticsRequest -> GetStatisticsResponse |it| it.cluster_id,
        diagnose_hsm DiagnoseHsmRequest -> DiagnoseHsmResponse |it| it.hsm_id,
    }

    async fn client(fake: &Fake) -> Client {
        let (near, far) = tokio::io::duplex(64 << 10);
        let server = Server::builder()
            .add_service(KeyStoresServiceServer::new(fake.clone()))
            .add_service(ClustersServiceServer::new(fake.clone()))
            .serve_with_incoming(tokio_stream::once(std::io::Result::Ok(far)));
        tokio::spawn(server);
        let mut near = Some(TokioIo::new(near));
        let connector = tower::service_fn(move |_: http::Uri| {
            let connection = near.take().ok_or_else(|| std::io::Error::other("there is one connection"));
            async move { connection }
        });
        let channel = Endpoint::from_static("http://fake").connect_with_connector(connector).await.unwrap();
        Client { channels: Arc::from([channel]), next: Arc::default(), deadline: None, receipts: None }
    }

    #[tokio::test]
    async fn each_call_reaches_its_method_with_what_it_carries() {
        let fake = Fake::default();
        let client = client(&fake).await;
        let pin = Secret::new(b"1234".to_vec());
        client.create_key_store(wire::CreateKeyStoreRequest::default(), &pin).await.unwrap();
        client.update_key_store(wire::UpdateKeyStoreRequest::default(), Some(&pin)).await.unwrap();
        client.update_key_store(wire::UpdateKeyStoreRequest::default(), None).await.unwrap();
        client.add_hsm(wire::AddHsmRequest::default(), &pin).await.unwrap();
        client.connect_key_store("cks-1").await.unwrap();
        client.disconnect_key_store("cks-2").await.unwrap();
        client.delete_key_store("cks-3").await.unwrap();
        client.describe_clusters(Some("cluster-4")).await.unwrap();
        client.describe_clusters(None).await.unwrap();
        client.reseal_pins().await.unwrap();
        client.resync_keys(wire::ResyncKeysRequest { key_id: "key-5".into(), ..Default::default() }).await.unwrap();
        client.get_statistics(Some("cluster-5")).await.unwrap();
        client.diagnose_hsm("cluster-5", "hsm-6").await.unwrap();
        let heard = fake.0.lock().unwrap();
        let expected = [
            "create_key_store: 1234",
            "update_key_store: 1234",
            "update_key_store: ",
            "add_hsm: 1234",
            "connect_key_store: cks-1",
            "disconnect_key_store: cks-2",
            "delete_key_store: cks-3",
            "describe_clusters: cluster-4",
            "describe_clusters: ",
            "reseal_pins: ",
            "resync_keys: key-5",
            "get_statistics: cluster-5",
            "diagnose_hsm: hsm-6",
        ];
        assert_eq!(*heard, expected);
    }

    #[tokio::test]
    async fn a_password_that_is_no_text_is_not_sent() {
        let fake = Fake::default();
        let client = client(&fake).await;
        let pin = Secret::new(vec![0xff; 8]);
        let error = client.create_key_store(wire::CreateKeyStoreRequest::default(), &pin).await.unwrap_err();
        assert_eq!(error.name(), "ValidationException");
        assert!(fake.0.lock().unwrap().is_empty());
    }
}
