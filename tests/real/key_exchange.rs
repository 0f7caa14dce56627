//! How a client of ours and a daemon agree on keys, as somebody on the wire sees it.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};

use crate::harness::daemon::Daemon;
use crate::harness::tool;

/// X25519MLKEM768, as IANA numbers it.
const HYBRID: u16 = 0x11ec;

/// What a ServerHello says of the group, out of the first bytes that a server has sent.
fn group(sent: &[u8]) -> Option<u16> {
    let number = |at: usize| Some(u16::from_be_bytes([*sent.get(at)?, *sent.get(at + 1)?]));
    // A handshake record (type, version, length) with a ServerHello (type, length, version, random).
    if (*sent.first()?, *sent.get(5)?) != (22, 2) {
        return None;
    }
    let session_id = 5 + 4 + 2 + 32;
    // After the session's id: cipher suite, compression, the length of all extensions.
    let mut at = session_id + 1 + usize::from(*sent.get(session_id)?) + 2 + 1 + 2;
    loop {
        let (kind, length) = (number(at)?, usize::from(number(at + 2)?));
        if kind == 51 {
            return number(at + 4);
        }
        at += 4 + length;
    }
}

/// Passes one connection on, and keeps what the server has sent first.
fn overheard(listener: &TcpListener, to: &str) -> Vec<u8> {
    let (mut client, _) = listener.accept().unwrap();
    let mut server = TcpStream::connect(to).unwrap();
    let (mut from_client, mut to_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    let there = std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_client, &mut to_server);
        let _ = to_server.shutdown(std::net::Shutdown::Write);
    });
    let (mut first, mut bytes) = (Vec::new(), [0; 16 << 10]);
    while let Ok(count @ 1..) = server.read(&mut bytes) {
        if first.len() < bytes.len() {
            first.extend_from_slice(&bytes[..count]);
        }
        if client.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
    let _ = client.shutdown(std::net::Shutdown::Both);
    there.join().unwrap();
    first
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_recorded_today_is_not_opened_by_a_quantum_computer() {
    let daemon = Daemon::start().await;
    let mut environment = daemon.environment().unwrap();
    let address = environment["KEYSTORED_ADDRESS"].trim_start_matches("https://").to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let beside = format!("https://127.0.0.1:{}", listener.local_addr().unwrap().port());
    environment.insert("KEYSTORED_ADDRESS".to_owned(), beside);
    let first = std::thread::spawn(move || overheard(&listener, &address));
    tool::keystorectl(environment, &["key", "list"]).ok();
    let first = first.join().unwrap();
    assert_eq!(group(&first), Some(HYBRID), "{:02x?}", &first[..first.len().min(160)]);
}
