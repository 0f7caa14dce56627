//! What the start goes on with.

use super::{Lifecycle, Origin, Plan};
use crate::Error;
use crate::core::budget::START_BLOCK;
use model::exception::Exception;
use model::id::{KeyId, KeyVersionId};
use model::key::KeyState;
use model::key_store::ConnectionState;
use store::{Catalogue, Key};
use telemetry::sampled::{self, Line};

/// Versions for which encryptions are reserved in one transaction.
const AT_ONCE: usize = 500;

impl Lifecycle {
    /// Finishes what a crash interrupted: keys in state Creating, and new versions of others. Run when HSMs are reachable:
    /// after the start, and after each connect.
    pub(crate) async fn resume(&self) {
        self.reserve_for_start().await;
        let unfinished = unfinished_of(&self.core.store().catalogue());
        for key in unfinished {
            // An HSM has come back, or a key store was connected: no pause holds it up.
            self.resume_key(key).await;
        }
    }

    /// The same without being waited for: a disconnect must not wait for keys of other key stores.
    pub(super) fn resume_in_background(&self) {
        let (lifecycle, counted) = (self.clone(), self.core.tasks().token());
        // On panic: the next look at an HSM has it done again.
        tokio::spawn(async move {
            lifecycle.resume().await;
            drop(counted);
        });
    }

    /// Goes on with what is unfinished of a key, unless somebody does already, and waits for what comes of it.
    pub(super) async fn resume_key(&self, key: KeyId) -> Resumed {
        let mut creations = self.inner.creations.lock().await;
        if creations.get(&key).is_some_and(|outcome| !outcome.is_lost()) {
            // It is under way.
            return Resumed::NotTried;
        }
        let catalogue = self.core.store().catalogue();
        // By now a call with the same client token may have finished it.
        let Some(row) = catalogue.key(key).filter(|row| is_unfinished(row)) else { return Resumed::NotTried };
        let creates = row.state == KeyState::Creating;
        let made = if creates { row.current() } else { row.unfinished() };
        let Some(made) = made else { return Resumed::NotTried };
        let version = made.id;
        let in_place = made.in_place;
        if !made.may_be_in_tokens() {
            // No token was asked to keep anything of it.
            let abandoned = match creates {
                true => self.core.store().abandon_key(key).await,
                false => self.core.store().abandon_version(version).await,
            };
            match abandoned {
                Ok(()) => tracing::info!(%version, "an unfinished key version without material was taken away"),
                Err(error) => tracing::warn!(%version, %error, "an unfinished key version could not be taken away"),
            }
            return Resumed::NotTried;
        }
        let connected = catalogue.key_store(&row.key_store).is_some_and(|s| s.state == ConnectionState::Connected);
        let Some(members) = self.core.members_of(&row.key_store).filter(|_| connected) else {
            tracing::debug!(%version, "an unfinished key version is finished when its key store is connected");
            return Resumed::NotTried;
        };
        // The key was taken out of use meanwhile, and keeps the version that it has; or the configuration has versions made
        // in another way by now.
        let wanted = (creates || row.state == KeyState::Enabled) && in_place == members.in_place;
        let plan = Plan { version, members, origin: Origin::Interrupted, listed: None };
        let outcome = match wanted {
            true => self.finish(&mut creations, plan, made.cause),
            false => {
                tracing::info!(%version, "an unfinished key version that is not wanted any more is taken away");
                // Whoever asks for a version meanwhile is not told that there is one.
                let taken_away = Err(taken_away(&self.core.scope().key_arn(key)));
                self.run(&mut creations, key, None, async move { (taken_away, Some(plan)) })
            }
        };
        drop(creations);
        match outcome.result().await {
            _ if !wanted => Resumed::NotTried,
            Ok(()) => {
                tracing::info!(%version, "an unfinished key version came to its end");
                // As of one that was not interrupted.
                self.note_rotation(version, made.cause);
                Resumed::Finished
            }
            Err(error) => {
                if sampled::whole(Line::KeyNotMade, &error.exception) {
                    tracing::warn!(%version, why = error.message,
                        "an unfinished key version could not be finished yet; it is tried again");
                }
                Resumed::Failed
            }
        }
    }

    /// Reserves encryptions for all keys, many in one go, so that the first call under each does not wait for the disk, and
    /// changes of others wait for no more than that.
    async fn reserve_for_start(&self) {
        let catalogue = self.core.store().catalogue();
        let enabled = catalogue.keys_in(KeyState::Enabled);
        let current = enabled.filter_map(|key| Some(key.current()?.id));
        let versions: Vec<KeyVersionId> = current.filter(|id| self.core.budgets().of(*id).is_empty()).collect();
        for versions in versions.chunks(AT_ONCE) {
            match self.core.store().reserve_encryptions_of(versions, START_BLOCK).await {
                Ok(granted) => {
                    for (version, granted) in versions.iter().zip(granted) {
                        self.core.budgets().of(*version).add(granted, START_BLOCK, self.core.clock().now());
                    }
                }
                // Not fatal: the first call under each key reserves for itself.
                Err(error) => {
                    tracing::warn!(%error, "no encryptions could be reserved at start");
                    return;
                }
            }
        }
    }
}

/// For those who want a version of a key while an unfinished one is taken away.
fn taken_away(arn: &str) -> Error {
    let what = format!("an unfinished version of {arn} is just being taken away, and no other was made; call again");
    Error::transient(Exception::KmsInternal, what)
}

/// What came of going on with a version.
pub(super) enum Resumed {
    /// Nothing was to be done for it, or somebody else does it.
    NotTried,
    /// It is made.
    Finished,
    /// It could not be made.
    Failed,
}

/// Keys of which a version is being made, under way or not.
pub(super) fn unfinished_of(catalogue: &Catalogue) -> Vec<KeyId> {
    catalogue.keys().filter(|key| is_unfinished(key)).map(|key| key.id).collect()
}

/// A version of the key is being made.
pub(super) fn is_unfinished(key: &Key) -> bool {
    key.state == KeyState::Creating || key.unfinished().is_some()
}
