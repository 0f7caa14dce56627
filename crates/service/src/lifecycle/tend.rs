//! What is done about keys now and then, without anybody asking: rotations that are due, deletions whose waiting period is
//! over, and the last use of keys on record.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::resume::{Resumed, unfinished_of};
use super::{DestroyStep, Lifecycle, transient};
use crate::core::Core;
use crate::core::service_event::ServiceEvent;
use crate::keys::delete_key::DAY_MILLIS;
use crate::keys::recorded::{backing_keys, deletion_status};
use model::id::KeyId;
use model::key::{KeyState, RotationCause};
use model::key_store::ConnectionState;
use model::limits::{ENCRYPTIONS_BEFORE_ROTATION, ENCRYPTIONS_PER_VERSION};
use model::lock::MutexExt as _;
use store::{Deletion, GiveUp, Key, Rotation};
use telemetry::sampled::{self, Line};
use telemetry::watchdog::Heartbeat;

/// How often.
const EVERY: Duration = Duration::from_secs(5);
/// How often the last use of keys is put on record, which costs a write where keys are used.
const USAGE: Duration = Duration::from_secs(30);
/// A turn counts no more of its time than this as time in which the daemon ran: it may have been stopped.
const LONGEST: Duration = Duration::from_secs(60);
/// For so long, of the daemon's own running time, the date of a deletion must have been past, or the next rotation of a key too
/// far ahead: a clock that is wrong for a while destroys nothing, and sets no period anew. AWS too allows itself a day for
/// deletions.
pub(crate) const CERTAIN: Duration = Duration::from_secs(24 * 60 * 60);
/// How much of that time may be lost by a crash.
const RECORD: Duration = Duration::from_secs(10 * 60);
/// The longest before a rotation that failed is tried again; the first is a turn, each in a row twice as long.
const LONGEST_PAUSE: Duration = Duration::from_secs(5 * 60);
/// The same of a version that was begun and could not be finished. Its number is given out already, and a try asks each HSM to
/// destroy what it has of it and to take it anew; nothing tells when an HSM that was full has room again.
const LONGEST_PAUSE_OF_BEGUN: Duration = Duration::from_secs(60);
/// Keys whose period begins anew in one turn: each is a write.
const ANEW: usize = 100;

/// What a turn knows of those before.
pub(crate) struct Turns {
    last: Instant,
    /// When the last use of keys was put on record.
    told: Option<Instant>,
    /// Time for which deletions were overdue that is not on record yet.
    overdue: HashMap<KeyId, Duration>,
    /// For how long the next rotation of keys was too far ahead. A restart begins it again.
    ahead: HashMap<KeyId, (Rotation, Duration)>,
    /// Rotations are under way.
    rotating: Arc<AtomicBool>,
    /// Keys whose rotation has failed, and those with a version that could not be finished.
    postponed: Postponed,
}

impl Turns {
    pub(crate) fn new(now: Instant) -> Self {
        let (overdue, ahead) = (HashMap::new(), HashMap::new());
        Self { last: now, told: None, overdue, ahead, rotating: Arc::default(), postponed: Postponed::default() }
    }

    /// For how long the daemon ran since the turn before.
    fn ran(&mut self, now: Instant) -> Duration {
        let ran = now.saturating_duration_since(self.last).min(LONGEST);
        self.last = now;
        ran
    }

    /// Which of these rotations, that are too far ahead now, were so for long enough, each the same all that time.
    fn ahead_for_certain(&mut self, ahead: HashMap<KeyId, Rotation>, ran: Duration) -> Vec<(KeyId, Rotation)> {
        self.ahead.retain(|key, (rotation, _)| ahead.get(key) == Some(rotation));
        let lasted = |(key, rotation): (KeyId, Rotation)| {
            let (_, lasted) = self.ahead.entry(key).or_insert((rotation, Duration::ZERO));
            *lasted += ran;
            (*lasted >= CERTAIN).then_some((key, rotation))
        };
        ahead.into_iter().filter_map(lasted).collect()
    }

    /// Ends when no rotations are under way.
    #[cfg(test)]
    pub(crate) async fn rotated(&self) {
        while self.rotating.load(Ordering::Acquire) {
            tokio::task::yield_now().await;
        }
    }
}

impl Lifecycle {
    /// Looks after keys for as long as the daemon runs.
    pub(crate) async fn tend_keys(self, heartbeat: Heartbeat) {
        let mut turns = Turns::new(self.core.clock().now());
        loop {
            heartbeat.idle(tokio::time::sleep(EVERY)).await;
            heartbeat.idle(self.tend_keys_once(&mut turns)).await;
        }
    }

    /// One turn.
    pub(crate) async fn tend_keys_once(&self, turns: &mut Turns) {
        let now = self.core.clock().now();
        if turns.told.is_none_or(|told| now.saturating_duration_since(told) >= USAGE) {
            turns.told = Some(now);
            self.core.record_usage().await;
        }
        self.core.record_what_waits().await;
        let ran = turns.ran(now);
        self.tend_deletions(turns, ran).await;
        self.begin_periods_anew(turns, ran).await;
        self.rotate_what_is_due(turns);
    }

    async fn tend_deletions(&self, turns: &mut Turns, ran: Duration) {
        let date = self.core.clock().unix_millis();
        let catalogue = self.core.store().catalogue();
        let (mut to_record, mut to_forget) = (Vec::new(), Vec::new());
        turns.overdue.retain(|key, _| catalogue.key(*key).is_some());
        for key in catalogue.keys_in(KeyState::PendingDeletion) {
            let Some(deletion) = key.deletion else { continue };
            if date < deletion.date {
                // Also where the clock was put back: by a wrong one nothing was past, on record or not.
                turns.overdue.remove(&key.id);
                to_forget.extend((!deletion.overdue.is_zero()).then_some(key.id));
                continue;
            }
            let unrecorded = turns.overdue.entry(key.id).or_default();
            *unrecorded += ran;
            let certain = is_certain(deletion, *unrecorded);
            // Once it is certain on record that is the end of it, however long an HSM that is away keeps the key here.
            if !is_certain(deletion, Duration::ZERO) && (*unrecorded >= RECORD || certain) {
                to_record.push((key.id, std::mem::take(unrecorded)));
            }
            if certain {
                self.delete(key, deletion).await;
            }
        }
        to_record.retain(|(key, _)| self.core.store().catalogue().key(*key).is_some());
        if !to_record.is_empty()
            && let Err(error) = self.core.store().add_overdue(&to_record).await
        {
            // It counts again from what is on record.
            tracing::debug!(%error, "for how long deletions are overdue could not be recorded");
        }
        if !to_forget.is_empty()
            && let Err(error) = self.core.store().forget_overdue(&to_forget).await
        {
            // The next turn finds the same.
            tracing::debug!(%error, "that deletions are not overdue any more could not be recorded");
        }
    }

    /// The waiting period is over: destroys the material, and takes the key away when that is gone everywhere.
    async fn delete(&self, key: &Key, deletion: Deletion) {
        if !deletion.material_destroyed {
            // Its transaction looks once more whether somebody has just thought better of it.
            if let Err(error) = self.give_up_material(key, GiveUp::Due { date: deletion.date }).await {
                tracing::warn!(key = %key.id, %error, "the key is to be deleted and could not be yet");
                return;
            }
            self.destroy_material(key.id).await;
            let catalogue = self.core.store().catalogue();
            self.core.happened(self.of_deletion(
                "DestroyKeyMaterial",
                false,
                catalogue.key(key.id).unwrap_or(&Arc::new(key.clone())),
            ));
        }
        let catalogue = self.core.store().catalogue();
        let Some(now) = catalogue.key(key.id).filter(|now| self.is_gone_everywhere(now)) else { return };
        match transient(DestroyStep::RecordDeleted, self.core.store().delete_key(now.id)).await {
            Ok(()) => {
                self.core.happened(self.of_deletion("DeleteKey", true, now));
                tracing::warn!(key = %now.id, key_store = %now.key_store, versions = now.versions.len(),
                    "the key was deleted; its material is gone from every HSM of its cluster");
            }
            Err(error) => tracing::warn!(key = %now.id, %error, "the key is to be deleted and could not be yet"),
        }
    }

    /// What is recorded of a deletion, as AWS has it: the material's names, and where it is gone.
    fn of_deletion(&self, name: &'static str, kms: bool, key: &Key) -> ServiceEvent {
        let now = self.core.clock().unix_millis();
        let event = if kms { ServiceEvent::of_kms(now, name) } else { ServiceEvent::ours(now, name) };
        let cluster = self.core.key_store(&key.key_store).map(|store| store.cluster.to_string());
        event
            .about(self.core.scope().key_arn(key.id))
            .saying("customKeyStoreId", key.key_store.as_str())
            .saying("clusterId", cluster.as_deref().unwrap_or_default())
            .saying("backingKeys", backing_keys(key).as_str())
            .saying("backingKeysDeletionStatus", deletion_status(key).as_str())
    }

    /// Has the period of a key begin now whose next rotation is further ahead than that: it was rotated, or told to be, by a
    /// clock that was put back since, and would not be rotated for as long as that was ahead. Not before that has lasted: it
    /// may be now that the clock is wrong, and behind, and when it is put right all of these keys would be due.
    async fn begin_periods_anew(&self, turns: &mut Turns, ran: Duration) {
        let date = self.core.clock().unix_millis();
        let catalogue = self.core.store().catalogue();
        let rotated = catalogue.keys_in(KeyState::Enabled).filter_map(|key| Some((key.id, key.rotation?)));
        let ahead = rotated.filter(|(_, rotation)| is_too_far_ahead(*rotation, date)).collect();
        let mut anew = 0;
        for (key, rotation) in turns.ahead_for_certain(ahead, ran).into_iter().take(ANEW) {
            if let Err(error) = self.core.store().begin_period_anew(key, rotation).await {
                tracing::debug!(%key, %error, "the period of the key's rotation could not begin anew yet");
                break;
            }
            anew += 1;
        }
        if anew > 0 {
            tracing::warn!(
                keys = anew,
                "the next rotation of keys was set by a clock that was wrong; their period begins now"
            );
        }
    }

    /// Finishes what is half made and rotates what is due, one key after the other and beside the turns: an HSM that hangs
    /// holds up no deletion.
    fn rotate_what_is_due(&self, turns: &Turns) {
        let date = self.core.clock().unix_millis();
        let catalogue = self.core.store().catalogue();
        let due = |key: &Arc<Key>| Some((key.id, is_due(key, date, encryptions_done(&self.core, key))?));
        // Those of other key stores are due when that is connected, and are not put off until then.
        let connected = |key: &&Arc<Key>| {
            catalogue.key_store(&key.key_store).is_some_and(|store| store.state == ConnectionState::Connected)
        };
        let mut due: Vec<_> = catalogue.keys_in(KeyState::Enabled).filter(connected).filter_map(due).collect();
        // What a crash or an HSM in trouble has left half made. What is under way is waited for. Of the same view as what is due:
        // one that is being made at this moment is neither due nor done.
        let mut unfinished = unfinished_of(&catalogue);
        let (postponed, now) = (&turns.postponed, self.core.clock().now());
        postponed.keep(due.iter().map(|(key, _)| key).chain(&unfinished));
        due.retain(|(key, _)| !postponed.puts_off(key, now));
        // Of keys that were taken out of use what is unfinished is taken away, which waits for no room.
        let is_wanted = |key: &KeyId| {
            let state = catalogue.key(*key).map(|key| key.state);
            matches!(state, Some(KeyState::Creating | KeyState::Enabled))
        };
        unfinished.retain(|key| !(postponed.puts_off(key, now) && is_wanted(key)));
        if (due.is_empty() && unfinished.is_empty()) || turns.rotating.swap(true, Ordering::AcqRel) {
            return;
        }
        let (lifecycle, counted) = (self.clone(), self.core.tasks().token());
        let (underway, postponed) = (Underway(Arc::clone(&turns.rotating)), turns.postponed.clone());
        // On panic: the next turn has it done.
        tokio::spawn(async move {
            for key in unfinished {
                match lifecycle.resume_key(key).await {
                    Resumed::Failed => postponed.failed(key, lifecycle.core.clock().now(), LONGEST_PAUSE_OF_BEGUN),
                    Resumed::Finished => postponed.forget(key),
                    Resumed::NotTried => {}
                }
            }
            for (key, cause) in due {
                let Err(error) = lifecycle.rotate(key, cause).await else { continue };
                postponed.failed(key, lifecycle.core.clock().now(), LONGEST_PAUSE);
                if sampled::whole(Line::KeyNotRotated, &key) {
                    tracing::warn!(%key, cause = cause.name(), exception = %error.exception, why = error.message,
                        "the key is to be rotated and could not be yet; it is tried again");
                }
            }
            drop((underway, counted));
        });
    }
}

/// Rotations are under way until this is dropped.
struct Underway(Arc<AtomicBool>);

impl Drop for Underway {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Release);
    }
}

/// Keys that are to be rotated or finished and could not be, each with the time at which it is tried again and the pause
/// before that. A try that fails half-way costs every HSM the making of a key, and the metadata a number that is remembered
/// for ever: an HSM that is full would cost that every few seconds for years.
#[derive(Clone, Default)]
struct Postponed(Arc<Mutex<HashMap<KeyId, (Instant, Duration)>>>);

impl Postponed {
    /// Forgets all but these, which are due or unfinished.
    fn keep<'k>(&self, wanted: impl Iterator<Item = &'k KeyId>) {
        let mut postponed = self.0.lock_anyway();
        if !postponed.is_empty() {
            let wanted: HashSet<&KeyId> = wanted.collect();
            postponed.retain(|key, _| wanted.contains(key));
        }
    }

    /// Whether it is not tried yet.
    fn puts_off(&self, key: &KeyId, now: Instant) -> bool {
        self.0.lock_anyway().get(key).is_some_and(|(at, _)| *at > now)
    }

    fn failed(&self, key: KeyId, now: Instant, longest: Duration) {
        let mut postponed = self.0.lock_anyway();
        let before = postponed.get(&key).map(|(_, pause)| *pause);
        let pause = before.map_or(EVERY, |pause| (pause * 2).min(longest));
        postponed.insert(key, (now + pause, pause));
    }

    fn forget(&self, key: KeyId) {
        self.0.lock_anyway().remove(&key);
    }
}

/// Whether the date of a deletion was past for long enough.
fn is_certain(deletion: Deletion, unrecorded: Duration) -> bool {
    deletion.overdue.saturating_add(unrecorded) >= CERTAIN
}

/// Whether a rotation is further ahead than its period, and a day: clocks are put right by less.
fn is_too_far_ahead(rotation: Rotation, date: i64) -> bool {
    rotation.next > date.saturating_add((i64::from(rotation.period) + 1) * DAY_MILLIS)
}

/// Encryptions that were done under the current version, those counted that are reserved and will be lost by a crash.
fn encryptions_done(core: &Core, key: &Key) -> u64 {
    key.current().map_or(0, |version| ENCRYPTIONS_PER_VERSION.saturating_sub(core.encryptions_left(version.id)))
}

/// Why a key that is Enabled has to be rotated now, if it has to. What was begun is finished first.
fn is_due(key: &Key, date: i64, encryptions_done: u64) -> Option<RotationCause> {
    if key.unfinished().is_some() {
        return None;
    }
    if encryptions_done >= ENCRYPTIONS_BEFORE_ROTATION {
        return Some(RotationCause::Wear);
    }
    key.rotation.filter(|rotation| rotation.next <= date).map(|_| RotationCause::Period)
}
