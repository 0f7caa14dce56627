//! From an accepted socket to TLS, as far as the client may keep us waiting.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use rustls::server::Acceptor;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::LazyConfigAcceptor;
use tokio_rustls::server::TlsStream;

use super::pending::Place;
use super::tls::Tls;

/// A client that has sent nothing by then is left; longer where many are coming ([`Place::within`]). Those who mean it
/// send their ClientHello as soon as they are connected.
const FIRST_BYTE: Duration = Duration::from_secs(2);
/// What a client may take for each half of a handshake that it has begun.
const HALF: Duration = Duration::from_secs(5);
/// How long a client may wait for its turn. Most will have given up by then.
const TURN: Duration = Duration::from_secs(30);

/// Why there is no TLS with a client.
#[derive(Debug)]
pub(super) enum Lost {
    /// It has sent nothing.
    Silent,
    /// It has gone without having sent anything.
    Gone,
    /// It has not sent all in time, or its turn did not come.
    Late,
    /// It does not speak TLS 1.3, showed no certificate, or one of no client CA; or it went in between. With what is
    /// left of the connection, where an alert may be on its way.
    Failed(io::Error, Option<TcpStream>),
}

/// What TLS keeps of what the socket does not take: two records. A connection that is not read holds so much for as long
/// as it stays.
const UNSENT_BYTES: usize = 32 << 10;

/// Shakes hands.
pub(super) async fn shake_hands(stream: TcpStream, tls: &Tls, place: &Place) -> Result<TlsStream<TcpStream>, Lost> {
    // Without anything of TLS: this much is done for anybody.
    match place.within(FIRST_BYTE, stream.peek(&mut [0])).await.ok_or(Lost::Silent)? {
        // Port scanners and the health checks of load balancers come and go.
        Ok(0) => return Err(Lost::Gone),
        Ok(_) => {}
        Err(error) => return Err(Lost::Failed(error, None)),
    }
    let hello = place.within(HALF, LazyConfigAcceptor::new(Acceptor::default(), stream)).await;
    let hello = hello.ok_or(Lost::Late)?.map_err(|error| Lost::Failed(error, None))?;

    place.waits();
    let turn = timeout(TURN, place.turn()).await.map_err(|_| Lost::Late)?;
    let material = tls.current();
    let mut rest = pin!(hello.into_stream(Arc::clone(&material.config)).into_fallible());
    // One poll carries the key exchange and the signature out, sends them, and finds that it is the client's turn.
    let first = futures_util::poll!(rest.as_mut());
    drop(turn);
    let stream = match first {
        Poll::Ready(ended) => ended,
        Poll::Pending => {
            place.owes();
            place.within(HALF, rest).await.ok_or(Lost::Late)?
        }
    };
    let mut stream = stream.map_err(|(error, stream)| Lost::Failed(error, Some(stream)))?;
    stream.get_mut().1.set_buffer_limit(Some(UNSENT_BYTES));
    Ok(stream)
}
