//! Strangers, and callers who want everything, do not take it from others: connections are shared.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use model::clock::Clock;
use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::harness::audit::records;
use crate::harness::call::Address;
use crate::harness::clients::guest_of;
use crate::harness::daemon::Site;
use crate::harness::load::Load;
use crate::harness::raw::client_config;
use crate::harness::strangers::Strangers;
use crate::harness::{Caller, Daemon, context, process, shared, wait};

/// Where strangers come from.
const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
/// Where somebody else comes from.
const SOMEBODY: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 3));

#[tokio::test(flavor = "multi_thread")]
async fn silent_sockets_of_one_address_are_nobody_else_s_trouble() {
    process::raise_file_limit();
    let daemon = Daemon::start().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("besieged").await;
    let load = Load::start(&caller, &key, 2);
    load.passes(20).await;
    let strangers = Strangers::start(grpc(&daemon), STRANGER, 600, b"");
    strangers.open(1_200).await;
    let connected = newcomers(&daemon, &key, 100).await;
    assert!(connected >= 95, "{connected} of 100 new connections came about");

    wait::until("the trouble shows", wait::LONG, || {
        let report = report(&daemon)?;
        let said = report["reasons"].as_array()?.iter().any(|reason| reason.as_str().unwrap().contains("127.0.0.2"));
        let measured = figure(&daemon, "keystored_degraded{reason=\"connections\"}")? >= 1.0;
        (report["status"] == "degraded" && report["ready"] == true && said && measured).then_some(())
    });
    wait::until("a hundred shake hands", wait::LONG, || {
        (figure(&daemon, "keystored_handshakes_in_progress")? > 100.0).then_some(())
    });
    load.passes(20).await;
    strangers.stop().await;
    let (calls, failures) = load.stop().await;
    assert!(failures.is_empty(), "{} of {calls} calls failed on an open connection: {:?}", failures.len(), failures[0]);
    wait::until("the trouble is over", wait::LONG, || {
        let over = figure(&daemon, "keystored_degraded{reason=\"connections\"}")? == 0.0;
        (report(&daemon)?["status"] == "ready" && over).then_some(())
    });
    wait::until("nobody is left", wait::LONG, || {
        (figure(&daemon, "keystored_handshakes_in_progress")? == 0.0).then_some(())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_strangers_send_others_get_in() {
    process::raise_file_limit();
    let daemon = Daemon::start().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("besieged").await;
    let hello = client_hello(&daemon.address());
    let half = &hello[..hello.len() / 2];
    for (what, send) in [("one byte", &[0x16_u8][..]), ("half a ClientHello", half), ("a ClientHello", &hello)] {
        let load = Load::start(&caller, &key, 2);
        let strangers = Strangers::start(grpc(&daemon), STRANGER, 600, send);
        strangers.open(1_200).await;
        let connected = newcomers(&daemon, &key, 40).await;
        assert!(connected >= 38, "after {what}, {connected} of 40 new connections came about");
        strangers.stop().await;
        let (calls, failures) = load.stop().await;
        assert!(failures.is_empty(), "{what}: {} of {calls} calls failed: {:?}", failures.len(), failures[0]);
    }
    // Nor do they keep the daemon from ending.
    let strangers = Strangers::start(grpc(&daemon), STRANGER, 600, b"");
    strangers.open(300).await;
    let (status, _) = daemon.terminate();
    assert_eq!(status.code(), Some(0));
    strangers.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_clients_at_once_all_get_in() {
    const CLIENTS: usize = 1_000;
    process::raise_file_limit();
    let daemon = Daemon::start().await;
    let key = daemon.caller().await.create_key("for a thousand").await;
    let address = daemon.address();
    let mut coming = JoinSet::new();
    for _ in 0..CLIENTS {
        let address = address.clone();
        coming.spawn(async move { address.connect_from(None, wait::LONG).await });
    }
    let (mut callers, mut refused) = (Vec::new(), Vec::new());
    while let Some(came) = coming.join_next().await {
        match came.unwrap() {
            Ok(caller) => callers.push(caller),
            Err(error) => refused.push(format!("{error:?}")),
        }
    }
    assert!(refused.is_empty(), "{} of {CLIENTS} were refused: {}", refused.len(), refused[0]);
    for caller in callers.iter().step_by(50) {
        caller.encrypt(&key, b"one of a thousand", &context(&[])).await.unwrap();
    }
    assert!(figure(&daemon, "keystored_connections").unwrap() >= CLIENTS as f64);
    assert_eq!(figure(&daemon, "keystored_connections_refused_total{reason=\"made_room\"}").unwrap_or(0.0), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_ops_port_answers_whoever_else_holds_connections() {
    process::raise_file_limit();
    let daemon = Daemon::start().await;
    let clock = Clock::system();
    // From elsewhere, and from the address from which this test asks; saying nothing, and too little.
    for (from, send) in [(STRANGER, &b""[..]), (Ipv4Addr::LOCALHOST, b""), (Ipv4Addr::LOCALHOST, b"GET /livez HTT")] {
        let strangers = Strangers::start(ops(&daemon), from, 200, send);
        strangers.open(300).await;
        let mut took = Vec::new();
        for path in ["/livez", "/readyz", "/metrics"].iter().cycle().take(30) {
            let begun = clock.now();
            let answer = daemon.ops(path);
            assert!(answer.is_some_and(|(code, _)| code == 200), "{path} beside {from}");
            took.push(clock.now() - begun);
        }
        // All of them come, and what they wait for is not the strangers' leave: those stay. Some may have waited for a processor.
        took.sort_unstable();
        assert!(took[took.len() / 2] < Duration::from_secs(3), "they took {took:?} beside {from}");
        wait::until("the reason is told", wait::LONG, || {
            let reasons = report(&daemon)?["reasons"].to_string();
            reasons.contains("the ops port has more connections than it takes").then_some(())
        });
        assert!(figure(&daemon, "keystored_connections_made_room_total{place=\"ops\"}").unwrap() > 0.0);
        strangers.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_is_a_few_lines_in_the_log() {
    const FLOOD: usize = 3_000;
    process::raise_file_limit();
    let daemon = Daemon::start().await;
    let before = daemon.log().lines().count();
    let strangers = Strangers::start(grpc(&daemon), STRANGER, 2_000, b"GET / HTTP/1.1\r\n\r\n");
    strangers.open(FLOOD).await;
    strangers.stop().await;
    let said = |of: &str, by: &str| {
        let log = daemon.log();
        let line = log.lines().find(|line| line.contains("lines were left out of this log") && line.contains(of));
        line.map(|line| assert!(line.contains(by), "{line}"))
    };
    wait::until("the rest of the flood is counted", wait::LONG, || said("handshake failed", "127.0.0.2"));
    // Nor has the audit log more than a few records of them.
    let recorded = records(&daemon.site().audit_dir()).len();
    assert!(recorded < 200, "{recorded} records");
    // Those who have a certificate can flood too: each call of theirs is in the audit log, and none in this one.
    let caller = daemon.caller().await;
    for _ in 0..FLOOD / 5 {
        caller.describe_key("nobody").await.unwrap_err();
    }
    assert!(records(&daemon.site().audit_dir()).len() >= recorded + FLOOD / 5);
    let lines = daemon.log().lines().count() - before;
    assert!(lines < 300, "{lines} lines:\n{}", daemon.log_tail());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_principal_does_not_keep_another_from_connecting() {
    const CONNECTIONS: usize = 12;
    let site = Site::prepare().await;
    site.configure(|config| {
        let limits = config.entry("limits").or_insert_with(|| toml::Table::new().into());
        let connections = i64::try_from(CONNECTIONS).unwrap();
        limits.as_table_mut().unwrap().insert("connections".to_owned(), connections.into());
    });
    let daemon = site.start().await;
    let key = daemon.caller().await.create_key("shared").await;
    let encrypt = async |caller: &Caller| caller.encrypt(&key, b"mine", &context(&[])).await;
    wait::until("the connections of the start have gone", wait::LONG, || {
        (figure(&daemon, "keystored_connections")? == 0.0).then_some(())
    });
    let mut greedy = Vec::new();
    for _ in 0..CONNECTIONS {
        let caller = daemon.caller().await;
        encrypt(&caller).await.unwrap();
        greedy.push(caller);
    }
    // Calls go on on all of them but the first.
    let loads: Vec<Load> = greedy[1..].iter().map(|caller| Load::start(caller, &key, 1)).collect();
    // Looked at while they come: it is told for some seconds.
    let told = wait::until_async("it is told", wait::LONG, async || {
        let reasons = report(&daemon)?["reasons"].to_string();
        reasons.contains("as many connections are open as limits.connections allows").then_some(())
    });
    let come = async {
        for _ in 0..3 {
            let guest = guest_of(&daemon).await;
            encrypt(&guest).await.unwrap();
            drop(guest);
            wait::until_async("the guest has gone", wait::LONG, async || {
                (figure(&daemon, "keystored_connections")? < CONNECTIONS as f64).then_some(())
            })
            .await;
        }
    };
    tokio::join!(told, come);
    assert_eq!(figure(&daemon, "keystored_connections_made_room_total{place=\"open\"}"), Some(1.0));
    // Who made room is the one that nobody used, and it connects again when somebody does.
    for load in loads {
        load.passes(5).await;
        let (calls, failures) = load.stop().await;
        assert!(failures.is_empty(), "{} of {calls} calls failed: {:?}", failures.len(), failures[0]);
    }
    encrypt(&greedy[0]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_does_not_begin_is_left() {
    let daemon = shared().await;
    // Without TLS, and with TLS but without HTTP/2.
    let mut silent = TcpStream::connect(grpc(&daemon)).await.unwrap();
    let tls = tokio_rustls::TlsConnector::from(client_config(&daemon.address()));
    let stream = TcpStream::connect(grpc(&daemon)).await.unwrap();
    let mut mute = tls.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap();
    let (mut of_silent, mut of_mute) = (Vec::new(), Vec::new());
    let both = async { tokio::join!(silent.read_to_end(&mut of_silent), mute.read_to_end(&mut of_mute)) };
    let (silent, _) = tokio::time::timeout(wait::LONG, both).await.expect("both are left");
    assert_eq!(silent.unwrap(), 0, "nothing is said to a stranger");
    for reason in ["silent", "no_http2"] {
        let name = format!("keystored_connections_refused_total{{reason=\"{reason}\"}}");
        wait::until("it is counted", wait::LONG, || (figure(&daemon, &name)? >= 1.0).then_some(()));
    }
}

/// Connects from another address and calls, one connection after the other; how many did.
async fn newcomers(daemon: &Daemon, key: &str, count: usize) -> usize {
    let (address, clock, mut took) = (daemon.address(), Clock::system(), Vec::new());
    for _ in 0..count {
        let begun = clock.now();
        if let Ok(caller) = address.connect_from(Some(SOMEBODY), wait::LONG).await
            && caller.encrypt(key, b"hello", &context(&[])).await.is_ok()
        {
            took.push(clock.now() - begun);
        }
    }
    // What they wait for is not the strangers' leave, which comes after 20 s. Some may have waited for a processor.
    took.sort_unstable();
    assert!(took.get(took.len() / 2).is_none_or(|median| *median < Duration::from_secs(10)), "they took {took:?}");
    took.len()
}

fn grpc(daemon: &Daemon) -> SocketAddr {
    daemon.environment().unwrap()["KEYSTORED_ADDRESS"].trim_start_matches("https://").parse().unwrap()
}

fn ops(daemon: &Daemon) -> SocketAddr {
    daemon.environment().unwrap()["KEYSTORED_OPS"].trim_start_matches("http://").trim_end_matches('/').parse().unwrap()
}

fn report(daemon: &Daemon) -> Option<serde_json::Value> {
    serde_json::from_str(&daemon.ops("/readyz")?.1).ok()
}

/// What /metrics says under this name.
pub(crate) fn figure(daemon: &Daemon, name: &str) -> Option<f64> {
    let (_, text) = daemon.ops("/metrics")?;
    text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

/// What a client sends first.
fn client_hello(address: &Address) -> Vec<u8> {
    let name = ServerName::try_from("localhost").unwrap();
    let mut client = ClientConnection::new(client_config(address), name).unwrap();
    let mut hello = Vec::new();
    client.write_tls(&mut hello).unwrap();
    hello
}
