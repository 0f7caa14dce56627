//! What the tokens hold, as far as that can be asked without spending a try on a PIN that may be an older one.

use std::collections::BTreeSet;
use std::sync::Arc;

use arc_swap::ArcSwap;
use futures_util::future::join_all;

use super::Error;
use crate::server::files::Found;
use crate::server::{parts, settings};
use cluster::admission::KeyStoreAdmission;
use cluster::identity::Identities;
use cluster::inventory;
use cluster::kmsuser::{Kmsuser, PinLocks, PinStatusRegistry, record_of, reseal};
use config::Config;
use model::clock::Clock;
use model::id::{HsmId, KeyStoreId, KeyVersionId};
use model::pin::Pin;
use pki::identity::TrustAnchor;
use pki::seal::SealKeys;
use service::cluster_registry::ClusterSpec;
use store::restore::{Order, Present, Restore, stands};
use store::{KeyStore, Store};
use telemetry::WORKER_LOG;

/// Nothing is tried a second time for a mere look.
const TRIES: u32 = 1;

/// What was seen in one HSM.
pub(super) struct Look {
    pub(super) hsm: HsmId,
    pub(super) key_store: KeyStoreId,
    /// The versions that its token holds, or why it was not asked.
    pub(super) seen: Result<BTreeSet<KeyVersionId>, String>,
}

/// Looks into every HSM of a key store of the database that is restored.
pub(super) async fn look(config: &Config, restore: &Restore, clock: &Clock) -> Result<Vec<Look>, Error> {
    let wrong = |error: store::Error| Error::Wrong(error.to_string());
    let specs = settings::clusters(config, Found::default());
    let stores: Vec<(Arc<KeyStore>, ClusterSpec)> = restore
        .restored()
        .key_stores()
        .filter_map(|store| {
            let spec = specs.iter().find(|spec| spec.settings.id == store.cluster)?;
            Some((Arc::clone(store), spec.clone()))
        })
        .collect();
    let all = |why: &str| -> Vec<Look> {
        let of = |(store, spec): &(Arc<KeyStore>, ClusterSpec)| -> Vec<Look> {
            let hsms = spec.hsms.iter().map(|hsm| hsm.hsm.clone());
            hsms.map(|hsm| Look { hsm, key_store: store.id.clone(), seen: Err(why.to_owned()) }).collect()
        };
        stores.iter().flat_map(of).collect()
    };
    let (former, order) = match (restore.former(), restore.present()) {
        (Some((_, Order::BackupIsNewer)), _) => {
            return Ok(all(
                "the database that is there is older than the one that is restored, and neither may know its PIN",
            ));
        }
        (Some(former), _) => former,
        (None, Present::Itself) => return Ok(all("the file is restored in its place, and may know an older PIN")),
        (None, _) => {
            return Ok(all(
                "no database of before can be read, and a PIN that was rotated after the backup would cost a try",
            ));
        }
    };
    let seals = match parts::seals(&config.seal) {
        Ok(seals) => Arc::new(ArcSwap::from_pointee(seals)),
        Err(error) => return Ok(all(&error.to_string())),
    };
    let restored = restore.restored_pins().await.map_err(wrong)?;
    let (mut looks, mut asked) = (Vec::new(), Vec::new());
    let identities = Arc::new(Identities::default());
    for (store, spec) in &stores {
        let pins = former.pins(&store.id).await.map_err(wrong)?;
        // One for all HSMs of the store, since one PIN may be all of theirs.
        let admission = admission(former, &seals, &identities, store, spec, clock);
        for hsm in &spec.hsms {
            let record = record_of(spec.pin_scope, &hsm.hsm);
            let pin = pins.iter().find(|(of, _)| *of == record).map(|(_, pin)| pin);
            let then = restored.iter().find(|(of, hsm, _)| *of == store.id && *hsm == record).map(|(_, _, pin)| pin);
            match may_ask(then, pin, order).map_err(str::to_owned).and_then(|()| admission.clone()) {
                Err(why) => looks.push(Look { hsm: hsm.hsm.clone(), key_store: store.id.clone(), seen: Err(why) }),
                Ok(admission) => asked.push((store, hsm, admission)),
            }
        }
    }
    if asked.is_empty() {
        return Ok(looks);
    }
    restore.begin_looking().map_err(wrong)?;
    let asking = asked.into_iter().map(|(store, hsm, admission)| {
        let mut hsm = hsm.clone();
        // What the worker would log is told in better words.
        hsm.environment.insert(WORKER_LOG[1].to_owned(), "off".to_owned());
        async move {
            let seen = inventory::keys_in(&hsm, admission, clock).await;
            Look { hsm: hsm.hsm, key_store: store.id.clone(), seen }
        }
    });
    looks.extend(join_all(asking).await);
    restore.end_looking().await.map_err(wrong)?;
    looks.sort_by(|one, other| one.hsm.cmp(&other.hsm));
    Ok(looks)
}

/// PINs of the restored database that none of the configuration's seal keys opens.
pub(super) async fn sealed_otherwise(config: &Config, restore: &Restore) -> Result<Vec<(KeyStoreId, HsmId)>, Error> {
    // A seal key that cannot be read is told of with each HSM.
    let Ok(seals) = parts::seals(&config.seal) else { return Ok(Vec::new()) };
    let pins = restore.restored_pins().await.map_err(|error| Error::Wrong(error.to_string()))?;
    let opens = |(store, hsm, pin): &(KeyStoreId, HsmId, Pin)| reseal(&seals, store, hsm, &pin.current).is_ok();
    Ok(pins.into_iter().filter(|pin| !opens(pin)).map(|(store, hsm, _)| (store, hsm)).collect())
}

fn may_ask(then: Option<&Pin>, now: Option<&Pin>, order: Order) -> Result<(), &'static str> {
    match now {
        Some(now) if !stands(then, now, order) => {
            Err("the database that is restored saw its PIN rotated later than the one that is there")
        }
        None => Err("no PIN of kmsuser is on record for it in the database that is there"),
        Some(pin) => inventory::doubt(pin).map_or(Ok(()), Err),
    }
}

fn admission(
    former: &Store,
    seals: &Arc<ArcSwap<SealKeys>>,
    identities: &Arc<Identities>,
    store: &KeyStore,
    spec: &ClusterSpec,
    clock: &Clock,
) -> Result<KeyStoreAdmission, String> {
    let anchor = TrustAnchor::from_pem(&store.trust_anchor)
        .map_err(|error| format!("the trust anchor of its key store cannot be read: {error}"))?;
    let kmsuser = Kmsuser {
        records: Arc::new(former.clone()),
        seals: Arc::clone(seals),
        key_store: store.id.clone(),
        scope: spec.pin_scope,
        tries: TRIES,
        statuses: Arc::new(PinStatusRegistry::default()),
        locks: PinLocks::default(),
    };
    Ok(KeyStoreAdmission::new(store.cluster.clone(), anchor, kmsuser, Arc::clone(identities), clock.clone()))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    /// A try with an older PIN may be a token's last.
    #[test]
    fn no_token_is_asked_with_a_pin_that_the_restored_database_saw_replaced() {
        let pin = |text: &'static str, at| Pin {
            current_proven: true,
            rotated_at: Some(at),
            ..Pin::given(Bytes::from_static(text.as_bytes()))
        };
        let (monday, tuesday) = (pin("monday", 1), pin("tuesday", 2));
        let asked = |then, now, order| may_ask(then, Some(now), order).is_ok();
        assert!(!asked(Some(&tuesday), &monday, Order::Unrelated));
        assert!(asked(Some(&monday), &tuesday, Order::Unrelated));
        assert!(asked(Some(&monday), &monday, Order::Unrelated));
        assert!(asked(Some(&tuesday), &monday, Order::FormerIsNewer), "a clock that was set back says nothing");
        assert!(may_ask(None, None, Order::Unrelated).is_err());
    }
}
