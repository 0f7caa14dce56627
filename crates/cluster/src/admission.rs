//! Admission to a key store's HSMs: the certificate in the token or in its file, a login, the proof of identity, and the
//! rotation of kmsuser's PIN where one is due. [`super::kmsuser::pin`] says which step comes next; here they are taken.

mod words;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use self::words::unable;
pub(super) use self::words::{ours, transient};
use super::examination;
use super::happened::{Happened, What};
use super::identity::{Expected, Identities};
use super::kmsuser::Kmsuser;
use super::kmsuser::pin::{Event, Login, LoginRefusal, Next, Policy, Step, answer};
use super::kmsuser::taken;
use super::kmsuser::unchanged::{self, Unchanged};
use super::kmsuser::unclear::Unclear;
use model::clock::Clock;
use model::id::ClusterId;
use model::key_store::ConnectionErrorCode as Code;
use model::pin::{Candidate, Pin};
use model::profile::{FirstLogin, PinScope};
use pki::identity::{Certified, TrustAnchor};
use protocol::{Class, Fault, Op, Reply, Role};
use supervisor::{AdmissionError, AdmissionSession, CallError, WorkerAdmission};
use telemetry::abort;

/// Lets the workers of one key store in.
#[derive(Clone)]
pub struct KeyStoreAdmission(Arc<Inner>);

struct Inner {
    cluster: ClusterId,
    anchor: TrustAnchor,
    kmsuser: Kmsuser,
    identities: Arc<Identities>,
    clock: Clock,
    unchanged: Unchanged,
    unclear: Unclear,
}

impl KeyStoreAdmission {
    /// For the HSMs of this cluster, certified under this anchor.
    #[must_use]
    pub fn new(
        cluster: ClusterId,
        anchor: TrustAnchor,
        kmsuser: Kmsuser,
        identities: Arc<Identities>,
        clock: Clock,
    ) -> Self {
        let (unchanged, unclear) = Default::default();
        Self(Arc::new(Inner { cluster, anchor, kmsuser, identities, clock, unchanged, unclear }))
    }
}

impl KeyStoreAdmission {
    /// Whether it belongs to the same connect.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Whether each HSM has a PIN of its own, since this was made.
    #[must_use]
    pub fn scope(&self) -> PinScope {
        self.0.kmsuser.scope
    }
}

impl WorkerAdmission for KeyStoreAdmission {
    fn enter(&self, session: AdmissionSession) -> BoxFuture<'static, Result<(), AdmissionError>> {
        let inner = Arc::clone(&self.0);
        Box::pin(async move { inner.admit(&session).await })
    }
}

impl Inner {
    async fn admit(&self, session: &AdmissionSession) -> Result<(), AdmissionError> {
        let hsm = &session.settings().hsm;
        // People are shown the control worker's way; the others take the same one.
        let step = |step: &str| {
            if session.role() == Role::Control {
                session.step(step);
            }
        };
        let abilities = &session.found().abilities;
        if let Some(why) = abilities.refusal(&session.settings().capabilities) {
            return Err(unable(hsm, &why));
        }
        step("checking its certificate");
        let (zone, file) = (&session.settings().zone, session.settings().certificate.as_deref());
        let expected = Expected { anchor: &self.anchor, cluster: &self.cluster, hsm, zone, file };
        let found = session.found();
        // A token without a user cannot have come through the ceremony; that it has none says more.
        let certified = match expected.certified(found, &self.clock) {
            Err(why) if found.user.initialised => return Err(self.not_itself(expected, &why)),
            certified => certified.ok(),
        };
        let _turn = self.kmsuser.turn(hsm).await;
        if let Some(refusal) = self.unclear.refusal(hsm, self.clock.now()) {
            return Err(refusal);
        }
        let lock = session.lock(|| step("waiting until no other process logs in to this token")).await;
        let lock =
            lock.map_err(|error| AdmissionError::transient(Code::NetworkErrors, format!("HSM {hsm}: {error}")))?;
        // Not before: others may have waited for the lock, and worked on the PIN, for long.
        let record = self.kmsuser.load(hsm).await.map_err(|why| ours(hsm, &why))?;
        let Some(record) = record else {
            return Err(AdmissionError::permanent(
                Code::InvalidCredentials,
                format!(
                    "HSM {hsm}: no PIN of kmsuser is on record for it; bring it in by keystorectl cluster add-hsm, or \
                     disconnect and give its PIN by UpdateKeyStore"
                ),
            ));
        };
        if self.kmsuser.is_last_try_of_all(&record)
            && let Some(refusal) = self.unclear.last_try(hsm, &record.current, self.clock.now())
        {
            return Err(refusal);
        }
        let mark = taken::mark(hsm, &found.serial, found.identity.as_deref().unwrap_or_default());
        let changes_first = session.settings().capabilities.login.first_login == FirstLogin::Change;
        let policy = Policy {
            tries: self.kmsuser.tries,
            rotates: session.role() == Role::Control,
            changes_first,
            proven_here: self.kmsuser.scope == PinScope::Hsm
                || self.unclear.has_taken(hsm, &record.current)
                || taken::has(&record, &mark),
        };
        let mut way = Way {
            inner: self,
            session,
            expected,
            mark,
            certified,
            login: Login::new(record.clone(), found.user, policy),
            on_record: record,
            refused: None,
            unchanged: None,
            sealed: None,
        };
        let outcome = way.go(&step).await;
        drop(lock);
        if way.login.is_logged_in() {
            self.unclear.taken(hsm, &way.login.pin.current);
        }
        if outcome.is_ok() && session.role() == Role::Control {
            self.note(expected, What::Admitted);
        }
        outcome
    }

    /// Takes note of what happened, for records.
    fn note(&self, Expected { hsm, zone, .. }: Expected<'_>, what: What) {
        let (unix_millis, cluster) = (self.clock.unix_millis(), self.cluster.clone());
        let happened = Happened { unix_millis, hsm: Some(hsm.clone()), zone: zone.clone(), cluster, what };
        self.identities.happened.note(happened);
    }

    fn not_itself(&self, expected: Expected<'_>, why: &str) -> AdmissionError {
        let hsm = expected.hsm;
        self.identities.refuse(hsm);
        self.note(expected, What::Refused(why.to_owned()));
        tracing::error!(%hsm, why, "the HSM did not prove to be the one that the ceremony certified; it is not used");
        AdmissionError::transient(
            Code::InsufficientCloudHsmHsms,
            format!("HSM {hsm} is refused: {why}; {}", expected.remedy()),
        )
    }
}

/// One worker's admission.
struct Way<'a> {
    inner: &'a Inner,
    session: &'a AdmissionSession,
    expected: Expected<'a>,
    /// By which this token is known again.
    mark: String,
    certified: Option<Certified>,
    login: Login,
    /// What was read or recorded last.
    on_record: Pin,
    /// What the token said last when it took no PIN.
    refused: Option<Fault>,
    /// How often in a row it has said that of a change, and how long it is left alone then.
    unchanged: Option<(u32, Duration)>,
    /// Why a PIN could not be opened.
    sealed: Option<String>,
}

impl Way<'_> {
    async fn go(&mut self, say: &impl Fn(&str)) -> Result<(), AdmissionError> {
        let mut next = self.login.begin();
        loop {
            let step = match next {
                Next::Do(step) => step,
                Next::Done => return Ok(()),
                Next::Stop(why) => return Err(self.refusal(why)),
            };
            if let Some(words) = step.words() {
                say(words);
            }
            let event = abort::around(step.name(), self.take(step)).await?;
            next = self.login.next(event, self.inner.clock.unix_millis());
        }
    }

    async fn take(&mut self, step: Step) -> Result<Event, AdmissionError> {
        let hsm = self.expected.hsm;
        match step {
            Step::RecordAttempt | Step::RecordOutcome | Step::RecordRotated | Step::RecordUnchanged => {
                let told = self.on_record.offered.is_some();
                self.record().await?;
                if step == Step::RecordRotated {
                    tracing::info!(%hsm, "kmsuser's PIN was rotated");
                    self.inner.note(self.expected, What::PinRotated);
                }
                // Only a login that worked takes it from the record.
                if told && self.on_record.offered.is_none() {
                    match self.login.told_rightly() {
                        true => tracing::info!(%hsm, "the token has the PIN that was told"),
                        false => {
                            tracing::warn!(%hsm, "the token has the PIN that was on record; the one that was told is not \
                            its, and is forgotten")
                        }
                    }
                }
                Ok(Event::Recorded)
            }
            Step::Login => self.log_in().await,
            Step::Prove => self.prove().await,
            Step::RecordPending => {
                let longest = self.session.found().user.longest_pin;
                let login = &self.session.settings().capabilities.login;
                let sealed = self.inner.kmsuser.make(hsm, longest, login).map_err(|why| ours(hsm, &why))?;
                self.login.next(Event::Made(sealed), self.inner.clock.unix_millis());
                self.record().await?;
                Ok(Event::Recorded)
            }
            Step::ChangePin => self.change_pin().await,
            Step::TryCanary => self.try_canary().await,
        }
    }

    async fn record(&mut self) -> Result<(), AdmissionError> {
        let hsm = self.expected.hsm;
        if self.inner.kmsuser.scope == PinScope::Cluster {
            let taken = self.login.is_logged_in().then_some(&*self.mark);
            taken::note(&self.on_record, &mut self.login.pin, taken);
        }
        let saved = self.inner.kmsuser.save(hsm, &self.on_record, &self.login.pin).await;
        self.on_record = saved.map_err(|why| ours(hsm, &why))?;
        self.login.pin = self.on_record.clone();
        Ok(())
    }

    async fn log_in(&mut self) -> Result<Event, AdmissionError> {
        let hsm = self.expected.hsm;
        let sealed = self.login.pin.sealed(self.login.candidate);
        let pin = self.inner.kmsuser.open(hsm, sealed.map(|sealed| &sealed[..]).unwrap_or_default());
        let pin = match pin {
            Ok(pin) => pin,
            Err(why) => {
                self.sealed = Some(why);
                return Ok(Event::Sealed);
            }
        };
        match self.session.call(Op::Login(pin)).await {
            Ok(Reply::LoggedIn(found)) => {
                if self.login.candidate == Candidate::Pending {
                    self.inner.unchanged.over(hsm);
                }
                self.session.logged_in(*found);
                Ok(Event::LoggedIn)
            }
            Ok(Reply::Failed(fault)) => {
                let event = answer::of_login(&fault, &self.session.settings().capabilities.codes);
                let says = match event {
                    Event::Expired => "the token wants kmsuser's PIN changed before anything else",
                    Event::LoginNotJudged => "the login failed for another reason than its PIN",
                    Event::Unclear => "the login failed, and the token's word for it says nothing of the PIN",
                    _ => "the token refused kmsuser's PIN",
                };
                tracing::warn!(%hsm, %fault, candidate = ?self.login.candidate, "{says}");
                self.refused = Some(fault);
                Ok(event)
            }
            // The PIN is the right one; that nobody is there any more, the next step finds.
            Err(CallError::WorkerLost) if self.session.has_taken_pin() => {
                tracing::warn!(%hsm, "the token took the PIN, and the worker died while it looked at the token's objects");
                Ok(Event::LoggedIn)
            }
            Err(CallError::WorkerLost) => Err(transient(hsm, "logging in", &"the worker died; that counts as failed")),
            Ok(_) | Err(_) => Ok(Event::LoginNotJudged),
        }
    }

    async fn prove(&mut self) -> Result<Event, AdmissionError> {
        let Expected { cluster, hsm, zone, .. } = self.expected;
        let Some(certified) = &self.certified else {
            return Err(self.inner.not_itself(self.expected, "its token holds no certificate"));
        };
        let mut nonce = [0; 32];
        aws_lc_rs::rand::fill(&mut nonce).map_err(|_| ours(hsm, "the operating system gives no random bytes"))?;
        let op = Op::Prove { cluster: cluster.clone(), zone: zone.clone(), nonce };
        let signature = match self.session.call(op).await {
            Ok(Reply::Signature(signature)) => signature,
            Ok(Reply::Failed(fault)) if fault.class == Class::Refused => {
                return Err(self.inner.not_itself(self.expected, &fault.to_string()));
            }
            Ok(Reply::Failed(fault)) => return Err(transient(hsm, "proving its identity", &fault)),
            Ok(_) => return Err(ours(hsm, "the worker answered something else than a signature")),
            Err(error) => return Err(transient(hsm, "proving its identity", &error)),
        };
        let statement = self.expected.statement(&self.session.found().serial, self.session.incarnation(), nonce);
        let verified = self.expected.verify(certified, &statement, &signature, &self.inner.identities);
        verified.map_err(|why| self.inner.not_itself(self.expected, &why))?;
        self.session.proven();
        Ok(Event::Proven)
    }

    async fn change_pin(&mut self) -> Result<Event, AdmissionError> {
        let hsm = self.expected.hsm;
        let open =
            |sealed: Option<&Bytes>| self.inner.kmsuser.open(hsm, sealed.map(|sealed| &sealed[..]).unwrap_or_default());
        let (old, new) = match (open(self.login.old()), open(self.login.pin.pending.as_ref())) {
            (Ok(old), Ok(new)) => (old, new),
            (Err(why), _) | (_, Err(why)) => {
                self.sealed = Some(why);
                return Ok(Event::Sealed);
            }
        };
        let transient = |why: &dyn std::fmt::Display| Err(transient(hsm, "rotating the PIN", why));
        match self.session.call(Op::ChangePin { old, new }).await {
            Ok(Reply::Done) => {
                self.inner.unchanged.over(hsm);
                Ok(Event::Changed)
            }
            Ok(Reply::Failed(fault)) => {
                let event = answer::of_change(&fault, &self.session.settings().capabilities.codes);
                // Perhaps it was changed all the same: both PINs stay on record, and the next login finds out.
                let unclear = matches!(event, Event::LoginNotJudged | Event::Unclear);
                self.unchanged = if unclear { self.inner.unchanged.again(hsm, &fault) } else { None };
                if !unclear {
                    self.inner.unchanged.over(hsm);
                }
                match self.unchanged {
                    Some((times, pause)) if self.login.is_logged_in() => {
                        Err(unchanged::refusal(hsm, &fault, times, pause))
                    }
                    None if unclear && self.login.is_logged_in() => transient(&fault),
                    _ => {
                        tracing::warn!(%hsm, %fault, "the token refused to change kmsuser's PIN");
                        self.refused = Some(fault);
                        Ok(event)
                    }
                }
            }
            Ok(_) => Err(ours(hsm, "the worker answered something else than that the PIN was changed")),
            Err(error) => transient(&error),
        }
    }

    async fn try_canary(&mut self) -> Result<Event, AdmissionError> {
        // The first worker of an HSM examines its token, and the control worker each time, whose token may have become
        // another one in the meantime. The others rely on that.
        if self.session.role() == Role::Control || !self.session.is_examined() {
            examination::run(self.session, self.expected.hsm).await?;
        }
        let hsm = self.expected.hsm;
        match self.session.call(Op::SelfTest).await {
            Ok(Reply::Done) => Ok(Event::Worked),
            Ok(Reply::Failed(fault)) => Err(examination::not_judged(hsm, "using its canary key", &fault)),
            Ok(_) => Err(ours(hsm, "the worker answered something else to a self-test")),
            Err(error) => Err(transient(hsm, "using its canary key", &error)),
        }
    }

    fn refusal(&self, why: LoginRefusal) -> AdmissionError {
        let hsm = self.expected.hsm;
        let said = self.refused.as_ref().map(|fault| format!(" ({fault})")).unwrap_or_default();
        let officer = "disconnect, have the security officer set kmsuser's PIN in this HSM, give it by UpdateKeyStore with \
                       pin_was_reset (keystorectl key-store update --pin-was-reset), connect";
        let permanent =
            |code, what: &str| AdmissionError::permanent(code, format!("HSM {hsm}: {what}{said}; {officer}"));
        match why {
            LoginRefusal::NoUser => permanent(Code::UserNotFound, "its token has no user, so there is no kmsuser"),
            LoginRefusal::Locked => {
                permanent(Code::UserLockedOut, "its token has locked kmsuser after too many wrong PINs")
            }
            LoginRefusal::LastTry => {
                permanent(Code::UserLockedOut, "one more wrong PIN would lock kmsuser, and that try is never spent")
            }
            LoginRefusal::Refused => AdmissionError::permanent(
                Code::InvalidCredentials,
                format!(
                    "HSM {hsm}: its token refuses every PIN of kmsuser that is on record, and none of them is tried \
                     again{said}; disconnect, give the PIN that it has by UpdateKeyStore, or have the security officer set \
                     one and give that with pin_was_reset (keystorectl key-store update --pin-was-reset), connect"
                ),
            ),
            LoginRefusal::Spent => permanent(
                Code::InvalidCredentials,
                "too many logins in a row were refused, broken off, or failed by a code that says nothing of the PIN, so that \
                 none is tried any more",
            ),
            LoginRefusal::Sealed => ours(hsm, self.sealed.as_deref().unwrap_or("kmsuser's PIN cannot be opened")),
            LoginRefusal::NotJudged => match (&self.refused, self.unchanged) {
                (Some(fault), _) if self.login.is_unclear() => match self.inner.kmsuser.tries_left(&self.login.pin) {
                    0 => self.refusal(LoginRefusal::Spent),
                    left => self.inner.unclear.counts(hsm, &fault.to_string(), left, self.inner.clock.now()),
                },
                (Some(fault), Some((times, pause))) => unchanged::refusal(hsm, fault, times, pause),
                // The worker did not try: what the token says of its user has changed since it was found.
                (Some(fault), None) if matches!(fault.class, Class::Login | Class::Locked) => {
                    permanent(Code::UserLockedOut, "kmsuser is locked, or nearly")
                }
                (Some(fault), None) => transient(hsm, "logging in", fault),
                (None, _) => transient(hsm, "logging in", &"no worker was there to do it"),
            },
            LoginRefusal::NotYetChanged => {
                transient(hsm, "logging in", &"the control worker changes kmsuser's PIN first")
            }
            LoginRefusal::Expired => AdmissionError::permanent(
                Code::InvalidCredentials,
                format!(
                    "HSM {hsm}: its token wants kmsuser's PIN changed before anything else{said}, and it was not: change it by \
                     the vendor's tool and give the new one by UpdateKeyStore, or have it changed by \
                     capabilities.login.first_login = \"change\" with what the token takes for a PIN (login.pin_min, pin_max, \
                     pin_alphabet), and unlock the user and say pin_was_reset where that was tried with another setting before; \
                     disconnect, connect"
                ),
            ),
            LoginRefusal::Unchangeable => AdmissionError::permanent(
                Code::InternalError,
                format!(
                    "HSM {hsm}: its token does not let kmsuser change its PIN{said}; where that is the vendor's way, set \
                     rotation = \"none\" for the cluster; then disconnect and connect"
                ),
            ),
        }
    }
}
