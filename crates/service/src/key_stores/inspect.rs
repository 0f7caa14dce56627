//! A look at a cluster's HSMs before a key store is put over it.

use std::collections::BTreeSet;

use crate::Error;
use crate::core::Core;
use crate::core::cluster_registry::ClusterSpec;
use cluster::discovery::{DiscoveredHsm, discover};
use model::exception::Exception;
use model::id::HsmId;
use pki::identity::{Kind, TrustAnchor};
use supervisor::certificate_remedy;

/// A key store needs HSMs in as many zones.
const ZONES: usize = 2;

/// Looks at a cluster's HSMs: at least two active ones, in distinct zones, or one that stands in several by itself,
/// certified under the anchor. `unrelated` is what it means to the caller when they are certified under another.
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
        let ready = match seen {
            Ok(ready) => ready,
            Err(why) => {
                wrong.push(format!("HSM {hsm} in zone {zone}: {why}"));
                continue;
            }
        };
        let Some(certificate) = ready.identity else {
            wrong.push(format!("HSM {hsm} in zone {zone}: its token did not go through the key ceremony"));
            continue;
        };
        active += 1;
        match anchor.certified(Kind::Identity, &certificate, now) {
            Ok(certified) if certified.hsm != hsm => {
                let (other, file) = (certified.hsm, of_file(spec, &hsm));
                wrong.push(format!("HSM {hsm} in zone {zone}: its token was certified as HSM {other}{file}"));
            }
            Ok(certified) if certified.serial != ready.serial => {
                let (serial, file) = (ready.serial, of_file(spec, &hsm));
                wrong.push(format!(
                    "HSM {hsm} in zone {zone}: its token has the serial number {serial}, but was certified with {}{file}",
                    certified.serial
                ));
            }
            Ok(_) => zones.extend(zone.names().map(str::to_owned)),
            Err(error) => unknown.push(format!("HSM {hsm}: {error}{}", of_file(spec, &hsm))),
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

/// Where its certificate was read, if that was not in its token, and what to do about that.
fn of_file(spec: &ClusterSpec, hsm: &HsmId) -> String {
    let file = spec.hsm(hsm).and_then(|settings| settings.certificate.as_ref());
    file.map_or_else(String::new, |file| {
        format!(", by the certificate in the file {}: {}", file.display(), certificate_remedy(hsm))
    })
}
