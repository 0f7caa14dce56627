//! What callers make the daemon hold is bounded, and goes: answers that nobody fetches, requests that do not end, header
//! lists, windows, streams. Whoever does that is cut off; others go on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use prost::Message;
use proto::v1::{BatchGenerateDataKeyRequest, EncryptRequest, GenerateDataKeyRequest, StreamRequest, stream_request};
use tokio::task::JoinSet;
use tokio_stream::StreamExt as _;

use crate::harness::call::Address;
use crate::harness::clients::{address_of, guest_of};
use crate::harness::daemon::Site;
use crate::harness::raw::{RST_STREAM, Raw, client_config, framed};
use crate::harness::{Caller, Daemon, context, process, wait};
use crate::shares::figure;

/// What the daemon may take, whatever callers do, in kB of /proc/PID/status.
const MOST_KB: u64 = 256 << 10;
/// Between two calls of somebody else.
const PAUSE: Duration = Duration::from_millis(20);
/// Attackers that come with certificates of their own.
const MANY: usize = 40;
/// Streams that a connection may have.
const STREAMS: usize = 256;
const BATCH: &str = "/keystored.v1.CryptoService/BatchGenerateDataKey";
const ENCRYPT: &str = "/keystored.v1.CryptoService/Encrypt";
const STREAM: &str = "/keystored.v1.CryptoService/Stream";

/// A daemon that is attacked, and somebody who goes on calling.
struct Scene {
    daemon: Daemon,
    guest: Caller,
    key: String,
    address: Address,
}

impl Scene {
    async fn set() -> Self {
        process::raise_file_limit();
        let site = Site::prepare().await;
        let attackers: Vec<String> = (0..MANY).map(|number| format!("attacker-{number}")).collect();
        let attackers: Vec<&str> = attackers.iter().map(String::as_str).collect();
        site.administrators(&[&["dev-client", "guest", "attacker"], &attackers[..]].concat());
        // A thousand clients on the same processors must not have workers taken for dead.
        site.kill_after(30_000);
        let daemon = site.start().await;
        let guest = guest_of(&daemon).await.with_deadline(wait::LONG);
        let key = guest.create_key("shared").await;
        let address = address_of(&daemon, "attacker");
        Self { daemon, guest, key, address }
    }

    /// So many connections of the attacker, each of which does this while the guest's calls go on.
    async fn attack(
        &self,
        connections: usize,
        window: u32,
        act: impl Fn(&mut Raw) + Clone + Send + 'static,
    ) -> Vec<Raw> {
        let config = client_config(&self.address);
        let (mut opening, stop) = (JoinSet::new(), Arc::new(AtomicBool::new(false)));
        let others = tokio::spawn({
            let (guest, key, stop) = (self.guest.clone(), self.key.clone(), Arc::clone(&stop));
            async move {
                while !stop.load(Ordering::Relaxed) {
                    guest.encrypt(&key, b"mine", &context(&[])).await.unwrap();
                    wait::pass(PAUSE).await;
                }
            }
        });
        for _ in 0..connections {
            let (address, config, act) = (self.address.clone(), config.clone(), act.clone());
            opening.spawn(async move {
                let mut raw = Raw::connect(&address, &config, window).await.ok()?;
                act(&mut raw);
                // It may be ended meanwhile, or not be read.
                let _ = tokio::time::timeout(Duration::from_secs(20), raw.flush()).await;
                Some(raw)
            });
        }
        let attackers = opening.join_all().await.into_iter().flatten().collect();
        stop.store(true, Ordering::Relaxed);
        others.await.unwrap();
        attackers
    }

    /// The guest's calls go on, and the daemon stays small, for so many looks.
    async fn goes_on(&self, looks: usize) -> u64 {
        let mut most = 0;
        for _ in 0..looks {
            self.guest.encrypt(&self.key, b"mine", &context(&[])).await.unwrap();
            most = most.max(self.kilobytes());
            assert!(most < MOST_KB, "{most} kB");
            wait::pass(PAUSE).await;
        }
        most
    }

    /// The most that it has ever been.
    fn kilobytes(&self) -> u64 {
        process::status(self.daemon.pid(), "VmHWM").unwrap()
    }

    /// As much data as a batch can bring.
    fn batch(&self) -> Vec<u8> {
        let item =
            GenerateDataKeyRequest { key_id: self.key.clone(), number_of_bytes: Some(1_024), ..Default::default() };
        BatchGenerateDataKeyRequest { items: vec![item; 1_000] }.encode_to_vec()
    }
}

/// Waits until so many streams of a connection were reset, or it has ended.
async fn is_cut_off(mut raw: Raw, streams: usize) {
    let all = async {
        let mut reset = 0;
        while reset < streams {
            match raw.read().await {
                Ok((RST_STREAM, _)) => reset += 1,
                Ok(_) => {}
                Err(_) => break,
            }
        }
    };
    tokio::time::timeout(wait::LONG, all).await.expect("it is cut off");
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_nobody_fetches_are_bounded_and_go() {
    let scene = Scene::set().await;
    let batch = scene.batch();
    let before = scene.kilobytes();
    let attackers = scene
        .attack(3, 0, move |raw| {
            for _ in 0..STREAMS {
                raw.call(BATCH, &batch);
            }
        })
        .await;
    let most = scene.goes_on(400).await;
    eprintln!("three connections: {before} kB before, {most} kB at most");
    // While the connections are still there, and their clients still read nothing.
    let held = || figure(&scene.daemon, "keystored_held_bytes");
    wait::until("what was answered has gone", wait::LONG, || (held()? <= 64_000.0).then_some(()));
    assert!(figure(&scene.daemon, "keystored_connections").is_some_and(|connections| connections > 3.0));
    drop(attackers);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_has_left_but_for_its_end_is_cut_off_too() {
    let scene = Scene::set().await;
    let item = GenerateDataKeyRequest { key_id: scene.key.clone(), number_of_bytes: Some(32), ..Default::default() };
    let item = item.encode_to_vec();
    // One byte is let through: all of a small answer is HTTP/2's affair then.
    let attackers = scene
        .attack(2, 1, move |raw| {
            for _ in 0..STREAMS {
                raw.call("/keystored.v1.CryptoService/GenerateDataKey", &item);
            }
        })
        .await;
    for raw in attackers {
        is_cut_off(raw, STREAMS).await;
    }
    scene.goes_on(1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_is_not_read_is_cut_off() {
    let scene = Scene::set().await;
    let batch = scene.batch();
    let attack = scene.attack(8, 1 << 30, move |raw| {
        raw.open_window(0, 1 << 30);
        // More than the sockets take, and less than what is refused.
        for _ in 0..3 {
            raw.call(BATCH, &batch);
        }
    });
    let connections = || figure(&scene.daemon, "keystored_connections");
    // Looked at while they come: on a busy machine the first has been left when the last has come.
    let here = wait::until_async("they are here", wait::LONG, async || (connections()? >= 2.0).then_some(()));
    let (attackers, ()) = tokio::join!(attack, here);
    assert_eq!(attackers.len(), 8, "all of them were let in");
    wait::until("only the guest is left", wait::LONG, || (connections()? <= 1.0).then_some(()));
    scene.goes_on(1).await;
    drop(attackers);
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_that_are_begun_and_reset_are_bounded() {
    let scene = Scene::set().await;
    let encrypt = EncryptRequest { key_id: scene.key.clone(), plaintext: vec![7; 4_096], ..Default::default() };
    let encrypt = encrypt.encode_to_vec();
    let attackers = scene
        .attack(100, 65_535, move |raw| {
            for _ in 0..200 {
                let stream = raw.call(ENCRYPT, &encrypt);
                raw.reset(stream);
            }
        })
        .await;
    let most = scene.goes_on(200).await;
    eprintln!("resets: {most} kB at most, {} connected", attackers.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn header_blocks_without_an_end_are_bounded() {
    let scene = Scene::set().await;
    let attackers = scene.attack(1_000, 65_535, Raw::begin_without_end).await;
    let most = scene.goes_on(100).await;
    eprintln!("header blocks: {most} kB at most, {} connected", attackers.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn many_principals_with_a_little_each_do_not_fill_it() {
    let mut scene = Scene::set().await;
    let batch = scene.batch();
    let mut attackers = Vec::new();
    for number in 0..MANY {
        scene.address = address_of(&scene.daemon, &format!("attacker-{number}"));
        let batch = batch.clone();
        let act = move |raw: &mut Raw| {
            for _ in 0..8 {
                raw.call(BATCH, &batch);
            }
        };
        attackers.extend(scene.attack(8, 0, act).await);
    }
    let most = scene.goes_on(400).await;
    eprintln!("many principals: {most} kB at most, {} connected", attackers.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_streams_of_one_principal_make_room_for_another() {
    let scene = Scene::set().await;
    let attackers = scene
        .attack(4, 65_535, |raw| {
            for _ in 0..64 {
                raw.begin(STREAM, &[], false);
            }
        })
        .await;
    let encrypt = EncryptRequest { key_id: scene.key.clone(), plaintext: vec![7; 32], ..Default::default() };
    let wanted = || StreamRequest { number: 7, request: Some(stream_request::Request::Encrypt(encrypt.clone())) };
    for _ in 0..3 {
        let mut guest = scene.guest.clone();
        // It stays open, as those of the others do.
        let requests = tokio_stream::iter([wanted()]).chain(tokio_stream::pending());
        let mut answers = guest.crypto.stream(requests).await.unwrap().into_inner();
        assert_eq!(answers.message().await.unwrap().unwrap().number, 7);
    }
    drop(attackers);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_connections_hold_no_more_than_three() {
    let scene = Scene::set().await;
    let batch = scene.batch();
    let attackers = scene
        .attack(1_000, 0, move |raw| {
            for _ in 0..4 {
                raw.call(BATCH, &batch);
            }
        })
        .await;
    let most = scene.goes_on(400).await;
    eprintln!("a thousand connections: {most} kB at most, {} connected", attackers.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_do_not_end_are_bounded() {
    let scene = Scene::set().await;
    let attackers = scene
        .attack(1_000, 65_535, |raw| {
            for _ in 0..8 {
                let stream = raw.begin(ENCRYPT, &[], false);
                raw.data(stream, &framed(&[0; 60_000])[..59_000], false);
            }
        })
        .await;
    let most = scene.goes_on(200).await;
    eprintln!("requests: {most} kB at most, {} connected", attackers.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn header_lists_are_bounded() {
    let scene = Scene::set().await;
    let attackers = scene
        .attack(1_000, 65_535, |raw| {
            let name: Vec<String> = (0..300).map(|number| format!("h{number}")).collect();
            let headers: Vec<_> = name.iter().map(|name| (name.as_str(), "0123")).collect();
            for _ in 0..64 {
                raw.begin(ENCRYPT, &headers, false);
            }
        })
        .await;
    let most = scene.goes_on(200).await;
    eprintln!("header lists: {most} kB at most, {} connected", attackers.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_calls_are_bounded() {
    let scene = Scene::set().await;
    let attackers = scene
        .attack(1_000, 0, |raw| {
            for _ in 0..STREAMS {
                raw.begin(ENCRYPT, &[], false);
            }
        })
        .await;
    let most = scene.goes_on(200).await;
    eprintln!("idle calls: {most} kB at most, {} connected", attackers.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_that_nobody_reads_are_bounded() {
    let scene = Scene::set().await;
    let attackers = scene
        .attack(1_000, 0, |raw| {
            for _ in 0..2_000 {
                raw.call(ENCRYPT, &[]);
            }
        })
        .await;
    let most = scene.goes_on(200).await;
    eprintln!("errors: {most} kB at most, {} connected", attackers.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_that_nobody_reads_are_bounded_and_make_room() {
    let scene = Scene::set().await;
    let encrypt = EncryptRequest { key_id: scene.key.clone(), plaintext: vec![7; 4_096], ..Default::default() };
    let request = StreamRequest { number: 1, request: Some(stream_request::Request::Encrypt(encrypt)) };
    let message = framed(&request.encode_to_vec());
    let attackers = scene
        .attack(200, 0, move |raw| {
            for _ in 0..2 {
                let stream = raw.begin(STREAM, &[], false);
                raw.data(stream, &message.repeat(60), false);
            }
        })
        .await;
    let most = scene.goes_on(200).await;
    eprintln!("streams: {most} kB at most, {} connected", attackers.len());
}
