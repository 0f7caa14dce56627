//! The audit log in the daemon: opened at the start and again whenever it can be, its heads signed by the zones' HSMs, its
//! public keys kept beside it, its records passed on.
//!
//! It never ends the daemon. While it is not open nothing is recorded, so nothing is given out, and /readyz says why.

mod cosign;
mod journal;
mod keys;
mod measure;
mod new_log;
mod open;
mod reader;
mod sinks;
mod source;

use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::runtime::Handle;
use tokio::sync::watch;

use self::cosign::Signers;
use self::journal::{Journal, Refusals};
use self::reader::Known;
use self::sinks::{Standings, Works};
use audit::log::Log;
use audit::note::{Head, VerifierKey};
use config::Config;
use model::clock::Clock;
use model::lock::MutexExt as _;
use pki::seal::SealKeys;
use service::Service;
use service::audit_recorder::AuditRecorder;
use service::recorder::Recorder;
use store::Store;
use store::audit::AuditHead;
use telemetry::watchdog::Heartbeat;

pub use self::new_log::new_audit_log;

/// Between two looks.
const LOOK: Duration = Duration::from_millis(500);
/// Between two tries to open a log that could not be opened.
const AGAIN: Duration = Duration::from_secs(2);
/// How often the newest head goes into the database.
const NOTE: Duration = Duration::from_secs(60);
/// What the end may take: the last head, with the signatures of HSMs.
const CLOSE: Duration = Duration::from_secs(10);
/// What noting that head in the database may take then: somebody else may have the database, or its disk not answer.
const NOTED: Duration = Duration::from_secs(5);
/// What all of [`Audit::close`] may take.
pub(super) const END: Duration = CLOSE.saturating_add(NOTED).saturating_add(sinks::END);

/// The daemon's audit log. Cheap to clone.
#[derive(Clone)]
pub(super) struct Audit(Arc<Inner>);

struct Inner {
    config: config::Audit,
    store: Store,
    seals: Arc<ArcSwap<SealKeys>>,
    clock: Clock,
    runtime: Handle,
    /// Absent while it is not open.
    opened: ArcSwapOption<Opened>,
    /// Why it is not, and whether it is to be opened at all.
    closed: Mutex<Closed>,
    /// There once it was built: its HSMs sign.
    service: OnceLock<Service>,
    signers: Arc<Signers>,
    refusals: Arc<Refusals>,
    standings: Standings,
    works: Works,
    /// When a disk that fills up was last told of.
    told: Mutex<Option<Instant>>,
    /// How many records the newest head is of, for those who follow: at least, while it is not open.
    signed: watch::Sender<u64>,
    /// Which log it is; absent until the database has told that.
    known: ArcSwapOption<Known>,
}

/// A log that is open.
struct Opened {
    log: Log,
    /// Which of the daemon's.
    number: u32,
    origin: String,
    verifier: VerifierKey,
    /// The head that the database knows, and since when.
    noted: Mutex<(Option<u64>, Option<Instant>)>,
    /// The file of public keys.
    keys: Mutex<keys::Kept>,
}

#[derive(Default)]
struct Closed {
    why: Option<String>,
    /// When it was last tried.
    tried: Option<Instant>,
    /// The daemon ends.
    ending: bool,
}

impl Audit {
    /// Tries to open it. Where that fails, [`Audit::tend`] goes on trying.
    pub(super) async fn begin(config: &Config, seals: &Arc<ArcSwap<SealKeys>>, store: &Store, clock: &Clock) -> Self {
        let audit = Self(Arc::new(Inner {
            config: config.audit.clone(),
            store: store.clone(),
            seals: Arc::clone(seals),
            clock: clock.clone(),
            runtime: Handle::current(),
            opened: ArcSwapOption::empty(),
            closed: Mutex::default(),
            service: OnceLock::new(),
            signers: Arc::new(Signers::default()),
            refusals: Arc::new(Refusals::default()),
            standings: Standings::default(),
            works: Works::default(),
            told: Mutex::default(),
            signed: watch::Sender::new(0),
            known: ArcSwapOption::empty(),
        }));
        audit.try_to_open().await;
        audit
    }

    /// What keeps records in it, and refuses them while it is not open.
    pub(super) fn recorder(&self, config: &Config) -> Arc<dyn Recorder> {
        Arc::new(AuditRecorder::new(Arc::new(Journal::new(self.clone())), config.scope.clone()))
    }

    /// From now on the HSMs of its clusters sign heads, and its callers read it.
    pub(super) fn signed_by(&self, service: &Service) {
        // Called once.
        let _ = self.0.service.set(service.clone());
        service.set_audit_reader(self.reader());
    }

    /// Tells those who follow of a head that is newer than what they know.
    fn is_signed(&self, size: u64) {
        self.0.signed.send_if_modified(|known| {
            let is_news = size > *known;
            *known = size.max(*known);
            is_news
        });
    }

    /// Looks after it for ever.
    pub(super) async fn tend(self, heartbeat: Heartbeat) {
        loop {
            heartbeat.turn().await;
            match self.opened() {
                Some(opened) if opened.log.has_failed() => {
                    tracing::error!("a fault of this program ended a thread of the audit log; it is opened anew");
                    heartbeat.idle(self.let_go(opened)).await;
                }
                Some(opened) => {
                    self.is_signed(opened.log.head().size);
                    heartbeat.idle(self.note_head(&opened)).await;
                    heartbeat.idle(self.keep_keys(&opened)).await;
                    self.tell_of_the_disk(&opened);
                }
                None => heartbeat.idle(self.try_to_open()).await,
            }
            heartbeat.idle(tokio::time::sleep(LOOK)).await;
        }
    }

    /// Signs a last head and notes it. Nothing is recorded any more; what is, is passed on as far as that takes no time.
    pub(super) async fn close(&self) {
        self.0.closed.lock_anyway().ending = true;
        if let Some(opened) = self.opened() {
            self.let_go(opened).await;
        }
        self.0.works.end().await;
    }

    /// Closes it. Who waits for it is refused, and it is free to be opened when the last of them has gone.
    async fn let_go(&self, opened: Arc<Opened>) {
        self.0.opened.store(None);
        let closing = Arc::clone(&opened);
        // On panic: the log is as after a crash, and the next start puts it in order.
        let closing = tokio::task::spawn_blocking(move || closing.log.close());
        if tokio::time::timeout(CLOSE, closing).await.is_err() {
            tracing::warn!("the audit log takes long to close; the next start puts in order what is left");
        }
        // An older head is good for less; and what comes behind this must not wait.
        if tokio::time::timeout(NOTED, self.write_head(&opened)).await.is_err() {
            tracing::warn!("the database takes long to note the last head of the audit log; it has an older one");
        }
    }

    fn opened(&self) -> Option<Arc<Opened>> {
        self.0.opened.load_full()
    }

    fn directory(&self) -> &Path {
        &self.0.config.dir
    }

    /// At once when there is a first one, and then now and then.
    async fn note_head(&self, opened: &Opened) {
        let (size, now) = (opened.log.head().size, self.0.clock.now());
        {
            let mut noted = opened.noted.lock_anyway();
            let (known, at) = *noted;
            // Until one is noted, a directory that is lost is not missed.
            let pause = if known.unwrap_or(0) == 0 { AGAIN } else { NOTE };
            let early = at.is_some_and(|at| now.saturating_duration_since(at) < pause);
            if size == 0 || known == Some(size) || early {
                return;
            }
            noted.1 = Some(now);
        }
        self.write_head(opened).await;
    }

    async fn write_head(&self, opened: &Opened) {
        let Head { size, root } = opened.log.head();
        if size == 0 {
            return;
        }
        match self.0.store.note_audit_head(opened.number, AuditHead { size, root }).await {
            Ok(()) => opened.noted.lock_anyway().0 = Some(size),
            // The database's disk says what is wrong with it; an older head is good for less.
            Err(error) => tracing::debug!(%error, "the newest head of the audit log could not be noted"),
        }
    }

    /// When something was, as a moment of the calendar.
    fn age(&self, at: SystemTime) -> Duration {
        self.0.clock.calendar().duration_since(at).unwrap_or_default()
    }
}
