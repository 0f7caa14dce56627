//! Records go to a file and to a receiver of syslog as well, and nobody waits for either.

use std::collections::BTreeSet;
use std::fs;
use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use serde_json::Value;

use super::wait_until_sound;
use crate::harness::audit::{Witnesses, records, request_ids};
use crate::harness::daemon::Site;
use crate::harness::port::Port;
use crate::harness::{Daemon, wait};

/// Reads frames of one connection until it ends: the records in them.
fn receive(mut stream: TcpStream, received: &Mutex<Vec<Value>>) {
    loop {
        let mut length = String::new();
        loop {
            let mut byte = [0];
            match stream.read(&mut byte) {
                Ok(1) if byte[0] != b' ' => length.push(char::from(byte[0])),
                Ok(1) => break,
                _ => return,
            }
        }
        let mut message = vec![0; length.parse().unwrap()];
        if stream.read_exact(&mut message).is_err() {
            return;
        }
        let text = String::from_utf8(message).unwrap();
        let (header, record) = text.split_once("] ").unwrap();
        assert!(header.starts_with("<110>1 ") || header.starts_with("<109>1 "), "{header}");
        received.lock().unwrap().push(serde_json::from_str(record).unwrap());
    }
}

fn ids(records: &[Value]) -> BTreeSet<String> {
    records.iter().filter_map(|record| Some(record["eventID"].as_str()?.to_owned())).collect()
}

fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn receivers_that_come_and_go_get_everything_and_hold_nobody() {
    let site = Site::prepare().await;
    // Held to the end: the receiver goes away and comes back.
    let port = Port::hold();
    let address = port.address();
    let listener = TcpListener::bind(address).unwrap();
    site.audit(|audit| {
        let section = |name: &str, value: String| toml::Table::from_iter([(name.to_owned(), value.into())]);
        audit.insert("json".to_owned(), section("path", "audit.jsonl".to_owned()).into());
        audit.insert("syslog".to_owned(), section("address", format!("tcp://{address}")).into());
    });
    // One who takes a connection, and reads nothing from it.
    let daemon = site.start().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("passed on").await;
    let silent = listener.accept().unwrap().0;
    let witnesses = Witnesses::start(&caller, &key, "sinks", 2);
    witnesses.answered(200).await;
    // It goes away, and calls go on; that it is away is told.
    drop((silent, listener));
    witnesses.answered(200).await;
    let degraded = |daemon: &Daemon| {
        let (code, report) = super::readiness(daemon);
        assert_eq!(code, 200, "{report}");
        report["reasons"].to_string().contains("wait to be passed on (syslog)").then_some(())
    };
    wait::until("it is told", wait::LONG, || degraded(&daemon));
    let (_, metrics) = daemon.ops("/metrics").unwrap();
    assert!(metrics.contains("keystored_audit_sink_failing{sink=\"syslog\"} 1"), "{metrics}");
    let (answered, failures) = witnesses.stop().await;
    assert!(failures.is_empty(), "{failures:?}");

    // logrotate.
    let (file, aside) = (daemon.site().path().join("audit.jsonl"), daemon.site().path().join("audit.jsonl.1"));
    fs::rename(&file, &aside).unwrap();
    // The daemon crashes, and the next one passes on what the one before could not.
    let daemon = daemon.crash().launch();
    daemon.wait_until_ready();
    let listener = TcpListener::bind(address).unwrap();
    let received = Arc::new(Mutex::new(Vec::new()));
    let receiving = Arc::clone(&received);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            receive(stream.unwrap(), &receiving);
        }
    });
    let caller = daemon.caller().await;
    daemon.wait_until_healthy_for(&caller).await;
    caller.create_key("after the crash").await;
    let directory = daemon.site().audit_dir();
    assert_eq!(answered.difference(&request_ids(&directory)).next(), None);
    daemon.audit_settled();
    let wanted = ids(&records(&directory));
    wait::until("the receiver has everything", wait::LONG, || {
        wanted.is_subset(&ids(&received.lock().unwrap())).then_some(())
    });
    wait::until("the file has everything", wait::LONG, || {
        let mut written = lines(&fs::read_to_string(&aside).unwrap());
        written.extend(lines(&fs::read_to_string(&file).unwrap_or_default()));
        wanted.is_subset(&ids(&written)).then_some(())
    });
    wait_until_sound(&daemon);
}
