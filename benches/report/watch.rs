//! How the HSMs of a daemon are, and waiting until they are as wanted.

use std::time::{Duration, Instant};

use client::Client;
use model::clock::Clock;
use proto::v1::{ClusterHsm, DescribeKeyStoresRequest, HsmHealth, HsmStatus};
use tokio::time::interval;

use super::daemon::{Daemon, Environment, connect};
use super::{Outcome, ops, said};

/// Between two looks; how exactly times until something are known.
const LOOK: Duration = Duration::from_millis(5);
/// Something is very wrong when an HSM takes longer than this for anything.
const PATIENCE: Duration = Duration::from_secs(120);

/// Looks at a daemon's HSMs, over a connection of its own.
pub(super) struct Watch {
    client: Client,
    environment: Environment,
    clock: Clock,
}

impl Watch {
    pub(super) async fn over(daemon: &Daemon, clock: &Clock) -> Outcome<Self> {
        let environment = daemon.environment.clone();
        Ok(Self { client: connect(&environment).await?, environment, clock: clock.clone() })
    }

    /// How each HSM is at the moment.
    pub(super) async fn hsms(&self) -> Outcome<Vec<HsmStatus>> {
        let answer = self.client.describe_key_stores(DescribeKeyStoresRequest::default()).await;
        let stores = answer.map_err(said("describing the key store"))?.key_stores;
        Ok(stores.into_iter().flat_map(|store| store.hsms).collect())
    }

    /// What the cluster has of an HSM.
    pub(super) async fn member(&self, hsm: &str) -> Outcome<Option<ClusterHsm>> {
        let clusters = self.client.describe_clusters(None).await.map_err(said("describing the cluster"))?;
        let of = |one: &ClusterHsm| one.status.as_ref().is_some_and(|status| status.hsm_id == hsm);
        Ok(clusters.into_iter().flat_map(|cluster| cluster.hsms).find(of))
    }

    /// Waits until DescribeKeyStores shows that the HSM is not complete, and then until it is again; how long that was
    /// after `since`.
    pub(super) async fn serves_again(&self, hsm: &str, since: Instant) -> Outcome<Duration> {
        self.until(async || Ok((!complete(&self.hsms().await?, hsm)).then_some(()))).await?;
        self.until(async || Ok(complete(&self.hsms().await?, hsm).then(|| self.clock.now() - since))).await
    }

    /// Waits until no worker of the HSM can be inside a login: all of them are ready, the control worker too. Nobody may
    /// be killed before that, because SoftHSM rewrites its token file in a login and can lose it.
    pub(super) async fn until_whole(&self, hsm: &str) -> Outcome<()> {
        self.until(async || {
            let whole = complete(&self.hsms().await?, hsm) && ops::control_worker(&self.environment, hsm)?;
            Ok(whole.then_some(()))
        })
        .await
    }

    /// Looks again and again until something is there.
    pub(super) async fn until<T>(&self, look: impl AsyncFn() -> Outcome<Option<T>>) -> Outcome<T> {
        let looking = async {
            let mut looks = interval(LOOK);
            loop {
                looks.tick().await;
                if let Some(found) = look().await? {
                    return Ok(found);
                }
            }
        };
        tokio::time::timeout(PATIENCE, looking).await.map_err(said("waiting for an HSM"))?
    }
}

/// Healthy, with every data worker ready.
fn complete(hsms: &[HsmStatus], hsm: &str) -> bool {
    let complete = |one: &HsmStatus| one.health() == HsmHealth::Healthy && one.ready_workers == one.workers;
    hsms.iter().any(|one| one.hsm_id == hsm && complete(one))
}

/// Lets time pass: a measurement has a schedule.
pub(super) async fn pass(time: Duration) {
    let mut ticks = interval(time);
    // The first one comes at once.
    ticks.tick().await;
    ticks.tick().await;
}
