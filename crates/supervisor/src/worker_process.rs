//! One worker process that was started, with its socket: what happens to it, one event after the other.

use std::fs::File;
use std::process::ExitStatus;
use std::sync::Weak;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::process::Child;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::link::{Heard, Link, sleep_until};
use super::state_machine::Policy;
use super::work_queue::WorkQueue;
use super::worker_id::WorkerId;
use super::{Settings, StartError, bounded, process, words};
use model::clock::Clock;
use protocol::Fault;
use protocol::{FrameError, Ready, Start, Token};

/// The process is gone, but something that the module left behind holds the socket, or its standard error: no longer
/// waited for than this.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// A worker process that was not waited for yet.
pub(super) struct WorkerProcess {
    child: Child,
    heard: Option<mpsc::Receiver<Heard>>,
    /// Ends when everybody has closed the worker's standard error; a worker that is not minded any more is listened to
    /// until then.
    words: Option<JoinHandle<()>>,
    exited: Option<(Exit, Instant)>,
    /// Of a file, in the place of one in the token.
    certificate: Option<Bytes>,
    clock: Clock,
}

type Exit = std::io::Result<ExitStatus>;

/// What happened to a worker process.
pub(super) enum News {
    /// It has found its token.
    Ready(Box<Ready>),
    /// It could not start, and is about to leave.
    Failed(Fault),
    /// It sent what is no message.
    Garbled(FrameError),
    /// It closed its socket.
    Closed,
    /// It has ended and was waited for, in the system's words. Comes after all else that it said.
    Exited(String),
}

impl Settings {
    /// The limits that each worker's life goes by.
    pub(super) fn policy(&self) -> Policy {
        Policy {
            restart: self.restart,
            // The worker gives up by itself at the first of these; past the second it hangs.
            find: self.start_timeout + self.kill.place,
            // A login may have begun just before the time was up, and has its own limit from there.
            enter: self.start_timeout + self.kill.login,
            leave: self.kill.place,
        }
    }
}

impl WorkerProcess {
    /// Makes the process and tells it to start. `certificate` is what its HSM's file holds, where it has one.
    pub(super) fn spawn(
        settings: &Settings,
        lock: &File,
        id: WorkerId,
        incarnation: u64,
        (token, certificate): (Option<Token>, Option<Bytes>),
        work: Weak<WorkQueue>,
        clock: &Clock,
    ) -> Result<(Self, Link), StartError> {
        let (child, socket, words) = process::spawn(settings, lock)?;
        let words = words::listen(words, settings.hsm.clone(), id, clock.clone());
        let start = Start {
            hsm: settings.hsm.clone(),
            role: id.role,
            index: id.index,
            incarnation,
            module: settings.module.clone(),
            token,
            capabilities: settings.capabilities.clone(),
            sessions: settings.sessions.max(1),
            hot_copies: settings.hot_copies,
            require_mlock: settings.require_mlock,
            sandbox: settings.sandbox.clone(),
            start_timeout_ms: u64::try_from(settings.start_timeout.as_millis()).unwrap_or(u64::MAX),
            login_limit_ms: u64::try_from(settings.kill.login.as_millis()).unwrap_or(u64::MAX),
        };
        let (link, heard) = Link::open(socket, &start, clock.clone(), work);
        let clock = clock.clone();
        Ok((Self { child, heard: Some(heard), words: Some(words), exited: None, certificate, clock }, link))
    }

    /// Its process id, for log lines.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Kills it. Its end comes as news.
    pub(super) fn kill(&mut self) {
        // Fails only for a process that has ended.
        let _ = self.child.start_kill();
    }

    /// The next thing that happens to it. Nothing is lost when the future is dropped. Not to be called after `Exited`.
    pub(super) async fn news(&mut self) -> News {
        loop {
            // What it said comes before its end, so that its own reason is known when it is gone.
            let last_words = self.exited.as_ref().map(|(_, at)| *at + LAST_WORDS);
            tokio::select! {
                biased;
                heard = next(&mut self.heard), if self.heard.is_some() => match heard {
                    Some(Heard::Ready(ready)) => {
                        let mut ready = bounded::ready(*ready);
                        ready.identity = self.certificate.take().or(ready.identity);
                        return News::Ready(Box::new(ready));
                    }
                    Some(Heard::Failed(fault)) => return News::Failed(bounded::fault(fault)),
                    Some(Heard::Garbled(error)) => return News::Garbled(error),
                    None => {
                        self.heard = None;
                        if self.exited.is_none() {
                            return News::Closed;
                        }
                    }
                },
                () = end(&mut self.words), if self.exited.is_some() && self.words.is_some() => self.words = None,
                exit = self.child.wait(), if self.exited.is_none() => {
                    self.exited = Some((exit, self.clock.now()));
                }
                () = sleep_until(last_words.unwrap_or_else(|| self.clock.now())), if last_words.is_some() => {
                    self.heard = None;
                    if let Some(words) = self.words.take() {
                        words.abort();
                    }
                }
            }
            if let (Some((exit, _)), None, None) = (&self.exited, &self.heard, &self.words) {
                return News::Exited(match exit {
                    Ok(status) => status.to_string(),
                    Err(error) => format!("its end could not be read: {error}"),
                });
            }
        }
    }
}

async fn next(heard: &mut Option<mpsc::Receiver<Heard>>) -> Option<Heard> {
    match heard {
        Some(heard) => heard.recv().await,
        None => None,
    }
}

async fn end(words: &mut Option<JoinHandle<()>>) {
    if let Some(words) = words {
        // An error says that it panicked, or that the runtime ends.
        let _ = words.await;
    }
}
