//! A look at a cluster's HSMs before a key store is put over it.

use std::collections::BTreeSet;

use crate::Error;
use crate::core::Core;
use crate::core::cluster_registry::ClusterSpec;
use cluster::discovery::{DiscoveredHsm, discover};
use model::exception::Exception;
use pki::identity::{Kind, TrustAnchor};

/// A key store needs HSMs in as many zones.
const ZONES: usize = 2;

/// Looks at a cluster's HSMs: at least two active ones, in distinct zones, or one that stands in several by itself,
/// certified under the anchor. `unrelated`
/// is what it means to the caller when they are certified under another.
pub(crate) async fn inspect(
    core: &Core,
    spec: &ClusterSpec,
    anchor: &TrustAnchor,
    unrelated: Exception,
) -> Result<(), Error> {
    let now = core.clock().calendar();
    let mut zones: BTreeSet<String> = BTreeSet::new();
    let (mut active, mut wrong, mut unknown) = (0_usize, Vec::new(), Vec::new());
    for DiscoveredHsm { hsm, zone, seen } in discover(&spec.hsms, core.clock()).await {
        let certificate = match seen {
            Ok(ready) => ready.identity,
            Err(why) => {
                wrong.push(format!("HSM {hsm} in zone {zone}: {why}"));
                continue;
            }
        };
        let Some(certificate) = certificate else {
            wrong.push(format!("HSM {hsm} in zone {zone}: its token did not go through the key ceremony"));
            continue;
        };
        active += 1;
        match anchor.certified(Kind::Identity, &certificate, now) {
            Ok(certified) if certified.hsm == hsm => zones.extend(zone.names().map(str::to_owned)),
            Ok(certified) => {
                wrong.push(format!("HSM {hsm} in zone {zone}: its token was certified as HSM {}", certified.hsm));
            }
            Err(error) => unknown.push(format!("HSM {hsm}: {error}")),
        }
    }
    let cluster = &spec.settings.id;
    if !unknown.is_empty() {
        return Err(Error::permanent(
            unrelated,
            format!("the HSMs of {cluster} are not certified under this trust anchor: {}", unknown.join("; ")),
        ));
    }
    if active == 0 {
        return Err(Error::permanent(
            Exception::CloudHsmClusterNotActive,
            format!("no HSM of {cluster} is active: {}", wrong.join("; ")),
        ));
    }
    if zones.len() < ZONES {
        return Err(Error::permanent(
            Exception::CloudHsmClusterInvalidConfiguration,
            format!("{cluster} needs at least {ZONES} active HSMs in distinct zones: {}", wrong.join("; ")),
        ));
    }
    Ok(())
}
