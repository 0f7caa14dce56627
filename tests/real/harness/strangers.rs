//! Strangers: whoever can reach a port, has no certificate, and opens one connection after the other from one address.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::wait;

/// Connections that are kept open at once; those before them were left by the daemon long before, or will be now.
const KEPT: usize = 2_000;
/// Connections that one test opens at most.
const MOST: usize = 30_000;

pub(crate) struct Strangers {
    task: JoinHandle<()>,
    stop: Arc<AtomicBool>,
    opened: Arc<AtomicUsize>,
}

impl Strangers {
    /// Opens so many connections a second, sends these bytes on each, and keeps it open.
    pub(crate) fn start(to: SocketAddr, from: Ipv4Addr, a_second: usize, send: &[u8]) -> Self {
        let (stop, opened) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let send: Arc<[u8]> = send.into();
        let task = tokio::spawn({
            let (stop, opened) = (Arc::clone(&stop), Arc::clone(&opened));
            async move {
                let (mut opening, mut kept, mut begun) = (JoinSet::new(), VecDeque::new(), 0);
                let mut pace = wait::Pace::of(a_second);
                while !stop.load(Ordering::Relaxed) && begun < MOST {
                    for _ in 0..pace.due().await.min(KEPT - opening.len().min(KEPT)) {
                        opening.spawn(open(to, from, Arc::clone(&send)));
                        begun += 1;
                    }
                    while let Some(ended) = opening.try_join_next() {
                        if let Ok(Some(stream)) = ended {
                            opened.fetch_add(1, Ordering::Relaxed);
                            kept.push_back(stream);
                        }
                    }
                    kept.drain(..kept.len().saturating_sub(KEPT));
                }
            }
        });
        Self { task, stop, opened }
    }

    /// How many connections came about.
    pub(crate) fn opened(&self) -> usize {
        self.opened.load(Ordering::Relaxed)
    }

    /// Waits until so many more have come about.
    pub(crate) async fn open(&self, more: usize) {
        let aim = self.opened() + more;
        wait::until_async("strangers come", wait::LONG, async || (self.opened() >= aim).then_some(())).await;
    }

    /// Closes all of them.
    pub(crate) async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
    }
}

/// A connection; none where the daemon does not take it or what is sent.
async fn open(to: SocketAddr, from: Ipv4Addr, send: Arc<[u8]>) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().ok()?;
    socket.bind((from, 0).into()).ok()?;
    let mut stream = socket.connect(to).await.ok()?;
    stream.write_all(&send).await.ok()?;
    Some(stream)
}
