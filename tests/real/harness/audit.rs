//! What a daemon's audit log says, read without the daemon, and callers who remember which answers they had.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use audit::files::Place;
use audit::keys::PublicKeys;
use audit::read::Records;
use audit::verify::{Report, verify};
use proto::v1::{DecryptRequest, EncryptRequest};
use serde_json::Value;
use tokio::task::JoinSet;
use tonic::metadata::MetadataValue;

use super::daemon::{Daemon, Site};
use super::{Caller, Failure, tool, wait};

/// What a caller waits for an answer: longer than a log in trouble lets one wait, on a machine with much else to do.
const DEADLINE: Duration = Duration::from_secs(30);

impl Site {
    /// Changes the section of the audit log.
    pub(crate) fn audit(&self, change: impl FnOnce(&mut toml::Table)) {
        self.configure(|config| {
            let section = config.entry("audit").or_insert_with(|| toml::Table::new().into());
            change(section.as_table_mut().unwrap());
        });
    }

    /// Where the audit log is, as this process reaches it.
    pub(crate) fn audit_dir(&self) -> PathBuf {
        match &self.disk {
            Some(disk) if disk.path().ends_with("audit") => disk.path(),
            _ => self.path().join("audit"),
        }
    }
}

impl Site {
    /// `keystored audit new-log`, as where the seal key is lost under which the log's key was sealed.
    pub(crate) fn begin_audit_log(&self) {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_keystored"));
        tool::run(command.args(["audit", "new-log", "--config"]).arg(self.config_file())).ok();
    }
}

/// Every record of a log, and of every continuation.
pub(crate) fn records(directory: &Path) -> Vec<Value> {
    let mut records = Records::from(&Place::new(directory), 0).unwrap();
    let mut all = Vec::new();
    while let Some(record) = records.next().unwrap() {
        all.push(serde_json::from_slice(record.bytes).unwrap());
    }
    all
}

/// Where a record stands, as a receipt says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Receipt {
    pub(crate) log: String,
    pub(crate) first: u64,
    pub(crate) count: u32,
}

impl Receipt {
    /// As metadata and headers have it.
    pub(crate) fn read(text: &str) -> Self {
        let words: Vec<&str> = text.split(' ').collect();
        let [log, first, count] = &words[..] else { panic!("no receipt: {text}") };
        Self { log: (*log).to_owned(), first: first.parse().unwrap(), count: count.parse().unwrap() }
    }

    /// Its records, which are all of one event and of this request, and all that the event has.
    pub(crate) fn records(&self, directory: &Path, request_id: &str) -> Vec<Value> {
        let checkpoint = wait::until("a head is signed", wait::LONG, || {
            std::fs::read_to_string(directory.join("checkpoint")).ok().filter(|text| !text.is_empty())
        });
        assert_eq!(checkpoint.lines().next(), Some(self.log.as_str()));
        let all = records(directory);
        let (from, count) = (usize::try_from(self.first).unwrap(), usize::try_from(self.count).unwrap());
        let found = all.get(from..from + count).unwrap_or_else(|| panic!("{self:?} of {}", all.len()));
        let event = &found[0]["eventID"];
        assert!(found.iter().all(|record| &record["eventID"] == event), "{self:?}: {found:#?}");
        assert!(found.iter().all(|record| record["requestID"] == request_id), "{request_id} {self:?}: {found:#?}");
        assert_eq!(all.iter().filter(|record| &record["eventID"] == event).count(), count, "{self:?}");
        found.to_vec()
    }
}

/// The ids of the requests that a log has records of.
pub(crate) fn request_ids(directory: &Path) -> BTreeSet<String> {
    let ids = records(directory).into_iter().filter_map(|record| Some(record["requestID"].as_str()?.to_owned()));
    ids.collect()
}

/// Checks a log with the keys beside it.
pub(crate) fn verified(directory: &Path) -> Report {
    let keys = PublicKeys::from_json(&std::fs::read(directory.join("keys.json")).unwrap()).unwrap();
    verify(directory, &keys, None, &mut |_, _| {}).unwrap_or_else(|failure| panic!("{failure}: {failure:#?}"))
}

impl Daemon {
    /// The log once a head covers all that it has now.
    pub(crate) fn audit_settled(&self) -> Report {
        let directory = self.site().audit_dir();
        let wanted = records(&directory).len() as u64;
        wait::until("a head covers all records", wait::LONG, || {
            let text = std::fs::read_to_string(directory.join("checkpoint")).ok()?;
            let size: u64 = text.lines().nth(1)?.parse().ok()?;
            (size >= wanted).then_some(())
        });
        verified(&directory)
    }

    /// The log once a head covers all that it has, and it and both zones have signed heads of it. A zone signs when its token
    /// has its key and is asked in time: one that was late signs a later head.
    pub(crate) async fn audit_signed_by_all(&self, caller: &Caller, key: &str) -> Report {
        wait::until_async("the log and both zones have signed", wait::LONG, async || {
            caller.encrypt(key, b"a further head", &super::context(&[])).await.unwrap();
            Some(self.audit_settled()).filter(|report| report.signers.len() == 3)
        })
        .await
    }

    /// Waits until a call of this id is on record.
    pub(crate) fn wait_until_recorded(&self, id: &str) {
        let directory = self.site().audit_dir();
        wait::until(&format!("{id} is on record"), wait::LONG, || request_ids(&directory).contains(id).then_some(()));
    }

    /// `keystorectl audit verify` of its log.
    pub(crate) fn audit_verify(&self) -> tool::Ran {
        let directory = self.site().audit_dir();
        let keys = directory.join("keys.json");
        let arguments = ["audit", "verify", directory.to_str().unwrap(), "--keys", keys.to_str().unwrap()];
        tool::keystorectl([].into(), &arguments)
    }
}

/// Callers who encrypt and decrypt in turns, each call under an id of its own.
pub(crate) struct Witnesses {
    tasks: JoinSet<()>,
    stop: Arc<AtomicBool>,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    /// Of calls that had a result.
    answered: Mutex<BTreeSet<String>>,
    /// Of those that had none.
    failed: Mutex<Vec<Failure>>,
    count: AtomicUsize,
}

impl Witnesses {
    /// So many of them, with a name that no other has.
    pub(crate) fn start(caller: &Caller, key: &str, name: &str, callers: usize) -> Self {
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Seen::default()));
        let mut tasks = JoinSet::new();
        for number in 0..callers {
            let (caller, key, name) = (caller.with_deadline(DEADLINE), key.to_owned(), format!("{name}-{number}"));
            let (stop, seen) = (Arc::clone(&stop), Arc::clone(&seen));
            tasks.spawn(async move {
                for turn in 0_u64.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    seen.call(&caller, &key, &format!("{name}-{turn}")).await;
                }
            });
        }
        Self { tasks, stop, seen }
    }

    /// Waits until this many more calls had a result.
    pub(crate) async fn answered(&self, more: usize) {
        let aim = self.seen.count.load(Ordering::Relaxed) + more;
        wait::until_async("calls are answered", wait::LONG, async || {
            (self.seen.count.load(Ordering::Relaxed) >= aim).then_some(())
        })
        .await;
    }

    /// Waits until a call failed that began after this; how.
    pub(crate) async fn fails(&self) -> Failure {
        let before = self.seen.failed.lock().unwrap().len();
        wait::until_async("calls fail", wait::LONG, async || {
            // The next one may have begun before.
            self.seen.failed.lock().unwrap().get(before + 1).cloned()
        })
        .await
    }

    /// Ends them: the ids of all calls that had a result, and what became of the others.
    pub(crate) async fn stop(mut self) -> (BTreeSet<String>, Vec<Failure>) {
        self.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.tasks.join_next().await {
            ended.unwrap();
        }
        let seen = &self.seen;
        (std::mem::take(&mut *seen.answered.lock().unwrap()), std::mem::take(&mut *seen.failed.lock().unwrap()))
    }
}

impl Seen {
    async fn call(&self, caller: &Caller, key: &str, id: &str) {
        let encrypt = EncryptRequest { key_id: key.to_owned(), plaintext: b"seen".to_vec(), ..Default::default() };
        let id_of = |call: &str| format!("{id}-{call}");
        let mut request = caller.request(encrypt);
        request.metadata_mut().insert("x-request-id", MetadataValue::try_from(id_of("e")).unwrap());
        let Some(sealed) = self.noted(&id_of("e"), caller.crypto.clone().encrypt(request).await) else { return };
        let decrypt = DecryptRequest { ciphertext_blob: sealed.into_inner().ciphertext_blob, ..Default::default() };
        let mut request = caller.request(decrypt);
        request.metadata_mut().insert("x-request-id", MetadataValue::try_from(id_of("d")).unwrap());
        self.noted(&id_of("d"), caller.crypto.clone().decrypt(request).await);
    }

    fn noted<T>(&self, id: &str, outcome: Result<T, tonic::Status>) -> Option<T> {
        match outcome {
            Ok(answer) => {
                self.answered.lock().unwrap().insert(id.to_owned());
                self.count.fetch_add(1, Ordering::Relaxed);
                Some(answer)
            }
            Err(status) => {
                self.failed.lock().unwrap().push(status.into());
                None
            }
        }
    }
}
