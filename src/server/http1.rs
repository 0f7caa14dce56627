//! HTTP/1.1 as listeners speak it: every bound of it.

use std::pin::Pin;
use std::time::Duration;

use hyper::server::conn::http1::{self, Builder};
use hyper::service::{HttpService, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};

use super::protocol::{Caller, Connection, Protocol, Routes, Stream};

/// A client that has not sent its request's headers by then, or the next one's, is left; others open another connection
/// in no time.
const HEADERS: Duration = Duration::from_secs(30);
/// Headers, or what is read of a body at once: HTTP/1.1's library needs no more, and each connection holds as much.
const BUFFER_BYTES: usize = 16 << 10;

/// Requests over HTTP/1.1. A connection has one at a time, so that a call that is cut off ends its connection.
pub(super) struct Http1<R> {
    pub(super) routes: R,
}

impl<R: Routes> Protocol for Http1<R> {
    fn serve(&self, stream: Stream, caller: Caller) -> Pin<Box<dyn Connection>> {
        let routes = self.routes.clone();
        let service = service_fn(move |request| {
            let answer = caller.ask(&routes, request);
            // There is no task that it would need.
            drop(caller.ledger.begun());
            answer
        });
        Box::pin(settings(HEADERS).serve_connection(TokioIo::new(stream), service))
    }
}

impl<S, B> Connection for http1::Connection<TokioIo<Stream>, S>
where
    S: HttpService<hyper::body::Incoming, ResBody = B, Future: Send> + Send,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
    B: http_body::Body<Error: Into<Box<dyn std::error::Error + Send + Sync>>, Data: Send> + Send + 'static,
{
    fn graceful_shutdown(self: Pin<&mut Self>) {
        http1::Connection::graceful_shutdown(self);
    }
}

/// For a connection whose client has so long to send headers.
pub(super) fn settings(headers: Duration) -> Builder {
    let mut builder = Builder::new();
    // Names of headers are the same in any case to whoever reads HTTP well. MongoDB's drivers know a `Content-Length` that
    // is written as AWS writes it, and no other.
    builder.title_case_headers(true);
    builder.timer(TokioTimer::new()).header_read_timeout(headers).max_buf_size(BUFFER_BYTES);
    builder
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use hyper::body::Incoming;
    use hyper::{Request, Response};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[tokio::test]
    async fn headers_are_written_as_aws_writes_them() {
        let (mut client, server) = tokio::io::duplex(4096);
        client.write_all(b"GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
        let service = service_fn(|_: Request<Incoming>| async {
            Ok::<_, Infallible>(Response::builder().header("content-type", "text/plain").body("ok".to_owned()).unwrap())
        });
        settings(HEADERS).serve_connection(TokioIo::new(server), service).await.unwrap();
        let mut answer = String::new();
        client.read_to_string(&mut answer).await.unwrap();
        for header in ["\r\nContent-Length: 2\r\n", "\r\nContent-Type: text/plain\r\n"] {
            assert!(answer.contains(header), "{answer}");
        }
    }
}
