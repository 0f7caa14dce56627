//! Whoever comes without a certificate takes nothing from others: places, bytes, time.

use std::collections::VecDeque;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::{Value, json};
use tokio::task::{JoinHandle, JoinSet};

use crate::harness::audit::records;
use crate::harness::aws::{AccessKey, Ask, Endpoint, Scope, Wire, principal};
use crate::harness::daemon::Site;
use crate::harness::load::Load;
use crate::harness::strangers::Strangers;
use crate::harness::{Daemon, context, process, wait};
use crate::shares::figure;

/// Where strangers come from, and somebody else.
const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);
const SOMEBODY: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 3);
/// Connections that each listener may have open.
const CONNECTIONS: u8 = 128;
/// Strangers who shake hands at a time.
const AT_ONCE: usize = 16;

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_connections_of_one_source_shut_nobody_out() {
    process::raise_file_limit();
    let site = Site::prepare().await;
    site.configure(|config| {
        let limits = config.entry("limits").or_insert_with(|| toml::Table::new().into());
        limits.as_table_mut().unwrap().insert("connections".to_owned(), CONNECTIONS.into());
    });
    let daemon = site.start().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("besieged").await;
    let (signer, aws) = (principal(&caller, "app", "KeyUser").await, Endpoint::of(&daemon));
    let load = Load::start(&caller, &key, 2);
    let flood = Flood::start(&aws);
    let opened = || (flood.opened.load(Ordering::Relaxed) >= 1_000).then_some(());
    wait::until("strangers come", wait::LONG, opened);
    // gRPC's clients come as if nobody else was there, and AWS's from elsewhere have their share.
    for _ in 0..20 {
        let newcomer = daemon.caller().await;
        newcomer.encrypt(&key, b"hello", &context(&[])).await.unwrap();
        let mut wire = aws.connect_from(SOMEBODY, None).await.unwrap();
        let ask = Ask::kms("DescribeKey", &json!({ "KeyId": key })).sign(&signer, &Scope::of("kms"));
        wire.send(&ask.bytes()).await.unwrap();
        assert_eq!(wire.answer().await.unwrap().status, 200);
    }
    for (name, least) in
        [("keystored_connections_made_room_total{place=\"open\"}", 0.0), ("keystored_aws_connections", 64.0)]
    {
        wait::until(name, wait::LONG, || (figure(&daemon, name)? > least).then_some(()));
    }
    flood.stop().await;
    let (calls, failures) = load.stop().await;
    assert!(failures.is_empty(), "{} of {calls} calls failed: {:?}", failures.len(), failures[0]);

    // Such as do not even begin with TLS.
    let strangers = Strangers::start(aws.address, STRANGER, 600, b"");
    strangers.open(600).await;
    for _ in 0..10 {
        daemon.caller().await.encrypt(&key, b"hello", &context(&[])).await.unwrap();
        assert!(aws.connect_from(SOMEBODY, None).await.is_ok());
    }
    strangers.stop().await;
}

/// Connections of one source, one after the other, each of which stays if it may.
struct Flood {
    opened: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

impl Flood {
    fn start(aws: &Endpoint) -> Self {
        let (opened, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let task = tokio::spawn({
            let (aws, opened, stop) = (aws.clone(), Arc::clone(&opened), Arc::clone(&stop));
            async move {
                let (mut opening, mut open) = (JoinSet::new(), VecDeque::new());
                while !stop.load(Ordering::Relaxed) {
                    while opening.len() < AT_ONCE {
                        let aws = aws.clone();
                        opening.spawn(async move { aws.connect_from(STRANGER, None).await });
                    }
                    if let Some(Ok(Ok(wire))) = opening.join_next().await {
                        opened.fetch_add(1, Ordering::Relaxed);
                        open.push_back(wire);
                    }
                    // Those before them have been left long ago.
                    open.drain(..open.len().saturating_sub(2 * usize::from(CONNECTIONS)));
                }
            }
        });
        Self { opened, stop, task }
    }

    async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_strangers_have_read_is_bounded_and_goes() {
    const BODY: usize = 400 << 10;
    process::raise_file_limit();
    let daemon = Site::prepare().await.start().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("besieged").await;
    let (signer, aws) = (principal(&caller, "app", "KeyUser").await, Endpoint::of(&daemon));
    // They name an access key that there is: so much can be known. Their bodies come but for the end.
    let ask = Ask::kms("Encrypt", &json!({})).sign(&signer, &Scope::of("kms"));
    let half = Arc::new([ask.head(BODY), vec![b' '; BODY - 1]].concat());
    let mut coming = JoinSet::new();
    for number in 0..120_u8 {
        let (aws, half) = (aws.clone(), Arc::clone(&half));
        coming.spawn(async move {
            let mut wire = aws.connect_from(Ipv4Addr::new(127, 0, 1, number % 40), None).await.ok()?;
            // Those for whom there is no room are told so before they have said all.
            let _ = wire.send(&half).await;
            Some(wire)
        });
    }
    // Looked at while they come: on a busy machine the last has come when the first has been given up.
    let held = wait::until("some have come", wait::LONG, || {
        figure(&daemon, "keystored_held_bytes").filter(|held| *held > f64::from(4 << 20))
    });
    assert!(held < f64::from(17 << 20), "{held} bytes, a quarter of all and what is little");
    // Whoever has proven to be somebody has all of the rest.
    caller.encrypt(&key, b"hello", &context(&[])).await.unwrap();
    let mut wire = aws.connect_from(SOMEBODY, None).await.unwrap();
    let asked = json!({ "KeyId": key, "NumberOfBytes": 1_024 });
    let ask = Ask::kms("GenerateDataKey", &asked).sign(&signer, &Scope::of("kms"));
    for _ in 0..20 {
        wire.send(&ask.bytes()).await.unwrap();
        let answer = wire.answer().await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let wires: Vec<_> = coming.join_all().await.into_iter().flatten().collect();
    wait::until("what was begun has been given up", wait::LONG, || {
        (figure(&daemon, "keystored_held_bytes")? < 64_000.0).then_some(())
    });
    drop(wires);
}

/// So many connections from many addresses, each of which has been answered, so that its buffers were used both ways, and lately,
/// so that it has not been left for doing nothing while the others came.
async fn used(aws: &Endpoint, ask: &Arc<Vec<u8>>, many: usize, buffer: Option<u32>) -> Vec<Wire> {
    let mut open: Vec<Option<Wire>> = (0..many).map(|_| None).collect();
    for _ in 0..20 {
        let (mut asking, mut asked, mut gone) = (JoinSet::new(), Vec::new(), 0);
        for (number, before) in open.into_iter().enumerate() {
            if asking.len() == AT_ONCE {
                asked.push(asking.join_next().await.unwrap().unwrap());
            }
            let (aws, ask) = (aws.clone(), Arc::clone(ask));
            asking.spawn(async move {
                let again = async |mut wire: Wire| {
                    wire.send(&ask).await.ok()?;
                    let answer = wire.answer().await.ok()?;
                    assert_eq!(answer.status, 200, "{}", answer.text());
                    Some(wire)
                };
                if let Some(wire) = before {
                    return again(wire).await;
                }
                let from = Ipv4Addr::new(127, 0, 2, u8::try_from(number % 250).unwrap() + 1);
                again(aws.connect_from(from, buffer).await.unwrap()).await
            });
        }
        asked.append(&mut asking.join_all().await);
        gone += asked.iter().filter(|wire| wire.is_none()).count();
        open = asked;
        if gone == 0 {
            break;
        }
    }
    open.into_iter().map(|wire| wire.expect("they stay")).collect()
}

/// The most memory that a daemon has ever taken, in kilobytes.
fn peak(daemon: &Daemon) -> u64 {
    process::status(daemon.pid(), "VmHWM").unwrap()
}

fn sign(signer: &AccessKey, operation: &str, body: &Value) -> Ask {
    Ask::kms(operation, body).sign(signer, &Scope::of("kms"))
}

/// What a connection makes the daemon hold beside the bytes that are counted is TLS's and HTTP's own, and is bounded too. The
/// bytes are shared with the gRPC listener; the connections are this listener's, and so is what each of them costs.
#[tokio::test(flavor = "multi_thread")]
async fn as_many_connections_as_may_be_open_cost_what_is_said() {
    const MANY: usize = 1_000;
    const EACH_KB: u64 = 80;
    process::raise_file_limit();
    let daemon = Site::prepare().await.start().await;
    let caller = daemon.caller().await;
    let (signer, aws) = (principal(&caller, "app", "Auditor").await, Endpoint::of(&daemon));
    let ask = Arc::new(sign(&signer, "ListKeys", &json!({})).bytes());
    // As much of a head as is read without its end.
    let half = format!("POST / HTTP/1.1\r\nhost: localhost\r\nx-a: {}", "a".repeat(15 << 10)).into_bytes();
    let before = peak(&daemon);
    let mut open = used(&aws, &ask, MANY, None).await;
    let connections = figure(&daemon, "keystored_aws_connections");
    for wire in &mut open {
        wire.send(&half).await.unwrap();
    }
    assert!(connections.is_some_and(|connections| connections > 900.0), "{connections:?}");
    let key = caller.create_key("beside many").await;
    caller.encrypt(&key, b"hello", &context(&[])).await.unwrap();
    // Behind these calls, so that what was sent has been read as well.
    let grown = peak(&daemon) - before;
    eprintln!("{connections:?} connections: {before} kB before, {grown} kB more at most");
    assert!(grown < EACH_KB * MANY as u64, "{grown} kB for {MANY} connections");
    drop(open);
}

/// Who sends on and takes nothing has the daemon hold more, until it is cut off for that.
#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_not_read_cost_what_is_said() {
    const MANY: usize = 300;
    const EACH_KB: u64 = 192;
    process::raise_file_limit();
    let daemon = Site::prepare().await.start().await;
    let caller = daemon.caller().await;
    let (signer, aws) = (principal(&caller, "app", "Administrator").await, Endpoint::of(&daemon));
    let key = caller.create_key("with a long policy").await;
    let statement = |number: usize| {
        json!({ "Sid": format!("{number}{}", "x".repeat(1_000)), "Effect": "Allow", "Action": "kms:*", "Resource": "*",
                "Principal": { "AWS": "arn:aws:iam::000000000000:root" } })
    };
    let policy =
        json!({ "Version": "2012-10-17", "Statement": (0..26).map(statement).collect::<Vec<_>>() }).to_string();
    let put = aws.ask(&sign(&signer, "PutKeyPolicy", &json!({ "KeyId": key, "Policy": policy }))).await;
    assert_eq!(put.status, 200, "{}", put.text());
    let ask = Arc::new(sign(&signer, "ListKeys", &json!({})).bytes());
    let many = Arc::new(sign(&signer, "GetKeyPolicy", &json!({ "KeyId": key })).bytes().repeat(30));
    let before = peak(&daemon);
    let mut sending = JoinSet::new();
    for mut wire in used(&aws, &ask, MANY, Some(4 << 10)).await {
        let many = Arc::clone(&many);
        sending.spawn(async move { while wire.send(&many).await.is_ok() {} });
    }
    tokio::time::timeout(2 * wait::LONG, sending.join_all()).await.expect("they are cut off");
    let grown = peak(&daemon) - before;
    eprintln!("{MANY} connections that are not read: {before} kB before, {grown} kB more at most");
    assert!(grown < EACH_KB * MANY as u64, "{grown} kB for {MANY} connections");
    caller.encrypt(&key, b"hello", &context(&[])).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_no_answers_is_cut_off() {
    let daemon = Site::prepare().await.start().await;
    let caller = daemon.caller().await;
    let (signer, aws) = (principal(&caller, "app", "KeyUser").await, Endpoint::of(&daemon));
    let key = caller.create_key("not fetched").await;
    let asked = json!({ "KeyId": key, "NumberOfBytes": 1_024 });
    let ask = Ask::kms("GenerateDataKey", &asked).sign(&signer, &Scope::of("kms")).bytes();
    let mut wire = aws.connect_from(STRANGER, Some(4 << 10)).await.unwrap();
    // The same over and over: a signature holds for some minutes.
    let sending = async { while wire.send(&ask).await.is_ok() {} };
    tokio::time::timeout(wait::LONG, sending).await.expect("it is cut off");
    caller.encrypt(&key, b"hello", &context(&[])).await.unwrap();
    wait::until("nothing of it is left", wait::LONG, || {
        (figure(&daemon, "keystored_held_bytes")? < 64_000.0).then_some(())
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_unsigned_requests_fills_neither_log() {
    const FLOOD: usize = 3_000;
    let daemon = Site::prepare().await.start().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("besieged").await;
    let load = Load::start(&caller, &key, 1);
    let (aws, before) = (Endpoint::of(&daemon), daemon.log().lines().count());
    let ask = Ask::kms("CreateKey", &json!({})).bytes();
    let mut wire = aws.connect().await.unwrap();
    for _ in 0..FLOOD {
        wire.send(&ask).await.unwrap();
        assert_eq!(wire.answer().await.unwrap().error().1, "MissingAuthenticationTokenException");
    }
    load.passes(5).await;
    let (calls, failures) = load.stop().await;
    assert!(failures.is_empty(), "{} of {calls} calls failed: {:?}", failures.len(), failures[0]);
    let name = "keystored_calls_total{operation=\"create_key\",outcome=\"AccessDeniedException\"}";
    wait::until("each is counted", wait::LONG, || (figure(&daemon, name)? >= FLOOD as f64).then_some(()));
    assert_eq!(figure(&daemon, name), Some(FLOOD as f64));
    // They are counted for a minute, and then one record says how many there were.
    let lines = daemon.log().lines().count() - before;
    assert!(lines < 200, "{lines} lines:\n{}", daemon.log_tail());
    let of_flood = |record: &serde_json::Value| {
        record["userIdentity"]["type"] != "IAMUser" && record["errorCode"] != serde_json::Value::Null
    };
    let found = records(&daemon.site().audit_dir()).iter().filter(|record| of_flood(record)).count();
    assert!(found < 20, "{found} records");
}
