//! What a restored database must take over from the one that it replaces: a pure decision.
//!
//! A backup is a state of before. Most of what happened since is meant to be undone by restoring it; but what happened
//! in tokens, or was given out, cannot be. So the newer of the two says what kmsuser's PINs are, what was destroyed
//! stays destroyed, no budget of encryptions grows, and what was taken away from callers is not given back to them
//! unasked.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::access::{self, AccessPlan};
use crate::audit::AuditLog;
use crate::{Catalogue, Key, KeyStore, Version};
use model::id::{ClusterId, HsmId, KeyId, KeyStoreId, KeyVersionId};
use model::key::KeyState;
use model::key_store::ConnectionState;
use model::limits::ENCRYPTIONS_PER_VERSION;
use model::pin::Pin;

/// Counted as used under each key version of which nobody knows what was done with it after the backup: an eighth of
/// its budget, 3,100 encryptions a second for a day. The budget of 2^31 is itself half of what random 96-bit IVs bear.
pub const MARGIN: u64 = 1 << 28;

/// What a database holds, as far as it matters here.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Keys and key stores.
    pub catalogue: Arc<Catalogue>,
    /// kmsuser's PINs.
    pub pins: BTreeMap<(KeyStoreId, HsmId), Pin>,
    /// Failed logins, of key stores that were deleted as well.
    pub spent: BTreeMap<(ClusterId, HsmId), u32>,
    /// What was destroyed, and when.
    pub destroyed: BTreeMap<KeyVersionId, i64>,
    /// Encryptions that were reserved.
    pub reserved: BTreeMap<KeyVersionId, u64>,
    /// The daemon's audit logs, the one that is written last.
    pub audit_logs: Vec<AuditLog>,
}

/// Which of the two saw more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The one that is there.
    FormerIsNewer,
    /// The one that is restored.
    BackupIsNewer,
    /// Their numbers cannot be compared. The one that is there was used with the tokens, so it counts as the newer one,
    /// except for a PIN that the other saw rotated later.
    Unrelated,
}

/// What is taken over, and what people have to be told.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// PINs that are newer than the backup's.
    pub pins: Vec<(KeyStoreId, HsmId, Pin)>,
    /// Failed logins that count at least.
    pub spent: Vec<(ClusterId, HsmId, u32)>,
    /// Key versions that were destroyed since, and when: they stay destroyed.
    pub destroyed: Vec<(KeyVersionId, i64)>,
    /// Versions of the backup that were destroyed since.
    pub gone: Vec<KeyVersionId>,
    /// Keys that the backup caught half made, and that cannot be finished from what it holds.
    pub left_out: Vec<KeyId>,
    /// Versions that were being made when the backup was, and of which it has no escrow: they had none yet, or are made in
    /// their HSM. What became of them the backup does not know, and to go on with one would make another material of it, or
    /// have what came into use since destroyed: they are left out, and what there is of them left alone.
    pub half_made: Vec<KeyVersionId>,
    /// Encryptions that count as reserved.
    pub reserved: Vec<(KeyVersionId, u64)>,
    /// How many of them by [`MARGIN`], because nothing better is known.
    pub by_margin: usize,
    /// Keys that stay disabled.
    pub disabled: Vec<KeyId>,
    /// Keys whose deletion was cancelled since: they are disabled, and kept.
    pub spared: Vec<KeyId>,
    /// Key stores that stay disconnected.
    pub disconnected: Vec<KeyStoreId>,
    /// Keys that the restored database will not know.
    pub unknown: Vec<Arc<Key>>,
    /// Versions that it will not know of keys that it knows.
    pub unknown_versions: Vec<KeyVersionId>,
    /// Key stores that it will not know.
    pub unknown_stores: Vec<Arc<KeyStore>>,
    /// Keys that it brings back.
    pub back: Vec<KeyId>,
    /// Who may do what.
    pub access: AccessPlan,
    /// The audit logs as they are now, in the place of the backup's: a log only ever grows, and whoever has an older head
    /// of it signs no other one in its place.
    pub audit_logs: Option<Vec<AuditLog>>,
    /// At least this revision.
    pub revision: u64,
}

/// Decides. `former` is absent where nothing was there, or could be read.
#[must_use]
pub fn plan(backup: &Facts, former: Option<&Facts>, order: Order) -> Plan {
    let Some(former) = former else {
        let access = access::plan(&backup.catalogue, None, order);
        let half_made = half_made(&backup.catalogue);
        let mut plan = Plan { revision: backup.catalogue.revision(), access, half_made, ..Plan::default() };
        reserve(&mut plan, backup, None, true);
        return plan;
    };
    let mut plan = Plan {
        pins: pins(backup, former, order),
        revision: backup.catalogue.revision().max(former.catalogue.revision()),
        access: access::plan(&backup.catalogue, Some(&former.catalogue), order),
        half_made: half_made(&backup.catalogue),
        ..Plan::default()
    };
    if order != Order::BackupIsNewer {
        plan.audit_logs = Some(former.audit_logs.clone()).filter(|logs| !logs.is_empty() && *logs != backup.audit_logs);
        let spent = former.spent.iter().filter(|(_, count)| **count > 0);
        plan.spent = spent.map(|((cluster, hsm), count)| (cluster.clone(), hsm.clone(), *count)).collect();
    }
    let buried = |(version, _): &(&KeyVersionId, &i64)| !backup.destroyed.contains_key(version);
    plan.destroyed = former.destroyed.iter().filter(buried).map(|(version, at)| (*version, *at)).collect();
    let (old, new) = (&backup.catalogue, &former.catalogue);
    let versions = old.keys().flat_map(|key| &key.versions);
    plan.gone = versions.map(|version| version.id).filter(|id| former.destroyed.contains_key(id)).collect();
    // What became of these is known: they stay destroyed.
    plan.half_made.retain(|id| !former.destroyed.contains_key(id));
    // A backup of after what is there tells that something ran on, and not how far.
    reserve(&mut plan, backup, Some(former).filter(|_| order != Order::BackupIsNewer), order == Order::Unrelated);
    for key in new.keys() {
        let finished = key.state != KeyState::Creating;
        match old.key(key.id) {
            None if finished => plan.unknown.push(Arc::clone(key)),
            None => {}
            Some(then) if then.state == KeyState::Creating && finished => {
                // From its blob it is finished by the next start, as after a crash, and is then Enabled.
                let blob = then.current().is_some_and(|version| version.blob.is_some());
                if !blob || key.state == KeyState::Disabled {
                    plan.left_out.push(key.id);
                    plan.unknown.push(Arc::clone(key));
                }
            }
            Some(then) => {
                let made = key.versions.iter().filter(|version| version.current_since.is_some());
                let kept = |id: &KeyVersionId| then.version(id.version).is_some() && !plan.half_made.contains(id);
                let lost: Vec<_> = made.map(|version| version.id).filter(|id| !kept(id)).collect();
                plan.unknown_versions.extend(lost);
                let deletes = |key: &Key| key.state == KeyState::PendingDeletion;
                if deletes(then) && !deletes(key) && order != Order::BackupIsNewer {
                    plan.spared.push(key.id);
                }
                let usable = |key: &Key| !matches!(key.state, KeyState::Disabled | KeyState::PendingDeletion);
                let taken_away = usable(then) && !usable(key);
                if taken_away && order != Order::BackupIsNewer {
                    plan.disabled.push(key.id);
                }
            }
        }
    }
    for store in new.key_stores() {
        let in_use = |store: &KeyStore| matches!(store.state, ConnectionState::Connected | ConnectionState::Connecting);
        match old.key_store(&store.id) {
            None => plan.unknown_stores.push(Arc::clone(store)),
            Some(then) if in_use(then) && !in_use(store) && order != Order::BackupIsNewer => {
                plan.disconnected.push(store.id.clone());
            }
            Some(_) => {}
        }
    }
    // The first version is half made where all of the key is.
    let half_made = |key: &KeyId| plan.half_made.iter().any(|made| made.key == *key && made.version == 1);
    let back =
        |key: &KeyId| new.key(*key).is_none() && !half_made(key) && !plan.gone.iter().any(|gone| gone.key == *key);
    plan.back = old.keys().map(|key| key.id).filter(back).collect();
    plan
}

fn half_made(backup: &Catalogue) -> Vec<KeyVersionId> {
    let made = |key: &Key| match key.state {
        KeyState::Creating => key.current().cloned(),
        _ => key.unfinished().cloned(),
    };
    let unknown = |version: &Version| version.in_place || version.blob.is_none();
    backup.keys().filter_map(|key| made(key)).filter(unknown).map(|version| version.id).collect()
}

/// Whether the former's PIN of an HSM is at least as new as the backup's.
#[must_use]
pub fn stands(then: Option<&Pin>, now: &Pin, order: Order) -> bool {
    match (then, order) {
        // Another HSM joined.
        (None, _) => true,
        (Some(then), _) if then == now => true,
        (_, Order::FormerIsNewer) => true,
        (_, Order::BackupIsNewer) => false,
        // An officer's PIN was never rotated, so a time that is missing says nothing.
        (Some(then), Order::Unrelated) => now.rotated_at.is_none() || then.rotated_at <= now.rotated_at,
    }
}

fn pins(backup: &Facts, former: &Facts, order: Order) -> Vec<(KeyStoreId, HsmId, Pin)> {
    let known = former.pins.iter().filter(|((store, _), _)| backup.catalogue.key_store(store).is_some());
    known
        .filter(|(of, now)| {
            let then = backup.pins.get(of);
            then != Some(now) && stands(then, now, order)
        })
        .map(|((store, hsm), pin)| (store.clone(), hsm.clone(), pin.clone()))
        .collect()
}

/// What was used after the backup stays used. A database of another line knows what was used on its own line alone
/// (`beside`): what the backup's line went on to use is known to nobody.
fn reserve(plan: &mut Plan, backup: &Facts, former: Option<&Facts>, beside: bool) {
    for (version, then) in &backup.reserved {
        let now = former.and_then(|former| former.reserved.get(version).copied());
        let margin = Some(then.saturating_add(MARGIN)).filter(|_| beside || now.is_none());
        plan.by_margin += usize::from(margin.is_some());
        let used = now.max(margin).unwrap_or(*then).min(ENCRYPTIONS_PER_VERSION);
        if used > *then {
            plan.reserved.push((*version, used));
        }
    }
}

#[cfg(test)]
mod tests;
