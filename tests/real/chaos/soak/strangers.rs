//! Who comes and goes beside the callers: new connections that make a call each, and sockets that say nothing.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::chaos::callers::DEADLINE;
use crate::chaos::checks::patience;
use crate::chaos::journal::Journal;
use crate::harness::call::Address;
use crate::harness::{Failure, context, wait};

/// Between two new connections.
const CHURN: Duration = Duration::from_millis(200);
/// Between two silent sockets, from an address of their own.
const SILENT: Duration = Duration::from_millis(20);
const SILENT_FROM: [u8; 4] = [127, 0, 0, 2];
/// Silent sockets at once; more wait.
const MOST_SILENT: usize = 256;

/// Those who come and go. Dropping it ends them.
pub(super) struct Strangers {
    _tasks: JoinSet<()>,
    /// Connections over which a call was made, and silent sockets that the daemon has ended.
    pub(super) churned: Arc<AtomicUsize>,
    pub(super) silent: Arc<AtomicUsize>,
}

impl Strangers {
    pub(super) fn start(address: &Address, key: &str, journal: &Arc<Journal>) -> Self {
        let mut tasks = JoinSet::new();
        let (churned, silent) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        tasks.spawn(churn(address.clone(), key.to_owned(), Arc::clone(journal), Arc::clone(&churned)));
        let at = address.url.trim_start_matches("https://").trim_end_matches('/').parse().unwrap();
        tasks.spawn(be_silent(at, Arc::clone(&silent)));
        Self { _tasks: tasks, churned, silent }
    }
}

async fn churn(address: Address, key: String, journal: Arc<Journal>, churned: Arc<AtomicUsize>) {
    loop {
        let began = journal.clock.now();
        match address.connect().await {
            Ok(caller) => {
                match caller.with_deadline(patience(DEADLINE)).encrypt(&key, b"new here", &context(&[])).await {
                    Ok(_) => journal.right(),
                    Err(failure) => journal.failed("a call over a new connection", began, &failure),
                }
            }
            Err(error) => journal.wrong(format!("no connection after {:?}: {error:?}", journal.clock.now() - began)),
        }
        churned.fetch_add(1, Ordering::Relaxed);
        wait::pass(CHURN).await;
    }
}

async fn be_silent(at: SocketAddr, ended: Arc<AtomicUsize>) {
    let mut open: JoinSet<Option<usize>> = JoinSet::new();
    loop {
        while open.len() >= MOST_SILENT {
            open.join_next().await;
        }
        let ended = Arc::clone(&ended);
        open.spawn(async move {
            let mut stream = connect(at).await.ok()?;
            // Until the daemon has enough of it.
            let read = stream.read(&mut [0; 64]).await.ok();
            ended.fetch_add(1, Ordering::Relaxed);
            read
        });
        while open.try_join_next().is_some() {}
        wait::pass(SILENT).await;
    }
}

async fn connect(at: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind(SocketAddr::from((SILENT_FROM, 0)))?;
    socket.connect(at).await
}

/// A call that nothing excuses.
pub(super) fn must<T>(what: &str, result: Result<T, Failure>) -> T {
    result.unwrap_or_else(|failure| panic!("{what}: {failure:?}"))
}
