//! Somebody took a key's object away in an HSM.

use super::Lifecycle;
use crate::core::service_event::ServiceEvent;
use audit::event::Value;
use cluster::Removal;
use model::key::Placement;

impl Lifecycle {
    /// A key's object was removed in an HSM by somebody else: record it, report it, stop serving it there. Nothing is
    /// refilled and nothing deleted: whoever removed it may have had a reason.
    pub(crate) async fn note_removal(&self, removal: Removal) {
        let Removal { hsm, version } = &removal;
        let catalogue = self.core.store().catalogue();
        let known = catalogue.key(version.key).and_then(|key| key.versions.iter().find(|v| v.id == *version));
        // A key on its way is the business of the procedure that makes it.
        if known.and_then(|known| known.placements.get(hsm)) != Some(&Placement::Present) {
            tracing::debug!(%hsm, key_version = %version, "a removal that is known already, or of an unfinished key");
            return;
        }
        tracing::warn!(%hsm, key = %version.key, version = version.version,
            "the key's object was removed in this HSM by somebody else; it is no longer served from there, \
             and not put back until an operator says so");
        self.core.observer().removed(&removal);
        let event = ServiceEvent::ours(self.core.clock().unix_millis(), "KeyRemovedInHsm");
        let event = event.about(self.core.scope().key_arn(version.key)).saying("hsm", hsm.as_str());
        self.core.happened(event.saying("keyVersion", Value::Number(version.version.into())));
        if let Err(error) = self.core.store().set_placement(*version, hsm, Placement::Removed).await {
            // The cluster has excluded the HSM for this key already; after a restart it finds the removal again.
            tracing::error!(%hsm, key_version = %version, %error, "the removal could not be recorded");
        }
    }
}
