//! The listener is not HTTP/2's: with another protocol behind it, the same TLS, peers and counts serve HTTP/1.1.

use std::sync::Arc;

use keystored::server::{Version, serve_routes};
use model::clock::Clock;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tonic::service::Routes;

use crate::harness::raw::client_config;
use crate::harness::shared;

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_can_speak_http_1_1() {
    let daemon = shared().await;
    let mut files = config::load(daemon.site().config_file()).unwrap().grpc;
    files.listen.set_port(0);
    let routes: Routes = axum::Router::new().route("/hello", axum::routing::get(async || "hello there")).into();
    let (stop, stopped) = oneshot::channel::<()>();
    let (tell, told) = oneshot::channel();
    let serving = tokio::spawn(async move {
        let ended = async { drop(stopped.await) };
        let listening = |address| tell.send(address).unwrap();
        serve_routes(files, (Version::Http1, routes), Clock::system(), ended, listening).await
    });
    let mut client = (*client_config(&daemon.address())).clone();
    client.alpn_protocols = vec![b"http/1.1".to_vec()];
    let stream = TcpStream::connect(told.await.unwrap()).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
    let mut stream = connector.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap();
    // Twice on one connection, the second one its last.
    for end in ["keep-alive", "close"] {
        let request = format!("GET /hello HTTP/1.1\r\nhost: localhost\r\nconnection: {end}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        if end == "keep-alive" {
            let mut answer = Vec::new();
            while !answer.windows(11).any(|part| part == b"hello there") {
                answer.push(stream.read_u8().await.unwrap());
            }
            assert!(answer.starts_with(b"HTTP/1.1 200 OK"), "{}", String::from_utf8_lossy(&answer));
        }
    }
    let mut rest = Vec::new();
    // The end of a connection whose last answer is read need not be an orderly one.
    let _ = stream.read_to_end(&mut rest).await;
    assert!(String::from_utf8_lossy(&rest).contains("hello there"), "{}", String::from_utf8_lossy(&rest));
    stop.send(()).unwrap();
    serving.await.unwrap().unwrap();
}
