//! A look at HSMs without logging in: is the token there, has it a user, under which certificate.

use std::time::Duration;

use futures_util::future::join_all;

use model::clock::Clock;
use model::id::{HsmId, Zone};
use protocol::{Ready, Role};
use supervisor::{Settings, Worker};

/// An HSM that has not shown its token by then counts as one that does not answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// What was seen of one HSM.
#[derive(Clone, Debug)]
pub struct DiscoveredHsm {
    /// The HSM.
    pub hsm: HsmId,
    /// Its zone.
    pub zone: Zone,
    /// What its token shows, or why nothing could be seen or it cannot be used.
    pub seen: Result<Ready, String>,
}

/// Looks at all of them at once. Takes no lock that a daemon's workers hold.
pub async fn discover(hsms: &[Settings], clock: &Clock) -> Vec<DiscoveredHsm> {
    join_all(hsms.iter().map(|settings| async move {
        let mut own = settings.clone();
        own.lock_file.set_extension("look.lock");
        let started = tokio::time::timeout(PATIENCE, Worker::start(&own, Role::Control, clock)).await;
        let seen = match started {
            Ok(Ok(worker)) => {
                let ready = worker.ready().clone();
                worker.stop().await;
                match ready.abilities.refusal(&own.capabilities) {
                    Some(why) => Err(why),
                    None => Ok(ready),
                }
            }
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err(format!("it did not show its token within {PATIENCE:?}")),
        };
        DiscoveredHsm { hsm: own.hsm, zone: own.zone, seen }
    }))
    .await
}
