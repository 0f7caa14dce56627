//! The child's side of one HSM: a process that holds the PKCS#11 module, the login and the sessions, and does nothing
//! else.
//!
//! Its standard input is the socket to the parent, its standard output the HSM's lock file, its standard error a pipe
//! that never blocks, for the log and for whatever the module prints. It never returns to the caller of [`run`] with
//! session threads still inside the module.
//!
//! Threads: the main one starts up, waits for the session threads and leaves; each session thread owns one session
//! ([`owner`]), reads requests ([`queue`]), carries them out and writes the replies ([`wire`]), of which it leaves some
//! to the writer thread where more requests wait; the watch thread notices the end of the parent while all of them are
//! busy.

#![forbid(unsafe_code)]

mod classify;
mod confine;
mod connect;
mod fault;
mod keys;
mod module;
mod objects;
mod operations;
mod owner;
mod panics;
mod queue;
mod random;
mod start;
mod template;
mod wire;

use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::panic;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use pkcs11_extra::{exit_now, ignore_stop_signals};
use tracing::Span;

use self::fault::Failure;
use self::module::Module;
use self::owner::{Owner, Token, lock};
use self::panics::Sessions;
use self::queue::Queue;
use self::start::Started;
use self::wire::{Inbox, Outbox, Request};
use model::clock::Clock;
use protocol::{Class, Fault, FromWorker, Kind, Op, Reply, Start, ToWorker};
use telemetry::watchdog::Task;

/// The parent is gone, or said something that makes no sense.
const EXIT_BAD_PARENT: i32 = 64;
/// Start-up failed; the reason was sent to the parent.
const EXIT_NOT_STARTED: i32 = 69;
/// A thread panicked: a fault in this program.
const EXIT_PANIC: i32 = 70;
/// The parent is gone and a call into the module does not come back.
const EXIT_STUCK: i32 = 75;

/// Runs a worker until its parent is gone or closes the socket; never returns.
pub fn run(clock: &Clock) -> ! {
    telemetry::init_worker_log();
    confine::limit_files();
    let sessions = Sessions::default();
    leave_on_panic(sessions.clone());
    ignore_stop_signals();
    let (stream, writes) = match socket() {
        Ok(ends) => ends,
        Err(error) => {
            tracing::error!(%error, "standard input is not the parent's socket; this program is not for users");
            exit_now(EXIT_BAD_PARENT)
        }
    };
    let mut inbox = Inbox::new(stream);
    let mut start = match inbox.next() {
        Ok(Some(ToWorker::Start(start))) => start,
        Ok(None) => exit_now(0),
        Ok(Some(ToWorker::Request { .. })) => {
            tracing::error!("the parent's first message was a request");
            exit_now(EXIT_BAD_PARENT)
        }
        Err(error) => {
            tracing::error!(%error, "the parent's first message cannot be read");
            exit_now(EXIT_BAD_PARENT)
        }
    };
    let (hsm, role, index, incarnation) = (start.hsm.clone(), start.role, start.index, start.incarnation);
    let span = tracing::info_span!("worker", %hsm, ?role, index, incarnation);
    let _entered = span.enter();
    let outbox = Arc::new(Outbox::new(writes));
    match serve(&mut start, inbox, &outbox, &span, clock, &sessions) {
        Ok(()) => exit_now(0),
        Err(failure) => {
            let fault = failure.into_fault(&start.capabilities.codes);
            tracing::error!(%fault, class = ?fault.class, "the worker cannot start");
            outbox.send(&FromWorker::Failed(fault), false);
            outbox.close();
            exit_now(EXIT_NOT_STARTED)
        }
    }
}

/// Starts up, serves, and shuts the module down when the parent has closed the socket.
fn serve(
    start: &mut Start,
    inbox: Inbox,
    outbox: &Arc<Outbox>,
    span: &Span,
    clock: &Clock,
    known: &Sessions,
) -> Result<(), Failure> {
    let confinement = start::prepare(start)?;
    for sentence in &confinement.sentences() {
        tracing::warn!("{sentence}");
    }
    let queue = Queue::new(inbox)
        .map_err(|error| Failure::own(Class::Token, "epoll", format!("no place to wait for requests: {error}")))?;
    let queue = Arc::new(queue);
    known.are(&queue, Duration::from_millis(start.login_limit_ms));
    // On panic: the worker ends, and the daemon starts another (leave_on_panic). So it is with each thread.
    // From now on, so that a parent that goes away while start-up hangs is noticed.
    spawn("watch", span, {
        let queue = Arc::clone(&queue);
        let login = Duration::from_millis(start.login_limit_ms);
        move || watch(&queue, login)
    })?;
    let begun = start::begin(start, confinement.sentences(), clock);
    let (started, ready) = begun.map_err(|failure| confinement.explain(failure, &start.capabilities.codes))?;
    let sessions = if matches!(started, Started::Token(_)) { start.sessions.max(1) } else { 1 };
    let owners = (0..sessions).map(|_| Hands::new(&started, outbox)).collect::<Result<Vec<Hands>, Failure>>()?;
    match &started {
        Started::Token(_) => tracing::info!(
            serial = ready.serial,
            label = ready.label,
            module = ready.module,
            sessions,
            "found the token"
        ),
        Started::Bare(_) => tracing::info!(module = ready.module, "loaded the module; no token is named"),
    }
    outbox.send(&FromWorker::Ready(Box::new(ready)), false);
    // On panic: the worker ends.
    spawn("writer", span, {
        let outbox = Arc::clone(outbox);
        move || {
            telemetry::fault::hit(Task::Writer, "");
            outbox.write_for_others();
        }
    })?;
    let mut threads = Vec::new();
    for (number, hands) in owners.into_iter().enumerate() {
        let (queue, outbox) = (Arc::clone(&queue), Arc::clone(outbox));
        // On panic: the worker ends.
        threads.push(spawn(&format!("session-{number}"), span, move || take_requests(hands, &queue, &outbox))?);
    }
    for thread in threads {
        // A panic would have ended the process.
        drop(thread.join());
    }
    outbox.close();
    leave_token(&started);
    Ok(())
}

/// What a session thread works with.
enum Hands {
    Owner(Box<Owner>),
    Bare(Arc<Module>),
}

impl Hands {
    fn new(started: &Started, outbox: &Arc<Outbox>) -> Result<Self, Failure> {
        match started {
            Started::Token(token) => {
                Owner::open(Arc::clone(token), Arc::clone(outbox)).map(|owner| Self::Owner(Box::new(owner)))
            }
            Started::Bare(module) => Ok(Self::Bare(Arc::clone(module))),
        }
    }

    fn perform(&mut self, id: u64, op: Op) -> Reply {
        match (self, op) {
            (Self::Owner(owner), op) => operations::perform(owner, id, op),
            (Self::Bare(module), Op::Ceremony(op)) => operations::without_token(module, op),
            (Self::Bare(_), _) => {
                let detail = "a worker without a token can only look for tokens and initialise one";
                Reply::Failed(Fault::own(Class::Refused, "worker", detail))
            }
        }
    }
}

/// A session thread.
fn take_requests(mut hands: Hands, queue: &Queue, outbox: &Outbox) {
    let mut finished = None;
    while let Some(Request { id, op }) = queue.pop(finished) {
        finished = Some(op.kind());
        let reply = panics::in_hand(op.kind(), || {
            telemetry::fault::hit(Task::Session, "");
            hands.perform(id, op)
        });
        outbox.send(&FromWorker::Reply { id, reply }, queue.has_waiting());
    }
}

/// The watch thread. After the parent is gone it waits for the call in hand, within bounds.
fn watch(queue: &Queue, login: Duration) {
    telemetry::fault::hit(Task::Watch, "");
    queue.watch();
    // Without anything in hand it is the module's start that does not come back, or its end.
    let patience =
        queue.in_hand().into_iter().map(|kind| patience(kind, login)).max().unwrap_or(patience(Kind::Place, login));
    thread::sleep(patience);
    tracing::error!(?patience, "a call into the module did not come back; leaving without it");
    exit_now(EXIT_STUCK)
}

/// How long a call in hand is waited for once nobody wants its answer any more.
fn patience(kind: Kind, login: Duration) -> Duration {
    match kind {
        Kind::Crypto => Duration::from_secs(2),
        Kind::Place => Duration::from_secs(10),
        Kind::Generate => Duration::from_secs(30),
        // As long as the parent would have waited, who is gone: killing this one can destroy a token.
        Kind::Login => login,
    }
}

/// C_Logout and C_Finalize. No session thread is left, so nothing is in flight.
fn leave_token(started: &Started) {
    let module = match started {
        Started::Token(token) => {
            log_out(token);
            &token.module
        }
        Started::Bare(module) => module,
    };
    if let Err(failure) = module.finalise() {
        tracing::warn!(?failure, "the module did not finalise cleanly");
    }
    telemetry::sampled::tell_the_rest();
    tracing::info!("left the module");
}

fn log_out(token: &Token) {
    // A worker without a PIN never logged in; SoftHSM says OK, others that nobody is.
    if let Err(error) = lock(&token.pinned).logout() {
        tracing::debug!(%error, "no logout");
    }
}

fn socket() -> std::io::Result<(UnixStream, UnixStream)> {
    let stream = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    // Says so when standard input is no socket.
    stream.peer_addr()?;
    let writes = stream.try_clone()?;
    Ok((stream, writes))
}

fn spawn(name: &str, span: &Span, body: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Failure> {
    let span = span.clone();
    // On panic: the process ends, whichever thread it was.
    let spawned = thread::Builder::new().name(name.to_owned()).spawn(move || span.in_scope(body));
    spawned.map_err(|error| Failure::own(Class::Token, "thread", format!("cannot start a thread: {error}")))
}

/// A worker with one thread less would look alive and answer nothing. It ends, but not inside the login of another
/// thread. The message of a panic may quote what was being
/// worked on, so only its place is logged.
fn leave_on_panic(sessions: Sessions) {
    panic::set_hook(Box::new(move |info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "a fault in this program ended the worker");
        sessions.leave_no_login();
        exit_now(EXIT_PANIC)
    }));
}
