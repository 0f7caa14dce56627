//! Callers that go on calling while something is done to the zones, and remember every error.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;

use super::stream_load::OneStream;
use super::{Caller, Failure, context, wait};

/// What a caller waits: enough for a hang to be noticed and the call to be repeated, also where other tests want the processors.
/// Who is not served by another zone meanwhile fails all the same. Two seconds are enough on a machine that does nothing else
/// (`make chaos`).
const DEADLINE: Duration = Duration::from_secs(15);

pub(crate) struct Load {
    tasks: JoinSet<Vec<Failure>>,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
}

impl Load {
    /// Starts `callers` loops of Encrypt and Decrypt under one key.
    pub(crate) fn start(caller: &Caller, key: &str, callers: usize) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut tasks = JoinSet::new();
        for number in 0..callers {
            let (caller, key) = (caller.with_deadline(DEADLINE), key.to_owned());
            let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
            tasks.spawn(async move {
                let mut failures = Vec::new();
                let context = context(&[("caller", &number.to_string())]);
                let plaintext = super::bytes(32, u8::try_from(number).unwrap());
                while !stop.load(Ordering::Relaxed) {
                    match round_trip(&caller, &key, &plaintext, &context).await {
                        Ok(opened) => assert_eq!(opened, plaintext),
                        Err(failure) => failures.push(failure),
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                }
                failures
            });
        }
        Self { tasks, stop, done }
    }

    /// The same beside it over so many streams.
    pub(crate) async fn with_streams(mut self, caller: &Caller, key: &str, streams: u8) -> Self {
        for number in 0..streams {
            let (mut stream, key) = (OneStream::open(caller).await, key.to_owned());
            let (stop, done) = (Arc::clone(&self.stop), Arc::clone(&self.done));
            self.tasks.spawn(async move {
                let mut failures = Vec::new();
                let context = context(&[("stream", &number.to_string())]);
                let plaintext = super::bytes(32, number);
                while !stop.load(Ordering::Relaxed) {
                    match stream.round_trip(&key, &plaintext, &context).await {
                        Ok(opened) => assert_eq!(opened, plaintext),
                        Err(failure) => failures.push(failure),
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                }
                failures
            });
        }
        self
    }

    /// Waits until this many more round trips have ended.
    pub(crate) async fn passes(&self, more: usize) {
        let aim = self.done.load(Ordering::Relaxed) + more;
        wait::until_async("calls go on", wait::LONG, async || (self.done.load(Ordering::Relaxed) >= aim).then_some(()))
            .await;
    }

    /// Ends the loops: how many round trips there were, and every failure.
    pub(crate) async fn stop(mut self) -> (usize, Vec<Failure>) {
        self.stop.store(true, Ordering::Relaxed);
        let mut failures = Vec::new();
        while let Some(ended) = self.tasks.join_next().await {
            failures.extend(ended.unwrap());
        }
        (self.done.load(Ordering::Relaxed), failures)
    }
}

async fn round_trip(
    caller: &Caller,
    key: &str,
    plaintext: &[u8],
    context: &std::collections::BTreeMap<String, String>,
) -> Result<Vec<u8>, Failure> {
    let ciphertext = caller.encrypt(key, plaintext, context).await?;
    caller.decrypt(&ciphertext, context).await
}
