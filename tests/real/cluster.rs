//! The ceremony and the cluster over two real tokens, without a daemon around them.

mod log_keys;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use ceremony::{self, Participant};
use cluster::item::{Decrypt, Done, Encrypt, GenerateDataKey, ItemOperation, Keyed};
use cluster::{Cluster, Error, Failed, Health, KeyRef, PlacementMask, Removal, Settings, Verify};
use model::call_options::CallOptions;
use model::ciphertext::authenticated_data;
use model::clock::Clock;
use model::context::EncryptionContext;
use model::id::{HsmId, KeyId, KeyVersionId};
use model::profile::Profile;
use model::secret::Secret;
use protocol::{DataKeyItem, DecryptItem, EncryptItem, Sealed, Token};
use rustix::process::Signal;
use supervisor::{self, Hsm, KillLimits};
use telemetry::watchdog::Watchdog;
use tempfile::TempDir;
use tokio::sync::mpsc;

use super::harness::admission::known_pin;
use super::harness::process;
use super::harness::wait::{LONG, until, until_async};
use super::harness::zone::object_id;

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
const PIN: &str = "a PIN for a test";

/// Tokens in a directory of their own.
struct Tokens {
    dir: TempDir,
    clock: Clock,
}

impl Tokens {
    fn new(names: &[&str]) -> Self {
        let tokens = Self { dir: tempfile::tempdir().unwrap(), clock: Clock::system() };
        for name in names {
            tokens.initialise(name);
        }
        tokens
    }

    fn initialise(&self, name: &str) {
        let zone = self.dir.path().join(name);
        fs::create_dir_all(zone.join("tokens")).unwrap();
        let conf = format!("directories.tokendir = {}\nlog.level = ERROR\n", zone.join("tokens").display());
        fs::write(self.conf(name), conf).unwrap();
        self.run(
            name,
            Command::new("softhsm2-util").args([
                "--init-token",
                "--free",
                "--label",
                name,
                "--so-pin",
                "another PIN",
                "--pin",
                PIN,
            ]),
        );
    }

    fn conf(&self, name: &str) -> PathBuf {
        self.dir.path().join(name).join("softhsm2.conf")
    }

    fn run(&self, name: &str, command: &mut Command) -> String {
        let output = command.env("SOFTHSM2_CONF", self.conf(name)).output().expect("it can be started (make deps)");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        text
    }

    fn delete(&self, name: &str, version: KeyVersionId) {
        let id = object_id(&version.key.to_string(), version.version);
        let login = ["--module", MODULE, "--token-label", name, "--login", "--pin", PIN];
        let what = ["--delete-object", "--type", "secrkey", "--id", &id];
        self.run(name, Command::new("pkcs11-tool").args(login).args(what));
    }

    /// Differs from test to test: the tests of one process tell their workers by it.
    fn hsm(&self, name: &str) -> HsmId {
        format!("{name}-{}", self.dir.path().file_name().unwrap().display()).as_str().into()
    }

    fn settings(&self, name: &str) -> supervisor::Settings {
        supervisor::Settings {
            hsm: self.hsm(name),
            zone: format!("zone-{name}").as_str().into(),
            worker: env!("CARGO_BIN_EXE_keystored").into(),
            module: MODULE.into(),
            token: Token { label: name.to_owned(), serials: Vec::new() },
            certificate: None,
            profile: Profile::SoftHsm,
            capabilities: config::capabilities(Profile::SoftHsm).unwrap(),
            environment: [("SOFTHSM2_CONF".to_owned(), self.conf(name).display().to_string())].into(),
            data_workers: 2,
            sessions: 1,
            hot_copies: true,
            require_mlock: false,
            sandbox: None,
            queue_items: 10_000,
            queue_bytes: 16 << 20,
            kill: KillLimits { crypto: Duration::from_millis(1_500), ..KillLimits::default() },
            restart: (Duration::from_millis(50), Duration::from_secs(1)),
            start_timeout: LONG,
            probe_every: Duration::from_secs(1),
            lock_file: self.dir.path().join(name).join("lock"),
            lock_dir: self.dir.path().to_owned(),
        }
    }

    async fn ceremony(&self, names: &[&str], folder: &Path) -> Result<Vec<String>, ceremony::Error> {
        let of =
            |name: &&str| Participant { settings: self.settings(name), pin: Secret::new(PIN.into()), so_pin: None };
        let participants: Vec<_> = names.iter().map(of).collect();
        let mut steps = Vec::new();
        let cluster = "cluster-abcdefghijk".into();
        ceremony::run(&cluster, &participants, folder, &self.clock, &mut |step| steps.push(step.to_owned())).await?;
        Ok(steps)
    }

    async fn cluster(&self, names: &[&str]) -> (Arc<Cluster>, mpsc::Receiver<Removal>) {
        let settings = Settings {
            id: "cluster-abcdefghijk".into(),
            own_zone: Some("zone-a".into()),
            hedge_after: Duration::from_millis(50),
            verify: Verify::default(),
        };
        let watchdog = Watchdog::new(self.clock.clone());
        let start = |name: &&str| {
            let admission = known_pin(PIN);
            Hsm::start(self.settings(name), admission, Arc::new(()), self.clock.clone(), watchdog.clone())
        };
        let ((sender, removals), identities) = (mpsc::channel(16), Arc::default());
        let told = (sender, &identities);
        let members = names.iter().map(start).collect();
        let cluster = Cluster::new(settings, members, self.clock.clone(), told, None, &watchdog);
        all_healthy(&cluster).await;
        (cluster, removals)
    }

    /// The worker processes of a token. They are this test's own children.
    fn workers(&self, name: &str) -> Vec<u32> {
        let of_token = |pid: &u32| process::arguments(*pid).ends_with(&format!(" hsm-worker {}", self.hsm(name)));
        process::children(std::process::id()).into_iter().filter(of_token).collect()
    }

    fn soon(&self) -> Instant {
        self.clock.now() + LONG
    }

    /// Makes a key in each member, as the service does it.
    async fn key(&self, cluster: &Cluster) -> Arc<KeyRef> {
        let version = KeyVersionId { key: KeyId::random(), version: 1 };
        let reachable = cluster.reachable_for_creation().unwrap();
        let blob = cluster.make_key(self.soon()).await.unwrap();
        for member in &reachable {
            cluster.place(*member, version, "a key", &blob, self.soon()).await.unwrap();
        }
        let proof = cluster.make_proof(reachable[0], version, self.soon()).await.unwrap();
        for member in &reachable {
            cluster.prove(*member, version, &proof, self.soon()).await.unwrap();
        }
        Arc::new(KeyRef { version, placed: PlacementMask((1 << reachable.len()) - 1), proof })
    }
}

async fn all_healthy(cluster: &Cluster) {
    let healthy = async || {
        let healthy = cluster.status().iter().all(|member| {
            member.health == Health::Healthy && member.status.control_ready && member.status.data_ready == 2
        });
        healthy.then_some(())
    };
    until_async("every HSM is healthy", LONG, healthy).await;
}

fn aad(key: &KeyRef) -> Bytes {
    authenticated_data(key.version, &EncryptionContext::default()).into()
}

fn in_member(key: &KeyRef, member: usize) -> Arc<KeyRef> {
    Arc::new(KeyRef { placed: PlacementMask(1 << member), ..key.clone() })
}

fn to_encrypt(key: &Arc<KeyRef>, plaintext: &[u8]) -> Keyed<EncryptItem> {
    let item = EncryptItem { key: key.version, aad: aad(key), plaintext: Secret::new(plaintext.to_vec()) };
    Keyed { key: Arc::clone(key), source: None, item }
}

fn to_decrypt(key: &Arc<KeyRef>, sealed: &Sealed) -> Keyed<DecryptItem> {
    let item = DecryptItem { key: key.version, aad: aad(key), iv: sealed.iv, sealed: sealed.sealed.clone() };
    Keyed { key: Arc::clone(key), source: None, item }
}

async fn carry_out<O: ItemOperation>(
    cluster: &Cluster,
    items: Vec<Keyed<O::Item>>,
    options: CallOptions,
) -> Vec<Result<O::Output, Failed>> {
    // Whoever served it is one of those that it may be put to.
    let placed: Vec<_> = items.iter().map(|item| item.key.placed.0).collect();
    let answers = O::answers(cluster.carry_out(O::batch(items), options).await).unwrap();
    let output = |(answer, placed): (Result<Done<O::Output>, Failed>, u64)| {
        let Done { served, output } = answer?;
        let (_, zone) = cluster.served_by(served).expect("a member");
        let at = cluster.members().iter().position(|member| member.settings().zone == *zone).unwrap();
        assert_ne!(placed & 1 << at, 0, "served in {zone}");
        Ok(output)
    };
    answers.into_iter().zip(placed).map(output).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_token_sealed_the_other_opens() {
    let tokens = Tokens::new(&["a", "b"]);
    let folder = tokens.dir.path().join("ceremony");
    let steps = tokens.ceremony(&["a", "b"], &folder).await.unwrap();
    assert_eq!(steps.iter().filter(|step| step.contains("placing the cluster wrapping key")).count(), 2, "{steps:?}");
    let again = tokens.ceremony(&["a", "b"], &folder).await.unwrap();
    assert!(!again.iter().any(|step| step.contains("making") || step.contains("placing")), "{again:?}");

    let (cluster, _removals) = tokens.cluster(&["a", "b"]).await;
    let keys = [tokens.key(&cluster).await, tokens.key(&cluster).await];
    for key in &keys {
        for (from, to) in [(0, 1), (1, 0)] {
            let sealed =
                carry_out::<Encrypt>(&cluster, vec![to_encrypt(&in_member(key, from), b"bytes")], tokens.soon().into())
                    .await;
            let sealed = sealed.into_iter().next().unwrap().unwrap();
            let opened =
                carry_out::<Decrypt>(&cluster, vec![to_decrypt(&in_member(key, to), &sealed)], tokens.soon().into())
                    .await;
            assert_eq!(opened[0].as_ref().unwrap().expose(), b"bytes");
        }
    }

    let plaintexts: Vec<[u8; 8]> = (0..1_000_u64).map(u64::to_le_bytes).collect();
    let tasks = plaintexts.iter().enumerate().map(|(at, bytes)| to_encrypt(&keys[at % 2], bytes)).collect();
    let sealed: Vec<Sealed> = carry_out::<Encrypt>(&cluster, tasks, tokens.soon().into())
        .await
        .into_iter()
        .collect::<Result<_, _>>()
        .unwrap();
    let mut tasks: Vec<_> = sealed.iter().enumerate().map(|(at, sealed)| to_decrypt(&keys[at % 2], sealed)).collect();
    tasks[500].item.iv[0] ^= 1;
    for (at, opened) in carry_out::<Decrypt>(&cluster, tasks, tokens.soon().into()).await.into_iter().enumerate() {
        match opened {
            Ok(bytes) => assert_eq!(bytes.expose(), plaintexts[at]),
            Err(Failed { error: Error::BadCiphertext, .. }) => assert_eq!(at, 500),
            Err(error) => panic!("{at}: {error}"),
        }
    }

    let item = DataKeyItem { key: keys[0].version, aad: aad(&keys[0]), length: 32 };
    let task = Keyed { key: Arc::clone(&keys[0]), source: None, item };
    let made = carry_out::<GenerateDataKey>(&cluster, vec![task], tokens.soon().into())
        .await
        .into_iter()
        .next()
        .unwrap()
        .unwrap();
    let opened = carry_out::<Decrypt>(&cluster, vec![to_decrypt(&keys[0], &made.sealed)], tokens.soon().into()).await;
    assert_eq!(opened[0].as_ref().unwrap(), &made.plaintext);
    let random = cluster.random(100, tokens.soon().into()).await.unwrap();
    assert_eq!(random.output.len(), 100);
    assert!(cluster.served_by(random.served).is_some());

    cluster.destroy(0, keys[1].version, tokens.soon()).await.unwrap();
    cluster.destroy(0, keys[1].version, tokens.soon()).await.unwrap();
    assert!(cluster.prove(0, keys[1].version, &keys[1].proof, tokens.soon()).await.is_err());
    cluster.stop(LONG).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_ciphertexts_take_no_zone_out_of_service() {
    let tokens = Tokens::new(&["a", "b"]);
    tokens.ceremony(&["a", "b"], &tokens.dir.path().join("ceremony")).await.unwrap();
    let (cluster, _removals) = tokens.cluster(&["a", "b"]).await;
    let key = tokens.key(&cluster).await;
    let bad = Sealed { iv: [0; 12], sealed: vec![7; 48].into() };
    // A machine that stands still for a moment may make a suspect, and says so; what ciphertexts did would be so each time.
    for round in 1.. {
        for _ in 0..20 {
            let tasks = (0..500).map(|_| to_decrypt(&key, &bad)).collect();
            let answers = carry_out::<Decrypt>(&cluster, tasks, tokens.soon().into()).await;
            assert!(answers.iter().all(|answer| matches!(answer, Err(Failed { error: Error::BadCiphertext, .. }))));
        }
        let status = cluster.status();
        if status.iter().all(|member| member.health == Health::Healthy) {
            break;
        }
        for member in &status {
            let slow = member.reason.as_deref().is_some_and(|why| why.starts_with("no reply for "));
            assert!(member.health == Health::Healthy || slow, "{:?}", member.reason);
        }
        assert!(round < 5, "suspects after each flood");
        all_healthy(&cluster).await;
    }
    cluster.stop(LONG).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_key_is_reported_and_served_from_the_other_token() {
    let tokens = Tokens::new(&["a", "b"]);
    tokens.ceremony(&["a", "b"], &tokens.dir.path().join("ceremony")).await.unwrap();
    let (cluster, mut removals) = tokens.cluster(&["a", "b"]).await;
    let key = tokens.key(&cluster).await;
    let sound = tokens.key(&cluster).await;
    for hsm in ["a", "b"] {
        tokens.delete(hsm, key.version);
        let deadline = tokens.clock.now() + LONG;
        let removal = loop {
            let answer = carry_out::<Encrypt>(&cluster, vec![to_encrypt(&key, b"bytes")], tokens.soon().into()).await;
            match &answer[0] {
                Err(Failed { error: Error::KeyGone, .. }) if hsm == "b" => {}
                answer => assert!(answer.is_ok(), "{answer:?}"),
            }
            match removals.try_recv() {
                Ok(removal) => break removal,
                Err(_) => assert!(tokens.clock.now() < deadline, "no report of the removal in {hsm}"),
            }
        };
        assert_eq!(removal, Removal { hsm: tokens.hsm(hsm), version: key.version });
    }
    let answer = carry_out::<Encrypt>(&cluster, vec![to_encrypt(&key, b"bytes")], tokens.soon().into()).await;
    assert!(matches!(answer[0], Err(Failed { error: Error::KeyGone, .. })), "{answer:?}");
    assert!(carry_out::<Encrypt>(&cluster, vec![to_encrypt(&sound, b"bytes")], tokens.soon().into()).await[0].is_ok());
    assert!(removals.try_recv().is_err(), "each removal is reported once");
    cluster.stop(LONG).await;
}

/// Whatever happens to the workers or the token of the own zone, callers get their answers, and it comes back.
#[tokio::test(flavor = "multi_thread")]
async fn callers_do_not_notice_the_loss_of_a_zone() {
    let tokens = Tokens::new(&["a", "b"]);
    tokens.ceremony(&["a", "b"], &tokens.dir.path().join("ceremony")).await.unwrap();
    let (cluster, mut removals) = tokens.cluster(&["a", "b"]).await;
    let key = tokens.key(&cluster).await;
    let (over, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let callers: Vec<_> = (0..6_usize)
        .map(|caller| {
            let (cluster, key, clock) = (Arc::clone(&cluster), Arc::clone(&key), tokens.clock.clone());
            let (over, done) = (Arc::clone(&over), Arc::clone(&done));
            // Two of them send batches that use both zones.
            let items = if caller < 2 { 130 } else { 1 };
            tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    let deadline = clock.now() + Duration::from_secs(20);
                    let sealed =
                        carry_out::<Encrypt>(&cluster, vec![to_encrypt(&key, b"bytes"); items], deadline.into()).await;
                    let sealed: Vec<_> = sealed.into_iter().collect::<Result<_, _>>()?;
                    let tasks = sealed.iter().map(|sealed| to_decrypt(&key, sealed)).collect();
                    let deadline = clock.now() + Duration::from_secs(20);
                    let opened: Vec<Secret> = carry_out::<Decrypt>(&cluster, tasks, deadline.into())
                        .await
                        .into_iter()
                        .collect::<Result<_, _>>()?;
                    assert!(opened.iter().all(|bytes| bytes.expose() == b"bytes"));
                    done.fetch_add(1, Ordering::Relaxed);
                }
                Ok::<(), Failed>(())
            })
        })
        .collect();
    let more = async |what: &str| {
        let before = done.load(Ordering::Relaxed);
        until_async(what, LONG, async || (done.load(Ordering::Relaxed) > before + 20).then_some(())).await;
    };
    for (what, signal) in [("killed workers", Signal::KILL), ("stopped workers", Signal::STOP)] {
        more("calls before").await;
        let workers = tokens.workers("a");
        for worker in &workers {
            process::signal(*worker, signal);
        }
        let gone = async || (!workers.iter().any(|worker| process::lives(*worker))).then_some(());
        until_async(what, LONG, gone).await;
        more(what).await;
        all_healthy(&cluster).await;
    }
    let (there, away) = (tokens.dir.path().join("a/tokens"), tokens.dir.path().join("a/away"));
    fs::rename(&there, &away).unwrap();
    let lost = async || (cluster.status()[0].health != Health::Healthy).then_some(());
    until_async("the loss of the token", LONG, lost).await;
    more("calls without the token").await;
    let _ = fs::remove_dir(&there);
    fs::rename(&away, &there).unwrap();
    all_healthy(&cluster).await;
    more("calls after all").await;
    over.store(true, Ordering::Relaxed);
    for caller in callers {
        caller.await.unwrap().unwrap();
    }
    assert!(removals.try_recv().is_err(), "a token that is away is no removal");
    let sealed =
        carry_out::<Encrypt>(&cluster, vec![to_encrypt(&in_member(&key, 0), b"bytes")], tokens.soon().into()).await;
    assert!(sealed[0].is_ok(), "{sealed:?}");
    cluster.stop(LONG).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ceremony_without_its_folder_does_not_guess() {
    let tokens = Tokens::new(&["a", "b"]);
    let folder = tokens.dir.path().join("ceremony");
    tokens.ceremony(&["a", "b"], &folder).await.unwrap();
    fs::remove_dir_all(tokens.dir.path().join("b")).unwrap();
    tokens.initialise("b");
    let error = tokens.ceremony(&["a", "b"], &folder).await.unwrap_err();
    assert!(matches!(error, ceremony::Error::Inconsistent(_)), "{error}");
    let error = tokens.ceremony(&["a", "a"], &folder).await.unwrap_err();
    assert!(error.to_string().contains("takes part twice"), "{error}");
    let mode = until("the folder", LONG, || fs::metadata(&folder).ok());
    assert_eq!(std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o777, 0o700);
}
