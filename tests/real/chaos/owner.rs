//! The owner of keys, who goes on with them beside the trouble: makes and rotates those that callers use, who must not
//! notice, and switches off, nearly deletes and destroys others, which nobody may use then.
//!
//! What an owner was told holds, whatever happens to the zones. What failed because too few zones were there is done
//! again when they are back, and must succeed then.

use std::sync::Arc;
use std::time::Duration;

use model::clock::Clock;
use proto::v1::{
    CancelKeyDeletionRequest, DestroyKeyMaterialRequest, RotateKeyOnDemandRequest, ScheduleKeyDeletionRequest,
};
use tokio::task::JoinHandle;

use super::callers::Keys;
use super::journal::Journal;
use crate::harness::{Caller, Failure, context, wait};

/// Before a change that could not be recorded is made again.
const PAUSE: Duration = Duration::from_millis(50);

/// What an owner does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Act {
    /// Makes a key.
    Make,
    /// Gives a key that callers use new material.
    Rotate,
    /// Switches a key off and on again.
    Switch,
    /// Has a key deleted, thinks better of it, and switches it on again.
    Spare,
    /// Destroys a key's material.
    Destroy,
}

impl Act {
    pub(super) const ALL: [Self; 5] = [Self::Make, Self::Rotate, Self::Switch, Self::Spare, Self::Destroy];

    /// Asks HSMs for something that they have to agree about.
    pub(super) fn makes(self) -> bool {
        matches!(self, Self::Make | Self::Rotate)
    }
}

/// A key that only its owner uses.
#[derive(Clone, Debug)]
pub(super) struct Own {
    key: String,
    arn: String,
    ciphertext: Vec<u8>,
}

/// What came of an act.
pub(super) enum Done {
    Made(String, Result<String, Failure>),
    Rotated(String, Result<(), Failure>),
    Kept(Own, Result<(), Failure>),
    Destroyed(Own, Result<(), Failure>),
}

pub(super) struct Owner {
    caller: Caller,
    journal: Arc<Journal>,
    /// Those that callers use.
    keys: Keys,
    own: Option<Own>,
    /// Client tokens of keys whose making failed while a zone was troubled.
    unmade: Vec<String>,
    /// Keys that were not rotated for that reason.
    unrotated: Vec<String>,
    /// Keys whose material is to be destroyed, and was perhaps not everywhere.
    doomed: Vec<Own>,
    destroyed: Vec<Own>,
    pub(super) rotations: usize,
}

impl Owner {
    pub(super) fn new(caller: &Caller, keys: &Keys, journal: &Arc<Journal>) -> Self {
        Self {
            caller: caller.clone(),
            journal: Arc::clone(journal),
            keys: Arc::clone(keys),
            own: None,
            unmade: Vec::new(),
            unrotated: Vec::new(),
            doomed: Vec::new(),
            destroyed: Vec::new(),
            rotations: 0,
        }
    }

    /// Does it beside the trouble.
    pub(super) fn begin(&mut self, act: Act, at: usize) -> Option<JoinHandle<Done>> {
        let caller = self.caller.with_deadline(wait::LONG);
        let journal = Arc::clone(&self.journal);
        Some(match act {
            Act::Make => {
                let token = format!("in phase {}", at + 1);
                tokio::spawn(async move {
                    let made = caller.try_create_key(&token, &token).await;
                    Done::Made(token, made.map(|key| key.key_id))
                })
            }
            Act::Rotate => {
                let key = {
                    let keys = self.keys.lock().unwrap();
                    keys[at % keys.len()].clone()
                };
                tokio::spawn(async move {
                    let rotated = rotate(&caller, &key).await;
                    Done::Rotated(key, rotated)
                })
            }
            Act::Switch => {
                let own = self.own.take()?;
                tokio::spawn(async move {
                    let switched = switch(&caller, &journal, &own).await;
                    Done::Kept(own, switched)
                })
            }
            Act::Spare => {
                let own = self.own.take()?;
                tokio::spawn(async move {
                    let spared = spare(&caller, &journal, &own).await;
                    Done::Kept(own, spared)
                })
            }
            Act::Destroy => {
                let own = self.own.take()?;
                tokio::spawn(async move {
                    let destroyed = destroy(&caller, &journal, &own).await;
                    Done::Destroyed(own, destroyed)
                })
            }
        })
    }

    /// The phase is over.
    pub(super) fn end(&mut self, done: Done) {
        match done {
            Done::Made(_, Ok(key)) => self.keys.lock().unwrap().push(key),
            Done::Made(token, Err(failure)) => {
                may_be_made_later("the making of a key", &failure);
                self.unmade.push(token);
            }
            Done::Rotated(_, Ok(())) => self.rotations += 1,
            Done::Rotated(key, Err(failure)) => {
                may_be_made_later("the rotation of a key", &failure);
                self.unrotated.push(key);
            }
            Done::Kept(own, kept) => {
                kept.unwrap_or_else(|failure| panic!("a key was not switched: {failure:?}"));
                self.own = Some(own);
            }
            Done::Destroyed(own, destroyed) => {
                destroyed.unwrap_or_else(|failure| panic!("material was not given up: {failure:?}"));
                self.doomed.push(own);
            }
        }
    }

    /// Every zone is sound: what was left is done, and a key is there for the next act.
    pub(super) async fn settle(&mut self) {
        for token in std::mem::take(&mut self.unmade) {
            let made = self.caller.try_create_key(&token, &token).await;
            let key =
                made.unwrap_or_else(|failure| panic!("a key is not made though every zone is sound: {failure:?}"));
            self.keys.lock().unwrap().push(key.key_id);
        }
        for key in std::mem::take(&mut self.unrotated) {
            let rotated = rotate(&self.caller, &key).await;
            rotated.unwrap_or_else(|failure| panic!("a key is not rotated though every zone is sound: {failure:?}"));
            self.rotations += 1;
        }
        for own in std::mem::take(&mut self.doomed) {
            wait::until_async("material is destroyed in every zone", Duration::from_secs(20), async || {
                let shown = self.caller.describe_key(&own.key).await.unwrap();
                assert!(shown.material_destroyed && !shown.destructions.is_empty(), "{shown:?}");
                shown.destructions.iter().all(|one| one.destruction_date.is_some()).then_some(())
            })
            .await;
            self.destroyed.push(own);
        }
        for own in &self.destroyed {
            refuses(&self.caller, &self.journal, own, "KMSInvalidStateException").await;
        }
        if self.own.is_none() {
            let key = self.caller.create_key("the owner's").await;
            let arn = self.caller.describe_key(&key).await.unwrap().arn;
            let ciphertext = self.caller.encrypt(&key, b"the owner's", &context(&[])).await.unwrap();
            self.own = Some(Own { key, arn, ciphertext });
        }
        if let Some(own) = &self.own {
            let opened = self.caller.decrypt(&own.ciphertext, &context(&[])).await;
            assert_eq!(opened.unwrap(), b"the owner's", "what was encrypted before the owner changed her mind");
        }
    }

    /// Keys that are Enabled and the owner's.
    pub(super) fn own(&self) -> Vec<String> {
        self.own.iter().map(|own| own.key.clone()).collect()
    }

    /// Keys without material.
    pub(super) fn destroyed(&self) -> Vec<String> {
        self.destroyed.iter().chain(&self.doomed).map(|own| own.key.clone()).collect()
    }
}

/// With a zone away there may be too few to make something; the same call is made again.
fn may_be_made_later(what: &str, failure: &Failure) {
    let too_few = failure.reason == "CloudHsmClusterInvalidConfigurationException";
    assert!(too_few || failure.retryable, "{what} failed for good: {failure:?}");
}

async fn rotate(caller: &Caller, key: &str) -> Result<(), Failure> {
    let request = RotateKeyOnDemandRequest { key_id: key.to_owned() };
    caller.keys.clone().rotate_key_on_demand(caller.request(request)).await?;
    Ok(())
}

/// A change that the disk lets through now or in a moment. HSMs have no say in it.
async fn insist<F>(mut change: impl FnMut() -> F + Send) -> Result<(), Failure>
where
    F: Future<Output = Result<(), Failure>> + Send,
{
    let clock = Clock::system();
    let deadline = clock.now() + wait::LONG;
    loop {
        match change().await {
            Err(failure) if failure.retryable && clock.now() < deadline => wait::pass(PAUSE).await,
            other => return other,
        }
    }
}

async fn switch(caller: &Caller, journal: &Journal, own: &Own) -> Result<(), Failure> {
    insist(|| caller.switch_key(&own.key, false)).await?;
    refuses(caller, journal, own, "DisabledException").await;
    insist(|| caller.switch_key(&own.key, true)).await
}

async fn spare(caller: &Caller, journal: &Journal, own: &Own) -> Result<(), Failure> {
    insist(|| async {
        let request = ScheduleKeyDeletionRequest { key_id: own.key.clone(), pending_window_in_days: Some(7) };
        match caller.keys.clone().schedule_key_deletion(caller.request(request)).await.map_err(Failure::from) {
            // An answer that was lost.
            Err(failure) if failure.message.ends_with("is pending deletion.") => Ok(()),
            other => other.map(drop),
        }
    })
    .await?;
    refuses(caller, journal, own, "KMSInvalidStateException").await;
    insist(|| async {
        let request = CancelKeyDeletionRequest { key_id: own.key.clone() };
        match caller.keys.clone().cancel_key_deletion(caller.request(request)).await.map_err(Failure::from) {
            Err(failure) if failure.message.ends_with("is not pending deletion.") => Ok(()),
            other => other.map(drop),
        }
    })
    .await?;
    refuses(caller, journal, own, "DisabledException").await;
    insist(|| caller.switch_key(&own.key, true)).await
}

async fn destroy(caller: &Caller, journal: &Journal, own: &Own) -> Result<(), Failure> {
    insist(|| async {
        match caller.switch_key(&own.key, false).await {
            Err(failure) if failure.message.ends_with("is pending deletion.") => Ok(()),
            other => other,
        }
    })
    .await?;
    insist(|| async {
        let request = DestroyKeyMaterialRequest { key_id: own.key.clone(), confirm_key_arn: own.arn.clone() };
        caller.keys.clone().destroy_key_material(caller.request(request)).await?;
        Ok(())
    })
    .await?;
    refuses(caller, journal, own, "KMSInvalidStateException").await;
    Ok(())
}

/// Nobody opens it: neither any HSM nor trouble with them has a say in that.
async fn refuses(caller: &Caller, journal: &Journal, own: &Own, exception: &str) {
    match caller.decrypt(&own.ciphertext, &context(&[])).await {
        Ok(_) => journal.wrong(format!("what its owner forbade was opened; it should have been {exception}")),
        // An operator may have disconnected the key store, or closed the connection.
        Err(failure) if failure.reason == exception || failure.retryable => {}
        Err(failure) if failure.message.contains("is unavailable") => {}
        Err(failure) => {
            journal.wrong(format!("what its owner forbade is {failure:?}; it should have been {exception}"))
        }
    }
}
