//! A listener with TLS: accepts, shakes hands, has HTTP served ([`Protocol`] says which and what answers), ends connections whose certificate is no longer good,
//! drains.
//!
//! Everything is bounded: handshakes in progress and their time, connections, streams and windows of each, header
//! lists, the time that a refused or draining connection may still take. And what is bounded is shared: by source
//! address before a handshake is over ([`pending`]), by principal after it ([`FairShare`]).

use std::net::{IpAddr, SocketAddr};
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use futures_util::future::BoxFuture;
use rustix::process::{Resource, getrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, timeout};
use tokio_rustls::server::TlsStream;

use super::handshake::{Lost, shake_hands};
use super::pending::{self, PendingConnections, Place, Taken};
use super::pressure::{Met, Pressure};
use super::protocol::{Caller, Protocol};
use super::source::Source;
use super::tls::Tls;
use super::wire::{Told, Watched, Wire};
use super::{client_auth, encryption};
use api::entry::budget::Budget;
use api::entry::fair_share::{self, FairShare, Joined};
use api::entry::ledger::Ledger;
use auth::peer::{Peer, Principal, Trust};
use model::clock::Clock;
use model::lock::MutexExt as _;
use telemetry::metrics::{Listener, Metrics, Places, Refused};
use telemetry::sampled::{self, Line};

/// A client that has not begun with HTTP so long after its handshake is left.
const GREETING: Duration = Duration::from_secs(20);
/// As whom all those count whose certificate is not good.
const NOT_GOOD: &str = "certificates that are not good";
/// Connections beyond `connections` that make room for others and have not gone yet.
pub(super) const MAKING_ROOM: usize = 64;
/// How long a connection whose certificate is not good, or no longer, stays open, so that its client is told why (each
/// call is refused with the reason) before it is cut off; and one that makes room, so that its calls can end.
const FAREWELL: Duration = Duration::from_secs(5);
/// After a connection could not be accepted: how many make room, and how long nothing is accepted.
const CLEARED: usize = 8;
const NOT_ACCEPTED: Duration = Duration::from_millis(20);
/// How often connections are looked at for answers that are not fetched.
const LOOK: Duration = Duration::from_secs(1);
/// The longest that a connection waits before it looks at its certificate's end again: calendars are set.
const LOOK_AGAIN: Duration = Duration::from_secs(600);

/// What all connections are told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Signal {
    /// Finish what is open and leave.
    pub(super) draining: bool,
    /// The newest reading of the certificate files.
    pub(super) generation: u64,
}

/// What the listener needs; cheap to clone for each connection.
pub(super) struct Accept<P> {
    /// Which one it is.
    pub(super) listener: Listener,
    pub(super) tls: Arc<Tls>,
    pub(super) protocol: P,
    pub(super) budget: Arc<Budget>,
    pub(super) connections: usize,
    pub(super) drain: Duration,
    pub(super) metrics: Arc<Metrics>,
    pub(super) clock: Clock,
    pub(super) pressure: Arc<Pressure>,
    /// As whom a principal has its shares.
    pub(super) counted_as: CountedAs,
    /// Puts a handshake that came to nothing on record.
    pub(super) strangers: Strangers,
}

/// As whom a principal has its shares.
pub(super) type CountedAs = Arc<dyn Fn(&Principal) -> Principal + Send + Sync>;

/// Who came from where, and why it was not let in.
pub(super) type Strangers = Arc<dyn Fn(IpAddr, String) -> BoxFuture<'static, ()> + Send + Sync>;

/// The open connections.
type Open = Mutex<FairShare<Wire>>;

/// A connection that was accepted, and its place until its handshake is over.
struct Arrived {
    stream: TcpStream,
    from: SocketAddr,
    place: Place,
    taken: Taken,
}

impl<P: Protocol> Accept<P> {
    /// Accepts until `signals` says that the daemon drains, then lets open connections finish, and returns when they
    /// have or their time is over.
    pub(super) async fn run(self, listener: TcpListener, signals: watch::Receiver<Signal>) {
        let this = Arc::new(self);
        let places = pending::places(this.connections, getrlimit(Resource::Nofile).current);
        let (clock, metrics, pressure) = (this.clock.clone(), Arc::clone(&this.metrics), Arc::clone(&this.pressure));
        let of = this.listener;
        let pending = PendingConnections::new(of, places, pending::turns(), clock, metrics, pressure);
        let fair_share = Arc::new(Mutex::new(FairShare::new(this.connections, MAKING_ROOM)));
        let mut open = JoinSet::new();
        let mut draining = pin!(draining(signals.clone()));
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        {
            let mut next = pin!(this.next(&listener, &pending));
            loop {
                tokio::select! {
                    arrived = next.as_mut() => {
                        // On panic: this connection ends; its client opens another.
                        open.spawn(Arc::clone(&this).connection(arrived, Arc::clone(&fair_share), signals.clone()));
                        next.set(this.next(&listener, &pending));
                    }
                    Some(_) = open.join_next() => {}
                    _ = look.tick() => this.sweep(&fair_share),
                    () = &mut draining => break,
                }
            }
        }
        drop(listener);
        let left = timeout(this.drain, async { while open.join_next().await.is_some() {} }).await;
        if left.is_err() {
            tracing::warn!(connections = open.len(), "calls did not finish in the time for draining; they are cut off");
            open.shutdown().await;
        }
    }

    /// Has all connections let go of what is not fetched, and tells how much is held.
    fn sweep(&self, fair_share: &Open) {
        self.metrics.held_bytes(self.budget.held());
        if self.budget.is_wanted()
            && let Some(heaviest) = self.budget.heaviest()
        {
            self.pressure.met(Met::Bytes, &heaviest.as_str());
        }
        // The lock is not held meanwhile: newcomers wait for it.
        let wires: Vec<(Principal, Arc<Wire>)> = lock(fair_share).all().collect();
        for (principal, wire) in wires {
            let swept = wire.sweep();
            self.metrics.not_fetched(swept.cut);
            if (swept.cut > 0 || swept.ends) && sampled::whole(Line::NotFetched, &principal.as_str()) {
                tracing::warn!(
                    principal = principal.as_str(),
                    calls = swept.cut,
                    connection = swept.ends,
                    "answers are not fetched; they are cut off"
                );
            }
        }
    }

    /// Accepts a connection and finds a place for it. Where there is none, those who come wait in the kernel's backlog.
    async fn next(&self, listener: &TcpListener, pending: &Arc<PendingConnections>) -> Arrived {
        loop {
            match listener.accept().await {
                Ok((stream, from)) => {
                    let (place, taken) = pending.enter(Source::of(from)).await;
                    return Arrived { stream, from, place, taken };
                }
                Err(error) => {
                    if sampled::whole(Line::NotAccepted, &error) {
                        tracing::error!(%error, "a connection cannot be accepted");
                    }
                    // Out of descriptors, most likely: strangers who keep us waiting have some.
                    let mut left = CLEARED;
                    while left > 0 && pending.clear_one() {
                        left -= 1;
                    }
                    // Asking again at once would only burn time.
                    tokio::time::sleep(NOT_ACCEPTED).await;
                }
            }
        }
    }

    async fn connection(self: Arc<Self>, arrived: Arrived, fair_share: Arc<Open>, signals: watch::Receiver<Signal>) {
        let Arrived { stream, from, place, taken } = arrived;
        // Answers are small and complete: waiting for more to send only adds to their latency.
        let _ = stream.set_nodelay(true);
        let shaken = tokio::select! {
            biased;
            () = taken.away() => return,
            // Nobody is kept waiting for a stranger, and whoever comes now is not served any more.
            () = draining(signals.clone()) => return,
            shaken = shake_hands(stream, &self.tls, &place) => shaken,
        };
        let stream = match shaken {
            Ok(stream) => stream,
            Err(lost) => {
                let (refused, why) = self.lost(from, &lost);
                if let Lost::Failed(_, Some(stream)) = lost
                    && client_auth::has_shown_itself(refused)
                {
                    client_auth::part(stream).await;
                }
                drop(place);
                // Who only looks whether somebody listens, as probes do, has asked for nothing.
                if !matches!(refused, Refused::Silent) {
                    (self.strangers)(from.ip(), why).await;
                }
                return;
            }
        };
        drop(place);
        let peer = match self.peer(&stream) {
            Ok(peer) => Arc::new(peer.from_address(from.ip()).over(encryption::of(&stream))),
            Err(error) => {
                self.metrics.refused(Refused::Certificate);
                self.pressure.met(Met::Stranger, &Source::of(from));
                if sampled::whole(Line::Certificate, &Source::of(from)) {
                    tracing::info!(%from, %error, "refused");
                }
                return;
            }
        };
        // Those whose certificate is not good are there to be told so, and share what one principal would have: they
        // must not push anybody out under a name that they carry and are not.
        let (principal, account) = if peer.shows_certificate() {
            let principal = peer.admit(self.clock.calendar()).cloned().unwrap_or_else(|_| Principal::new(NOT_GOOD));
            let counted_as = (self.counted_as)(&principal);
            (principal, self.budget.account(&counted_as))
        } else {
            // Nobody yet, and one of those who come from there.
            let source = Principal::new(&format!("source:{}", Source::of(from)));
            let account = self.budget.account_of_source(&source);
            (source, account)
        };
        let ledger = Ledger::new(account);
        let wire = Wire::new(self.clock.clone(), Arc::clone(&ledger));
        let Some(_member) = self.join(&fair_share, ledger.account().principal(), &wire) else { return };
        let _connected = self.metrics.connected(self.listener);
        self.serve(stream, from, principal, Caller { peer, wire, ledger }, signals).await;
    }

    /// Says why there will be no calls on a connection.
    fn lost(&self, from: SocketAddr, lost: &Lost) -> (Refused, String) {
        let source = Source::of(from);
        self.pressure.met(Met::Stranger, &source);
        let (refused, line, why) = match lost {
            Lost::Silent => (Refused::Silent, Line::Late, "the client sent nothing".to_owned()),
            Lost::Gone => (Refused::Silent, Line::Late, "the client came and went".to_owned()),
            Lost::Late => (Refused::Late, Line::Late, "it took too long".to_owned()),
            Lost::Failed(error, _) => {
                let (refused, why) = client_auth::judge(error, self.tls.terms());
                (refused, Line::HandshakeFailed, why)
            }
        };
        self.metrics.refused(refused);
        if sampled::whole(line, &source) {
            tracing::info!(%from, why, "handshake failed");
        }
        (refused, why)
    }

    /// Takes a place among the open connections, and has another one make room where there is none.
    fn join<'a>(&self, fair_share: &'a Open, principal: &Principal, wire: &Arc<Wire>) -> Option<Member<'a>> {
        let joined = lock(fair_share).join(principal, Arc::clone(wire), self.clock.now());
        let write = || sampled::whole(Line::NoPlace, &principal.as_str());
        match joined {
            Joined::In { id, leaves, ends } => {
                if let Some((of, wire)) = leaves {
                    wire.tell(Told::Leave);
                    self.metrics.made_room(Places::Open);
                    self.pressure.met(Met::Open, &of.as_str());
                    if write() {
                        tracing::warn!(
                            of = of.as_str(),
                            principal = principal.as_str(),
                            limit = self.connections,
                            "as many connections are open as may be (limits.connections, or what the limit on open files \
                             leaves); one makes room"
                        );
                    }
                }
                if let Some(wire) = ends {
                    wire.tell(Told::End);
                }
                Some(Member { fair_share, id })
            }
            Joined::Refused => {
                self.metrics.refused(Refused::Full);
                self.pressure.met(Met::Open, &principal.as_str());
                if write() {
                    tracing::warn!(
                        principal = principal.as_str(),
                        limit = self.connections,
                        "refused: as many connections are open as may be (limits.connections, or what the limit on open files \
                         leaves)"
                    );
                }
                None
            }
        }
    }

    fn peer(&self, stream: &TlsStream<TcpStream>) -> Result<Peer, pki::Error> {
        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
        if chain.is_empty() && !self.tls.terms().needs_certificates() {
            return Ok(Peer::without_certificate());
        }
        let trust: Arc<dyn Trust> = Arc::clone(&self.tls) as _;
        Peer::new(chain.iter().map(|certificate| certificate.to_vec()).collect(), trust)
    }

    /// A client has a good certificate and does not speak HTTP.
    fn mute(&self, from: SocketAddr, principal: &Principal) {
        self.metrics.refused(Refused::Mute);
        if sampled::whole(Line::Late, &principal.as_str()) {
            tracing::info!(%from, principal = principal.as_str(), "the client did not begin with HTTP");
        }
    }

    async fn serve(
        &self,
        stream: TlsStream<TcpStream>,
        from: SocketAddr,
        principal: Principal,
        caller: Caller,
        mut signals: watch::Receiver<Signal>,
    ) {
        let stream = Watched::new(stream, &caller.wire, &caller.ledger);
        let mut connection = self.protocol.serve(stream, caller.clone());
        let Caller { peer, wire, .. } = caller;
        let mut told = wire.listen();
        let (mut stage, mut good) = (Stage::Open, false);
        loop {
            let calendar = self.clock.calendar();
            if stage == Stage::Open && peer.shows_certificate() {
                match peer.admit(calendar) {
                    Ok(_) => good = true,
                    Err(refusal) => {
                        // One that never was good has passed the handshake only to be told why.
                        if good {
                            self.metrics.ended();
                        } else {
                            self.metrics.refused(Refused::Certificate);
                        }
                        if sampled::whole(Line::Certificate, &principal.as_str()) {
                            tracing::info!(%from, reason = %refusal, "connection will be ended");
                        }
                        stage = Stage::Refused;
                    }
                }
            }
            match *told.borrow_and_update() {
                Told::Stay => {}
                Told::Leave if stage == Stage::Open => {
                    stage = Stage::MakingRoom;
                    connection.as_mut().graceful_shutdown();
                }
                Told::Leave => {}
                Told::End => return,
            }
            if stage != Stage::Leaving && signals.borrow_and_update().draining {
                stage = Stage::Leaving;
                connection.as_mut().graceful_shutdown();
            }
            let until_expiry =
                peer.until().map_or(LOOK_AGAIN, |until| until.duration_since(calendar).unwrap_or_default());
            let until_expiry = until_expiry + Duration::from_millis(1);
            let greeting = wire.greeting_due(GREETING);
            let look_again = match stage {
                Stage::Open => until_expiry.min(greeting.unwrap_or(LOOK_AGAIN)),
                Stage::Refused | Stage::MakingRoom | Stage::Leaving => FAREWELL,
            };
            tokio::select! {
                biased;
                ended = connection.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%from, %error, "connection broke");
                    }
                    return;
                }
                signal = signals.changed() => if signal.is_err() {
                    return;
                },
                // What it is told is looked at above; whoever tells it is here.
                _ = told.changed() => {}
                // A draining connection has the time that the listener gives all of them.
                () = tokio::time::sleep(look_again), if stage != Stage::Leaving => match stage {
                    Stage::Open if wire.greeting_due(GREETING).is_none_or(|left| !left.is_zero()) => {}
                    Stage::Open => {
                        self.mute(from, &principal);
                        return;
                    }
                    Stage::Refused | Stage::MakingRoom | Stage::Leaving => return,
                },
            }
        }
    }
}

/// Resolves when the daemon drains.
async fn draining(mut signals: watch::Receiver<Signal>) {
    // Without a sender there is nothing to stay open for either.
    let _ = signals.wait_for(|signal| signal.draining).await;
}

/// A place among the open connections; dropping it gives it back.
struct Member<'a> {
    fair_share: &'a Open,
    id: fair_share::Id,
}

impl Drop for Member<'_> {
    fn drop(&mut self) {
        lock(self.fair_share).leave(&self.id);
    }
}

fn lock(fair_share: &Open) -> MutexGuard<'_, FairShare<Wire>> {
    fair_share.lock_anyway()
}

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Calls are answered on it.
    Open,
    /// Its certificate is not good, or no longer: each call is refused with the reason, for a moment.
    Refused,
    /// Another principal's connection has its place: what is open is finished, nothing new begins, for a moment.
    MakingRoom,
    /// The daemon drains: what is open is finished, nothing new begins.
    Leaving,
}
