//! Fills a site with very many keys while no daemon runs: by the same workers, over the same protocol, into the same
//! metadata as a daemon does it, and in the same order for each version.
//!
//! What makes a daemon slow at it is that its data workers prove each key right after it was placed: SoftHSM then reads
//! its token's directory anew for each. Here all keys are placed first and proven afterwards. Metadata and tokens lie in
//! memory meanwhile: a change does not wait for a disk there, and SoftHSM writes the file of an object once for each of
//! its attributes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use bytes::Bytes;
use cluster::{Proof, proof};
use config::Config;
use futures_util::future::try_join_all;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use model::clock::Clock;
use model::id::{HsmId, KeyStoreId, KeyVersionId, Scope};
use model::key::RotationCause;
use model::secret::Secret;
use pki::seal::{SealKey, SealKeys};
use protocol::{Op, Reply, Role};
use store::{Begun, Finished, NewKey, Rotating, Store};
use supervisor::{Settings, Worker};
use tempfile::TempDir;

use super::changes::IN_MEMORY;
use super::{Outcome, said};

const PROGRAM: &str = env!("CARGO_BIN_EXE_keystored");
/// Versions that are being made at once: enough that no token waits for the other or for the metadata.
const AT_ONCE: usize = 16;
/// Proofs in one frame.
const BATCH: usize = 256;
/// Where SoftHSM's configuration is told, and what in it tells where the tokens are.
const SOFTHSM_CONF: &str = "SOFTHSM2_CONF";
const TOKENS: &str = "directories.tokendir =";
/// The file of the metadata in its directory.
const DATABASE: &str = "keystored.db";

/// A site without a daemon.
struct Site {
    scope: Scope,
    hsms: Vec<Settings>,
    store: Store,
    key_store: KeyStoreId,
    pins: BTreeMap<HsmId, Secret>,
    clock: Clock,
}

/// Makes so many keys more in the only key store of a site whose daemon has ended; every second one gets two versions.
pub(super) async fn fill(configuration: &Path, keys: usize, clock: &Clock) -> Outcome<()> {
    let config = config::load(configuration).map_err(said("reading the configuration"))?;
    let in_memory = TempDir::with_prefix_in("keystored-bench-", IN_MEMORY).map_err(said("making a directory"))?;
    let state = in_memory.path().join("state");
    copy(&config.state_dir, &state)?;
    let mut site = Site::open(&config, &state, clock).await?;
    let moved = site.hsms.iter_mut().map(|hsm| MovedToken::to(in_memory.path(), hsm)).collect::<Outcome<Vec<_>>>()?;
    let first = stream::iter(0..keys).map(|_| site.begin());
    let first: Vec<KeyVersionId> = first.buffer_unordered(AT_ONCE).try_collect().await?;
    site.make(&first).await?;
    let second = stream::iter(first.into_iter().step_by(2)).map(|version| site.begin_second(version));
    let second: Vec<KeyVersionId> = second.buffer_unordered(AT_ONCE).try_collect().await?;
    site.make(&second).await?;
    site.store.close().await;
    put_back(&state, &config.state_dir)?;
    moved.iter().try_for_each(|token| put_back(&token.here, &token.home))?;
    // Ten thousands of files: what is measured next must not wait for them.
    rustix::fs::sync();
    Ok(())
}

/// A directory of tokens that lies elsewhere for a while.
struct MovedToken {
    home: PathBuf,
    here: PathBuf,
}

impl MovedToken {
    /// Copies an HSM's tokens, and has its workers use the copy.
    fn to(place: &Path, hsm: &mut Settings) -> Outcome<Self> {
        let conf = hsm.environment.get_mut(SOFTHSM_CONF).ok_or("an HSM is no SoftHSM")?;
        let text = std::fs::read_to_string(&*conf).map_err(said("reading softhsm2.conf"))?;
        let home = text.lines().find_map(|line| line.strip_prefix(TOKENS)).map(|home| PathBuf::from(home.trim()));
        let home = home.ok_or("softhsm2.conf says nothing of its tokens")?;
        let (here, moved) = (place.join(format!("{}-tokens", hsm.hsm)), place.join(format!("{}.conf", hsm.hsm)));
        copy(&home, &here)?;
        let text = text.replace(&home.display().to_string(), &here.display().to_string());
        std::fs::write(&moved, text).map_err(said("writing softhsm2.conf"))?;
        *conf = moved.display().to_string();
        Ok(Self { home, here })
    }
}

fn put_back(from: &Path, to: &Path) -> Outcome<()> {
    std::fs::remove_dir_all(to).map_err(said("removing what was copied"))?;
    copy(from, to)
}

fn copy(from: &Path, to: &Path) -> Outcome<()> {
    let status = Command::new("cp").arg("-a").arg(from).arg(to).status().map_err(said("starting cp"))?;
    if status.success() { Ok(()) } else { Err(format!("cp -a {} failed: {status}", from.display())) }
}

impl Site {
    async fn open(config: &Config, state: &Path, clock: &Clock) -> Outcome<Self> {
        let store = Store::open(&state.join(DATABASE), clock.clone()).await.map_err(said("opening the metadata"))?;
        let key_store = store.catalogue().key_stores().next().map(|store| store.id.clone());
        let key_store = key_store.ok_or("there is no key store")?;
        let seals = SealKeys::new(SealKey::read(&config.seal.key).map_err(said("reading the seal key"))?, Vec::new());
        let mut pins = BTreeMap::new();
        for (hsm, pin) in store.pins(&key_store).await.map_err(said("reading the PINs"))? {
            let opened = seals.open(&["kmsuser pin", key_store.as_str(), hsm.as_str()], &pin.current);
            pins.insert(hsm, opened.map_err(said("opening a PIN"))?);
        }
        let hsms = config.clusters.iter().flat_map(|cluster| &cluster.hsms);
        let quietly = |hsm| {
            let mut settings = Settings { worker: PathBuf::from(PROGRAM), ..Settings::of(config, hsm) };
            settings.environment.insert("KEYSTORED_LOG_FILTER".to_owned(), "warn".to_owned());
            settings
        };
        let hsms = hsms.map(quietly).collect();
        Ok(Self { scope: config.scope.clone(), hsms, store, key_store, pins, clock: clock.clone() })
    }

    fn names(&self) -> Vec<HsmId> {
        self.hsms.iter().map(|hsm| hsm.hsm.clone()).collect()
    }

    async fn begin(&self) -> Outcome<KeyVersionId> {
        let begun = self.store.begin_key(NewKey::new(&self.key_store, &self.names()), None).await;
        let (Begun::New(key) | Begun::Existing(key)) = begun.map_err(said("making a key"))?;
        Ok(KeyVersionId { key, version: 1 })
    }

    async fn begin_second(&self, first: KeyVersionId) -> Outcome<KeyVersionId> {
        let version = KeyVersionId { version: 2, ..first };
        let rotating = Rotating { version, cause: RotationCause::Request, in_place: false };
        self.store.begin_version(rotating, &self.names()).await.map_err(said("making a version"))?;
        Ok(version)
    }

    /// Makes, places and proves these versions in all HSMs, and brings them into use.
    async fn make(&self, versions: &[KeyVersionId]) -> Outcome<()> {
        let workers = self.workers(Role::Control).await?;
        let making =
            stream::iter(versions.iter().enumerate()).map(|(number, version)| self.place(&workers, number, *version));
        making.buffer_unordered(AT_ONCE).try_collect::<()>().await?;
        leave(workers).await;
        let workers = self.workers(Role::Data).await?;
        for batch in versions.chunks(BATCH) {
            self.prove(&workers, batch).await?;
        }
        leave(workers).await;
        Ok(())
    }

    async fn workers(&self, role: Role) -> Outcome<Vec<Worker>> {
        try_join_all(self.hsms.iter().map(async |hsm| {
            let worker = Worker::start(hsm, role, &self.clock).await.map_err(said("starting a worker"))?;
            let pin = self.pins.get(&hsm.hsm).ok_or("no PIN is on record")?;
            worker.login(pin.clone()).await.map_err(said("logging in"))?;
            Ok(worker)
        }))
        .await
    }

    async fn place(&self, workers: &[Worker], number: usize, version: KeyVersionId) -> Outcome<()> {
        let maker = workers.get(number % workers.len().max(1)).ok_or("there are no HSMs")?;
        let blob = match maker.call(Op::MakeKey).await.map_err(said("making a key"))? {
            Reply::Blob(blob) => blob,
            other => return Err(format!("making a key: {other:?}")),
        };
        self.store.keep_blob(version, &blob).await.map_err(said("keeping a blob"))?;
        let label = self.scope.key_arn(version.key);
        try_join_all(workers.iter().map(async |worker| {
            let op = Op::Place { key: version, label: label.clone(), blob: blob.clone() };
            match worker.call(op).await.map_err(said("placing a key"))? {
                Reply::Done => Ok(()),
                other => Err(format!("placing a key: {other:?}")),
            }
        }))
        .await
        .map(drop)
    }

    async fn prove(&self, workers: &[Worker], versions: &[KeyVersionId]) -> Outcome<()> {
        let (maker, others) = workers.split_first().ok_or("there are no HSMs")?;
        let items = versions.iter().map(|version| proof::to_seal(*version)).collect();
        let Reply::Encrypted(sealed) = maker.call(Op::Encrypt(items)).await.map_err(said("making proofs"))? else {
            return Err("making proofs: another answer".to_owned());
        };
        let sealed = sealed.into_iter().collect::<Result<Vec<_>, _>>().map_err(said("making proofs"))?;
        let proofs: Vec<Proof> =
            sealed.into_iter().map(|sealed| Proof { iv: sealed.iv, sealed: sealed.sealed }).collect();
        for other in others {
            let items = versions.iter().zip(&proofs).map(|(version, proof)| proof::to_open(*version, proof)).collect();
            let Reply::Decrypted(opened) = other.call(Op::Decrypt(items)).await.map_err(said("opening proofs"))? else {
                return Err("opening proofs: another answer".to_owned());
            };
            for (version, opened) in versions.iter().zip(opened) {
                if !proof::is_plaintext(*version, &opened.map_err(said("opening proofs"))?) {
                    return Err(format!("the proof of {version} opens to something else"));
                }
            }
        }
        for (version, Proof { iv, sealed }) in versions.iter().zip(proofs) {
            let proof: ([u8; 12], Bytes) = (iv, sealed);
            let finished = Finished { version: *version, proof, proven: self.names(), reserve: 0 };
            self.store.finish_version(finished).await.map_err(said("bringing a version into use"))?;
        }
        Ok(())
    }
}

async fn leave(workers: Vec<Worker>) {
    for worker in workers {
        worker.stop().await;
    }
}
