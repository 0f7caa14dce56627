//! The gRPC interface, package `keystored.v1`.
//!
//! A method turns its message into a use case's input, lets [`entry`] say who calls and until when, and turns the
//! result back. [`error`] is the only place that knows status codes. Whatever a caller can make grow has its bound here
//! or before: messages ([`limiter`], and the codec in `proto`), streams and their windows ([`stream`]), and the bytes of
//! all of them together ([`crate::metered`]).

mod access;
mod access_keys;
mod approvals;
mod audit;
mod clusters;
mod crypto;
mod diagnosis;
mod entry;
mod error;
mod follow;
mod grants;
mod items;
mod key_metadata;
mod key_stores;
mod keys;
mod limiter;
mod metering;
mod names;
mod recorded;
mod stream;
mod stream_slots;
pub mod timeout;
mod window;

use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;
use tonic::Request;
use tonic::codegen::InterceptedService;
use tonic::server::NamedService;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_health::server::{HealthReporter, HealthService};

use self::access::AccessApi;
use self::approvals::ApprovalsApi;
use self::audit::AuditApi;
use self::clusters::ClustersApi;
use self::crypto::CryptoApi;
use self::entry::{CallEntry, check_peer};
use self::follow::Followers;
use self::key_stores::KeyStoresApi;
use self::keys::KeysApi;
use self::limiter::RequestLimiter;
use self::metering::GrpcMetering;
use self::recorded::GrpcRefusals;
use self::stream::Streams;
use crate::metered::Metered;
use crate::recorded::Recorded;
use model::clock::Clock;
use model::limits;
use proto::v1;
use proto::v1::access_service_server::AccessServiceServer;
use proto::v1::approvals_service_server::ApprovalsServiceServer;
use proto::v1::audit_service_server::AuditServiceServer;
use proto::v1::clusters_service_server::ClustersServiceServer;
use proto::v1::crypto_service_server::CryptoServiceServer;
use proto::v1::key_stores_service_server::KeyStoresServiceServer;
use proto::v1::keys_service_server::KeysServiceServer;
use service::Service;

/// Largest message of the services that are not ours: names of services and of descriptors.
const FOREIGN_MESSAGE_BYTES: usize = 4 << 10;

/// Services whose status the health service tells; the empty name is the daemon as a whole.
const HEALTH_NAMES: [&str; 8] = [
    "",
    <CryptoServiceServer<CryptoApi> as NamedService>::NAME,
    <KeysServiceServer<KeysApi> as NamedService>::NAME,
    <KeyStoresServiceServer<KeyStoresApi> as NamedService>::NAME,
    <ClustersServiceServer<ClustersApi> as NamedService>::NAME,
    <AccessServiceServer<AccessApi> as NamedService>::NAME,
    <ApprovalsServiceServer<ApprovalsApi> as NamedService>::NAME,
    <AuditServiceServer<AuditApi> as NamedService>::NAME,
];

/// How calls are bounded.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Data plane calls without a grpc-timeout.
    pub default_deadline: Duration,
    /// Control plane calls without a grpc-timeout (CreateKey and the like).
    pub default_control_deadline: Duration,
    /// Most streams open at once.
    pub streams: usize,
}

/// Tells the health service whether the daemon serves, and streams when they must end.
pub struct HealthSwitch {
    reporter: HealthReporter,
    closing: CancellationToken,
}

impl HealthSwitch {
    /// Sets the serving status of every service. It is "not serving" until the first call.
    pub async fn set_serving(&self, serving: bool) {
        let status = if serving { ServingStatus::Serving } else { ServingStatus::NotServing };
        for name in HEALTH_NAMES {
            self.reporter.set_service_status(name, status).await;
        }
    }

    /// Nobody follows at the moment whether the daemon serves, so that what was said last no longer holds.
    pub fn set_unknown(&self) {
        for name in HEALTH_NAMES {
            // Others hold its lock for no longer than it takes to read a status.
            while self.reporter.set_service_status(name, ServingStatus::Unknown).now_or_never().is_none() {
                std::thread::yield_now();
            }
        }
    }

    /// Ends every CryptoService.Stream once the windows in work are answered, every AuditService.FollowAuditRecords, and each
    /// later one at once, with UNAVAILABLE: a stream has no end of its own, and a shutdown cannot wait for one. Whoever
    /// watches the health has been told and is let go, too. Not to be undone.
    pub async fn close_streams(&self) {
        self.closing.cancel();
        let mut reporter = self.reporter.clone();
        for name in HEALTH_NAMES {
            reporter.clear_service_status(name).await;
        }
    }
}

/// All gRPC services, health and reflection included, behind the count of what they hold and the record of what is
/// refused.
pub type Calls = Recorded<Metered<Routes, GrpcMetering>, GrpcRefusals>;

/// All gRPC services. Every request must carry an `Arc<auth::peer::Peer>` and an `Arc<entry::ledger::Ledger>` in its
/// extensions; one without is refused.
#[must_use]
pub fn routes(service: Service, settings: Settings, clock: Clock) -> (Calls, HealthSwitch) {
    let closing = CancellationToken::new();
    let reporter = HealthReporter::new();
    let switch = HealthSwitch { reporter: reporter.clone(), closing: closing.clone() };
    // Nobody else has the reporter yet, so that this is done at once.
    let _ = switch.set_serving(false).now_or_never();

    let (recorder, of_records) = (service.clone(), clock.clone());
    let entry = Arc::new(CallEntry::new(service, settings, clock.clone()));
    let followers = Followers::new(closing.clone(), clock.clone());
    let streams = Streams::new(entry.service.clone(), settings.streams, closing, clock.clone());
    let crypto = CryptoServiceServer::new(CryptoApi { entry: Arc::clone(&entry), streams });
    let keys = KeysServiceServer::new(KeysApi { entry: Arc::clone(&entry) });
    let key_stores = KeyStoresServiceServer::new(KeyStoresApi { entry: Arc::clone(&entry) });
    let clusters = ClustersServiceServer::new(ClustersApi { entry: Arc::clone(&entry) });
    let access = AccessServiceServer::new(AccessApi { entry: Arc::clone(&entry) });
    let approvals = ApprovalsServiceServer::new(ApprovalsApi { entry: Arc::clone(&entry) });
    let audit = AuditServiceServer::new(AuditApi { entry, followers });
    let crypto = RequestLimiter::new(crypto.clone().max_decoding_message_size(limits::MESSAGE_BYTES)).with_apart([
        (
            &["/keystored.v1.CryptoService/BatchDecrypt", "/keystored.v1.CryptoService/BatchReEncrypt"][..],
            crypto.clone().max_decoding_message_size(limits::BATCH_DECRYPT_MESSAGE_BYTES),
        ),
        (&["/keystored.v1.CryptoService/Stream"], crypto.max_decoding_message_size(stream::MESSAGE_BYTES)),
    ]);
    let keys = RequestLimiter::new(keys.max_decoding_message_size(limits::MESSAGE_BYTES));
    let key_stores = RequestLimiter::new(key_stores.max_decoding_message_size(limits::MESSAGE_BYTES));
    let clusters = RequestLimiter::new(clusters.max_decoding_message_size(limits::MESSAGE_BYTES));
    let access = RequestLimiter::new(access.max_decoding_message_size(limits::MESSAGE_BYTES));
    let approvals = RequestLimiter::new(approvals.max_decoding_message_size(limits::MESSAGE_BYTES));
    let audit = RequestLimiter::new(audit.max_decoding_message_size(limits::MESSAGE_BYTES));
    let health = HealthServer::new(HealthService::from_health_reporter(reporter))
        .max_decoding_message_size(FOREIGN_MESSAGE_BYTES);

    let check = move |request: Request<()>| check_peer(request, &clock);
    let routes = Routes::new(crypto)
        .add_service(keys)
        .add_service(key_stores)
        .add_service(clusters)
        .add_service(access)
        .add_service(approvals)
        .add_service(audit)
        .add_service(InterceptedService::new(health, check.clone()));
    let routes = match reflection() {
        Ok(reflection) => {
            let reflection = reflection.max_decoding_message_size(FOREIGN_MESSAGE_BYTES);
            routes.add_service(InterceptedService::new(reflection, check))
        }
        Err(error) => {
            tracing::error!(%error, "no reflection service: the descriptors in this program cannot be read");
            routes
        }
    };
    (Recorded::new(Metered::new(routes.prepare(), GrpcMetering), GrpcRefusals, Some((recorder, of_records))), switch)
}

/// Routes that are no use cases, behind the count of what their calls hold.
#[must_use]
pub fn counted(routes: Routes) -> Calls {
    Recorded::new(Metered::new(routes.prepare(), GrpcMetering), GrpcRefusals, None)
}

fn reflection() -> Result<
    tonic_reflection::server::v1::ServerReflectionServer<impl tonic_reflection::server::v1::ServerReflection>,
    tonic_reflection::server::Error,
> {
    tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(v1::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
}

/// Milliseconds since the Unix epoch as a protobuf timestamp.
fn timestamp(millis: i64) -> prost_types::Timestamp {
    let nanos = i32::try_from(millis.rem_euclid(1_000)).unwrap_or(0) * 1_000_000;
    prost_types::Timestamp { seconds: millis.div_euclid(1_000), nanos }
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use tonic_health::pb::health_server::Health;
    use tonic_health::pb::{HealthCheckRequest, health_check_response};

    use super::*;

    #[test]
    fn the_descriptors_can_be_read() {
        assert!(reflection().is_ok());
    }

    #[test]
    fn timestamps_before_the_epoch_are_normal() {
        assert_eq!(timestamp(-1), prost_types::Timestamp { seconds: -1, nanos: 999_000_000 });
        assert_eq!(timestamp(1_001), prost_types::Timestamp { seconds: 1, nanos: 1_000_000 });
    }

    #[tokio::test]
    async fn what_nobody_follows_is_unknown() {
        let reporter = HealthReporter::new();
        let switch = HealthSwitch { reporter: reporter.clone(), closing: CancellationToken::new() };
        let health = HealthService::from_health_reporter(reporter);
        let check = async |name: &str| {
            let request = Request::new(HealthCheckRequest { service: name.to_owned() });
            health.check(request).await.unwrap().into_inner().status()
        };
        switch.set_serving(true).await;
        for name in HEALTH_NAMES {
            assert_eq!(check(name).await, health_check_response::ServingStatus::Serving, "{name}");
        }
        switch.set_unknown();
        for name in HEALTH_NAMES {
            assert_eq!(check(name).await, health_check_response::ServingStatus::Unknown, "{name}");
        }
    }

    #[tokio::test]
    async fn whoever_watches_the_health_is_told_of_the_end_and_let_go() {
        let reporter = HealthReporter::new();
        let switch = HealthSwitch { reporter: reporter.clone(), closing: CancellationToken::new() };
        switch.set_serving(true).await;
        let health = HealthService::from_health_reporter(reporter);
        let watched = health.watch(Request::new(HealthCheckRequest::default())).await.unwrap();
        switch.set_serving(false).await;
        switch.close_streams().await;
        let statuses: Vec<i32> = watched.into_inner().map(|status| status.unwrap().status).collect().await;
        assert_eq!(statuses, [health_check_response::ServingStatus::NotServing as i32], "NOT_SERVING, then the end");
    }
}
