//! DiagnoseHsm: what an HSM of a connected cluster is, was found to do, and how fast it is, for its vendor's support desk.

use std::time::{Duration, SystemTime};

use crate::core::proposal::Proposal;
use crate::core::{Core, validate};
use crate::{Error, RequestContext, Service};
use cluster::diagnosis::{Diagnosis, diagnose};
use model::exception::Exception;
use model::id::{ClusterId, HsmId, Zone};
use model::lock::MutexExt as _;
use model::operation::Operation;
use supervisor::Hsm;

/// What a report that is cut short leaves of the caller's time.
const TO_ANSWER: Duration = Duration::from_millis(250);

/// What was found of one HSM.
#[derive(Clone, Debug)]
pub struct HsmDiagnosis {
    /// The cluster.
    pub cluster: ClusterId,
    /// The HSM.
    pub hsm: HsmId,
    /// Its zone.
    pub zone: Zone,
    /// When it was looked at.
    pub at: SystemTime,
    /// All else.
    pub found: Diagnosis,
}

impl Service {
    /// Looks at it by its control worker, for a few seconds; one after the other.
    pub async fn diagnose_hsm(
        &self,
        call: &RequestContext,
        cluster_id: &str,
        hsm_id: &str,
    ) -> Result<HsmDiagnosis, Error> {
        let said = hsm_id.to_owned();
        let proposal = move |_: &Core, say: Proposal| say.text("hsmId", &said);
        let resource = self.core.arn_of(Operation::DiagnoseHsm, cluster_id).asking(proposal);
        let deadline = call.deadline.checked_sub(TO_ANSWER).unwrap_or(call.deadline);
        let core = self.core.clone();
        let (cluster_id, hsm_id) = (cluster_id.to_owned(), hsm_id.to_owned());
        let work = async move {
            let (cluster, hsm) = in_use(&core, &cluster_id, &hsm_id)?;
            let _alone = Alone::with(&core, &hsm.settings().hsm)?;
            let found = diagnose(&hsm, core.clock(), deadline).await;
            let (settings, at) = (hsm.settings(), core.clock().calendar());
            Ok(HsmDiagnosis { cluster, hsm: settings.hsm.clone(), zone: settings.zone.clone(), at, found })
        };
        self.core.on_one(call, Operation::DiagnoseHsm, resource, work).await
    }
}

/// The HSM, where its key store uses it.
fn in_use(core: &Core, cluster_id: &str, hsm_id: &str) -> Result<(ClusterId, Hsm), Error> {
    let cluster = validate::cluster_id(cluster_id)?;
    let hsm = validate::hsm_id("hsmId", hsm_id)?;
    let spec = core.registry().spec(&cluster).ok_or_else(|| Error::no_cluster(cluster_id))?;
    let catalogue = core.store().catalogue();
    let store = catalogue.key_store_over(&cluster);
    let active = store.and_then(|store| core.registry().active_of(&store.id));
    let Some(running) = active.and_then(|active| active.running) else {
        let why = format!("no key store over {cluster} is connected, so that none of its HSMs is in use; connect it");
        return Err(Error::permanent(Exception::CustomKeyStoreInvalidState, why));
    };
    match running.cluster.members().iter().find(|member| member.settings().hsm == hsm) {
        Some(member) => Ok((cluster, member.clone())),
        None if spec.hsm(&hsm).is_some() => {
            let why = format!("HSM {hsm} is not in use: it has not joined the cluster (keystorectl cluster add-hsm)");
            Err(Error::permanent(Exception::CustomKeyStoreInvalidState, why))
        }
        None => Err(Error::validation(format!("the cluster {cluster} has no HSM {hsm}"))),
    }
}

/// Nobody else looks at this HSM meanwhile.
struct Alone {
    core: Core,
    hsm: HsmId,
}

impl Alone {
    fn with(core: &Core, hsm: &HsmId) -> Result<Self, Error> {
        match core.registry().diagnosing.lock_anyway().insert(hsm.clone()) {
            true => Ok(Self { core: core.clone(), hsm: hsm.clone() }),
            false => {
                let why = format!("somebody has HSM {hsm} looked at already; ask again in some seconds");
                Err(Error::transient(Exception::Throttling, why))
            }
        }
    }
}

impl Drop for Alone {
    fn drop(&mut self) {
        self.core.registry().diagnosing.lock_anyway().remove(&self.hsm);
    }
}
