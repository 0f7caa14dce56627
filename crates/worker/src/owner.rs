//! A session thread's tools: its session, and how an operation finds its key and survives what a session may suffer.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, RwLock};
use std::time::Instant;

use cryptoki::object::{ObjectClass, ObjectHandle};
use cryptoki::session::Session;
use cryptoki::slot::Slot;

use super::fault::Failure;
use super::keys::Keys;
use super::module::Module;
use super::operations::{KeyStream, LogPair, one_of_several};
use super::random::RandomPool;
use super::wire::Outbox;
use super::{objects, template};
use model::clock::Clock;
use model::id::{HsmId, KeyVersionId};
use model::lock::{MutexExt as _, RwLockExt as _};
use model::profile::Codes;
use protocol::{Class, Fault, FromWorker, Role};
use telemetry::sampled::{self, Line};

/// What all session threads of a process share about its token.
pub(super) struct Token {
    /// The HSM's name.
    pub(super) hsm: HsmId,
    /// The token's serial number.
    pub(super) serial: String,
    /// Counts the workers started for this HSM.
    pub(super) incarnation: u64,
    /// The module.
    pub(super) module: Arc<Module>,
    /// What this worker is for.
    pub(super) role: Role,
    /// Where the token is.
    pub(super) slot: Slot,
    /// Directories that hold it, where it is files.
    pub(super) directories: Vec<PathBuf>,
    /// Sessions that this process keeps: one for each of its threads, and the one that keeps the login.
    pub(super) sessions: u64,
    /// Keeps the login, and owns the hot copies: objects of a session die with it, and this one is never replaced.
    pub(super) pinned: Mutex<Session>,
    /// Handles of keys.
    pub(super) keys: Keys<ObjectHandle>,
    /// Held for reading while a hot copy is used, for writing while one is destroyed.
    pub(super) copies_in_use: RwLock<()>,
    /// Handle of the canary key, where the token has one.
    pub(super) canary: Mutex<Option<ObjectHandle>>,
    /// Handle of the session object that stands in for it, once it was needed.
    pub(super) stand_in: Mutex<Option<ObjectHandle>>,
    /// What the last probe saw, so that the next one sees something else.
    pub(super) last_stream: Mutex<Option<KeyStream>>,
    /// Handle of the cluster wrapping key, where the login or a search has found one.
    pub(super) wrapping: Mutex<Option<ObjectHandle>>,
    /// Handle of the identity key, likewise.
    pub(super) identity: Mutex<Option<ObjectHandle>>,
    /// Handle of the transport key's private half, where the login has found one.
    pub(super) transport: Mutex<Option<ObjectHandle>>,
    /// Handles of the log key's private and public half, where the login has found one of each.
    pub(super) log_halves: Mutex<Option<[ObjectHandle; 2]>>,
    /// The log key, once it was looked at.
    pub(super) log_key: Mutex<Option<LogPair>>,
    /// The time.
    pub(super) clock: Clock,
}

/// One session thread's belongings.
pub(super) struct Owner {
    /// Shared with the other threads.
    pub(super) token: Arc<Token>,
    /// This thread's own session.
    pub(super) session: Session,
    pool: RandomPool,
    /// Whether the token's objects were looked at again during the request in hand, since a batch of unknown keys costs
    /// one look, and how often something had been forgotten by then.
    caught_up: Option<u64>,
    outbox: Arc<Outbox>,
    /// The request in hand, until it was told that the token is searched for it.
    untold: Option<u64>,
    /// Keys of it of which hot copies are wanted.
    wanted: Vec<KeyVersionId>,
}

impl Owner {
    /// Opens this thread's session.
    pub(super) fn open(token: Arc<Token>, outbox: Arc<Outbox>) -> Result<Self, Failure> {
        let session = token.module.open(token.slot)?;
        let pool = RandomPool::new(token.module.capabilities().calls.random_bytes);
        Ok(Self { token, session, pool, caught_up: None, outbox, untold: None, wanted: Vec::new() })
    }

    /// To be called when the request with this id is taken.
    pub(super) fn begin(&mut self, id: u64) {
        (self.caught_up, self.untold) = (None, Some(id));
    }

    /// The token is searched for the request in hand. The parent is told: among ten thousand objects that takes longer
    /// than it would wait for an encryption.
    pub(super) fn searches(&mut self) {
        if let Some(id) = self.untold.take() {
            self.outbox.send(&FromWorker::Searching { id }, false);
        }
    }

    /// The token has taken a PIN. The parent is told at once: what else there is to a login may come to no end, and the PIN is
    /// not to blame for that.
    pub(super) fn took_pin(&self) {
        self.outbox.send(&FromWorker::PinTaken, false);
    }

    /// To be called when a request is done. The parent is told of which keys copies are wanted; nobody waits for them.
    pub(super) fn end(&mut self) {
        if !self.wanted.is_empty() {
            let keys = std::mem::take(&mut self.wanted);
            self.outbox.send(&FromWorker::Wants { keys }, true);
        }
    }

    /// What the HSM's codes mean.
    pub(super) fn codes(&self) -> &Codes {
        self.token.module.codes()
    }

    /// Fills `out` with random bytes.
    pub(super) fn random(&mut self, out: &mut [u8]) -> Result<(), Failure> {
        self.pool.fill(&self.session, out)
    }

    /// Does `act` and, when the session fails it, once more in a new session.
    pub(super) fn persist<T>(&mut self, act: impl Fn(&mut Self) -> Result<T, Failure>) -> Result<T, Failure> {
        match act(self) {
            Err(failure) if failure.class(self.codes()) == Class::Session => {
                self.replace_session()?;
                act(self).map_err(|failure| self.left(failure))
            }
            outcome => outcome,
        }
    }

    /// The failure after which no more is tried. A session that it has left half-way through an operation is replaced, so
    /// that the next request finds a sound one.
    pub(super) fn left(&mut self, failure: Failure) -> Failure {
        if failure.class(self.codes()) == Class::Session
            && let Err(why) = self.replace_session()
        {
            tracing::debug!(?why, "no session took the place of the one that failed; the next request tries again");
        }
        failure
    }

    /// Does `act` with a handle of `key`: the hot copy's or the token object's, found again where it went stale, in a
    /// new session where the old one failed.
    pub(super) fn with_key<T>(
        &mut self,
        key: KeyVersionId,
        now: Instant,
        act: impl Fn(&Module, &Session, ObjectHandle) -> Result<T, Failure>,
    ) -> Result<T, Fault> {
        self.try_with_key(key, now, act).map_err(|failure| failure.into_fault(self.codes()))
    }

    fn try_with_key<T>(
        &mut self,
        key: KeyVersionId,
        now: Instant,
        act: impl Fn(&Module, &Session, ObjectHandle) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let (mut found_again, mut replaced) = (false, false);
        match self.with_copy(key, now, &act) {
            None => {}
            Some(Ok(value)) => return Ok(value),
            Some(Err(failure)) => match failure.class(self.codes()) {
                Class::KeyAbsent => self.drop_copy(key),
                Class::Session => {
                    replaced = true;
                    self.replace_session()?;
                }
                _ => return Err(failure),
            },
        }
        let mut object = match self.token.keys.object(key) {
            Some(object) => object,
            None => self.find_again(key)?,
        };
        loop {
            let done = self.is_still(key, object, now).and_then(|()| act(&self.token.module, &self.session, object));
            let failure = match done {
                Ok(value) => {
                    if self.token.keys.prove(key, object, now) {
                        self.wanted.push(key);
                    }
                    return Ok(value);
                }
                Err(failure) => failure,
            };
            match failure.class(self.codes()) {
                Class::KeyAbsent if !found_again => {
                    found_again = true;
                    object = self.find_again(key)?;
                }
                Class::KeyAbsent => {
                    // Not known to be gone, so it must not be reported as removed; nor need it be the token's trouble.
                    let mut fault = failure.during(&format!("key {key} is there but not usable"), self.codes());
                    // Where several HSMs stand behind the slot, another session may have found it in one that has it; this
                    // session's may still get it.
                    if !self.token.module.capabilities().topology.replicates() {
                        fault.class = Class::KeyUnusable;
                    }
                    return Err(fault.into());
                }
                Class::Session if !replaced => {
                    replaced = true;
                    self.replace_session()?;
                }
                _ => return Err(self.left(failure)),
            }
        }
    }

    /// Does `act` with the hot copy, where there is one that may be used. No copy is destroyed meanwhile: SoftHSM would
    /// go on with half of it.
    fn with_copy<T>(
        &self,
        key: KeyVersionId,
        now: Instant,
        act: impl Fn(&Module, &Session, ObjectHandle) -> Result<T, Failure>,
    ) -> Option<Result<T, Failure>> {
        let _in_use = self.token.copies_in_use.read_anyway();
        self.token.keys.copy(key, now).map(|copy| act(&self.token.module, &self.session, copy))
    }

    /// Fails as if the object were gone where its handle stands for another one by now.
    pub(super) fn is_still(&self, key: KeyVersionId, object: ObjectHandle, now: Instant) -> Result<(), Failure> {
        let token = &self.token;
        if token.keys.is_named(key, object, now) {
            return Ok(());
        }
        if !objects::is_of_key(&token.module, &self.session, object, key)? {
            let detail = format!("what was the object of key {key} is gone, or is another one's");
            return Err(Failure::own(Class::KeyAbsent, "C_GetAttributeValue", detail));
        }
        token.keys.named(key, object, now);
        Ok(())
    }

    /// Looks for the object of `key` after its handle proved unknown or stale: the answer is a handle, or whether the
    /// key alone is gone or the token with it. One search, which also finds whatever else is new.
    fn find_again(&mut self, key: KeyVersionId) -> Result<ObjectHandle, Failure> {
        self.searches();
        // Of several objects all but one may have gone since.
        let stale = self.token.keys.object(key).is_some() || self.token.keys.has_several(key);
        let forgotten = self.token.keys.forgotten();
        self.forget(&[key]);
        match &mut self.caught_up {
            None => {
                // A token whose directory is gone finds nothing and says OK; only this call tells.
                self.token_info()?;
                // Without the objects of this key, whoever else found them meanwhile.
                match objects::look(&self.token.module, &self.session, &self.token.keys.objects_but(key)) {
                    Ok(found) => {
                        self.token.keys.searched(key, &found.keys, self.token.clock.now());
                        self.caught_up = Some(forgotten + 1);
                    }
                    // Another process may be at some other object at this moment, so that it cannot be read.
                    Err(_) => self.look_for(key)?,
                }
            }
            // It was not among all objects, and nobody else has forgotten anything since: it is not there.
            Some(then) if *then == forgotten && !stale => *then += 1,
            // It was there, and may have been replaced since; or another session may have forgotten it. The token itself
            // has the last word.
            Some(_) => self.look_for(key)?,
        }
        if let Some(handle) = self.token.keys.object(key) {
            return Ok(handle);
        }
        if self.token.keys.has_several(key) {
            if let Some(handle) = one_of_several(self, key)? {
                self.token.keys.placed(key, handle, self.token.clock.now());
                return Ok(handle);
            }
            let detail =
                format!("key {key} has several objects in this token, and which of them is meant is not known here");
            return Err(Failure::own(Class::KeyUnusable, "find key", detail));
        }
        // The token as a whole is in doubt when the canary has gone with the key.
        if let Some(canary) = self.canary()
            && !self.is_named(canary, ObjectClass::SECRET_KEY, template::CANARY)?
            && objects::named(&self.session, ObjectClass::SECRET_KEY, template::CANARY)?.is_none()
        {
            let detail = format!("key {key} is gone and the canary key with it");
            return Err(Failure::own(Class::Token, "find key", detail));
        }
        Err(Failure::own(Class::KeyAbsent, "find key", format!("the token holds no object of key {key}")))
    }

    /// Looks for this key alone.
    fn look_for(&self, key: KeyVersionId) -> Result<(), Failure> {
        let found: Vec<_> = objects::of_key(&self.session, key)?.into_iter().map(|handle| (key, handle)).collect();
        self.token.keys.searched(key, &found, self.token.clock.now());
        Ok(())
    }

    /// C_GetTokenInfo: the one call that notices the loss of a SoftHSM token.
    pub(super) fn token_info(&self) -> Result<(), Failure> {
        let asked = self.token.module.extra().token_info(self.token.slot).map_err(Failure::from);
        // Whatever the code is, a token that cannot be asked is out of service.
        asked.map(drop).map_err(|failure| {
            let mut fault = failure.into_fault(self.codes());
            fault.class = Class::Token;
            fault.into()
        })
    }

    /// Closes this thread's session, which may have stopped half-way through an operation, and opens another.
    fn replace_session(&mut self) -> Result<(), Failure> {
        if sampled::whole(Line::Session, &"C_CloseSession") {
            tracing::info!("a session failed and is replaced");
        }
        self.session = self.token.module.open(self.token.slot)?;
        Ok(())
    }

    /// Drops copies and handles of these keys.
    pub(super) fn forget(&self, keys: &[KeyVersionId]) {
        self.destroy_copies(self.token.keys.forget(keys));
    }

    fn drop_copy(&self, key: KeyVersionId) {
        self.destroy_copies(self.token.keys.take_copy(key));
    }

    /// Destroys hot copies that are in `keys` no more.
    pub(super) fn destroy_copies(&self, copies: impl IntoIterator<Item = ObjectHandle>) {
        for copy in copies {
            // Whoever uses it now has it from before it was taken out of `keys`.
            let _unused = self.token.copies_in_use.write_anyway();
            if let Err(error) = self.session.destroy_object(copy) {
                tracing::debug!(%error, "a hot copy was gone before it was destroyed");
            }
        }
    }

    /// The identity key, where the token has one.
    pub(super) fn identity(&self) -> Result<Option<ObjectHandle>, Failure> {
        let known = *lock(&self.token.identity);
        match known {
            Some(handle) if self.is_named(handle, ObjectClass::PRIVATE_KEY, template::IDENTITY)? => Ok(Some(handle)),
            _ => objects::named(&self.session, ObjectClass::PRIVATE_KEY, template::IDENTITY),
        }
    }

    /// Whether a known handle still stands for the object of the ceremony with this class and label.
    pub(super) fn is_named(
        &self,
        handle: ObjectHandle,
        class: ObjectClass,
        label: &'static str,
    ) -> Result<bool, Failure> {
        objects::is_named(&self.token.module, &self.session, handle, class, label)
    }

    /// The canary's handle, where the token has one.
    pub(super) fn canary(&self) -> Option<ObjectHandle> {
        *lock(&self.token.canary)
    }

    /// Does `act` with the cluster wrapping key.
    pub(super) fn with_wrapping_key<T>(
        &self,
        act: impl Fn(&Module, &Session, ObjectHandle) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        let known = *lock(&self.token.wrapping);
        if let Some(handle) = known
            && self.is_named(handle, ObjectClass::SECRET_KEY, template::WRAPPING)?
        {
            match act(&self.token.module, &self.session, handle) {
                Err(failure) if failure.class(self.codes()) == Class::KeyAbsent => {}
                outcome => return outcome,
            }
        }
        self.token_info()?;
        let found = objects::named(&self.session, ObjectClass::SECRET_KEY, template::WRAPPING)?;
        *lock(&self.token.wrapping) = found;
        let handle = found.ok_or_else(|| {
            let detail = "the token holds no cluster wrapping key; the key ceremony puts one there";
            Failure::own(Class::Refused, "find wrapping key", detail)
        })?;
        act(&self.token.module, &self.session, handle)
    }
}

/// A thread that panics ends the process, so no lock is ever found poisoned.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock_anyway()
}
