//! What must be as before when the faults are over.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use model::clock::Clock;
use proto::v1::{HsmHealth, IncludeKeyMaterial, KeyState, ListKeyRotationsRequest, ListKeysRequest, PlacementState};

use crate::harness::zone::{Zone, object_id};
use crate::harness::{Caller, Daemon, process, wait};

/// How long after the last fault everything must be healthy, by itself.
pub(super) const RECOVERY: Duration = Duration::from_secs(10);
/// How long something may take: as long as is promised where these runs have the machine for themselves (`make chaos`, `make soak`),
/// and some times as long where other tests want the processors.
pub(super) fn patience(promised: Duration) -> Duration {
    let alone = ["CHAOS_SEEDS", "SOAK_SECONDS"].iter().any(|name| std::env::var_os(name).is_some());
    if alone { promised } else { 6 * promised }
}

/// File descriptors that may be more than before: a connection to the ops port that is being closed.
const FILES: usize = 2;
/// Threads that may be more: the runtime keeps those that waited for a file or the database for ten seconds, and starts as
/// many as work comes at once.
const THREADS: u64 = 4;
/// What the daemon's memory may grow by over the second half of a run. Within the first, queues, the allocator's pages for
/// each thread and the log's buffers reach their size. What is left was 0 to 0.2 MiB in most runs; a leak of a quarter of a kB
/// a call would be more than this over the 15,000 calls of half a run.
const GROWTH_KB: u64 = 3 * 1024;
/// How often the memory is looked at.
const SAMPLE: Duration = Duration::from_millis(100);

/// What a daemon holds of the system.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    files: usize,
    threads: u64,
    processes: usize,
}

impl Held {
    pub(super) fn by(daemon: &Daemon) -> Self {
        let pid = daemon.pid();
        Self {
            files: process::files(pid),
            threads: process::status(pid, "Threads").unwrap(),
            processes: process::children(pid).len(),
        }
    }

    /// Waits until a daemon holds no more than before.
    pub(super) async fn is_held_again(self, daemon: &Daemon) {
        let mut now = Self::by(daemon);
        let deadline = Clock::system().now() + wait::LONG / 2;
        let back = wait::until_async("the daemon holds what it held before", wait::LONG, async || {
            now = Self::by(daemon);
            let back = now.files <= self.files + FILES
                && now.threads <= self.threads + THREADS
                && now.processes == self.processes;
            (back || Clock::system().now() > deadline).then_some(back)
        });
        assert!(back.await, "before the faults the daemon held {self:?}, and now {now:?}");
    }
}

/// Follows a daemon's memory.
pub(super) struct Memory {
    samples: Arc<Mutex<Vec<(Instant, u64)>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Memory {
    pub(super) fn follow(pid: u32) -> Self {
        let samples = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&samples);
        let task = tokio::spawn(async move {
            let clock = Clock::system();
            while let Some(resident) = process::status(pid, "VmRSS") {
                kept.lock().unwrap().push((clock.now(), resident));
                wait::pass(SAMPLE).await;
            }
        });
        Self { samples, task }
    }

    /// By how many kB more the daemon holds at the end of the run than in its middle.
    pub(super) fn growth(self) -> u64 {
        self.task.abort();
        let samples = self.samples.lock().unwrap();
        let all = samples.len();
        assert!(all >= 20, "{all} samples");
        // A tenth of the run each; the median, because a single batch makes a peak.
        let median = |from: usize, to: usize| {
            let mut some: Vec<u64> = samples[from..to].iter().map(|(_, resident)| *resident).collect();
            some.sort_unstable();
            some[some.len() / 2]
        };
        let growth = median(all - all / 10, all).saturating_sub(median(all / 2, all / 2 + all / 10));
        assert!(growth <= GROWTH_KB, "the daemon's memory grew by {growth} kB over the second half of the run");
        growth
    }
}

/// Whether an HSM is healthy with every worker ready, so that none is inside a login. In the order of the zones.
pub(super) async fn complete(daemon: &Daemon, caller: &Caller) -> Vec<bool> {
    let mut complete = vec![false; daemon.zones.len()];
    let Some((_, report)) = daemon.ops("/readyz") else { return complete };
    let Ok(report) = serde_json::from_str::<serde_json::Value>(&report) else { return complete };
    let control: BTreeMap<&str, bool> = report["hsms"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|hsm| Some((hsm["hsm"].as_str()?, hsm["control_worker"] == true)))
        .collect();
    let hsms = caller.hsms().await.unwrap();
    for (zone, complete) in daemon.zones.iter().zip(&mut complete) {
        let data = hsms.iter().find(|hsm| hsm.hsm_id == zone.hsm).is_some_and(|hsm| {
            hsm.health() == HsmHealth::Healthy && hsm.ready_workers == hsm.workers && hsm.workers > 0
        });
        *complete = data && control.get(zone.hsm.as_str()) == Some(&true);
    }
    complete
}

/// Whether an HSM serves nobody: none of its data workers is ready.
pub(super) async fn is_out_of_service(caller: &Caller, zone: &Zone) -> bool {
    let hsms = caller.hsms().await.unwrap();
    hsms.iter().any(|hsm| hsm.hsm_id == zone.hsm && hsm.ready_workers == 0 && hsm.health() != HsmHealth::Healthy)
}

/// What the service says of an HSM.
pub(super) async fn reason(caller: &Caller, hsm: &str) -> String {
    let hsms = caller.hsms().await.unwrap();
    hsms.into_iter().find(|known| known.hsm_id == hsm).unwrap().reason
}

/// How each HSM says that it is.
pub(super) async fn states(caller: &Caller) -> String {
    let line = |hsm: proto::v1::HsmStatus| {
        let (ready, workers, tries) = (hsm.ready_workers, hsm.workers, hsm.pin_tries_left);
        format!("{} {:?}, {ready} of {workers} workers, {tries} tries: {}", hsm.hsm_id, hsm.health(), hsm.reason)
    };
    caller.hsms().await.unwrap().into_iter().map(line).collect::<Vec<_>>().join("\n")
}

/// The service lists these keys and no others.
pub(super) async fn list_is(caller: &Caller, keys: &[String]) {
    let request = caller.request(ListKeysRequest { limit: Some(1_000), ..Default::default() });
    let listed = caller.keys.clone().list_keys(request).await.unwrap().into_inner().keys;
    let mut listed: Vec<String> = listed.into_iter().map(|key| key.key_id).collect();
    let mut expected = keys.to_vec();
    listed.sort_unstable();
    expected.sort_unstable();
    assert_eq!(listed, expected, "the keys that the service lists, and those that were made");
}

/// Every key is Enabled and in every zone, where its object is there exactly once.
pub(super) async fn keys_are_whole(daemon: &Daemon, caller: &Caller, keys: &[String]) {
    let clock = Clock::system();
    // A zone that was troubled when a key was made is filled when it is back.
    let deadline = clock.now() + patience(RECOVERY);
    for key in keys {
        wait::until_async("a key is in every zone", 2 * patience(RECOVERY), async || {
            let metadata = caller.describe_key(key).await.unwrap();
            let present = metadata.placements.iter().filter(|placed| placed.state() == PlacementState::Present).count();
            let whole = metadata.key_state() == KeyState::Enabled && present == daemon.zones.len();
            assert!(whole || clock.now() < deadline, "{key} is not Enabled in every zone: {metadata:?}");
            whole.then_some(())
        })
        .await;
    }
    let mut expected = Vec::new();
    for key in keys {
        let request = ListKeyRotationsRequest {
            key_id: key.clone(),
            include_key_material: IncludeKeyMaterial::AllKeyMaterial.into(),
            limit: Some(1_000),
            ..Default::default()
        };
        let rotations = caller.keys.clone().list_key_rotations(caller.request(request)).await.unwrap();
        expected.extend(rotations.into_inner().rotations.iter().map(|one| object_id(key, one.version)));
    }
    for zone in &daemon.zones {
        let objects = objects(zone);
        for id in &expected {
            let count = objects.iter().filter(|object| *object == id).count();
            assert_eq!(count, 1, "objects with the id {id} in zone {}: {objects:?}", zone.name);
        }
        // The ceremony's own keys have no id of a key version.
        let versions = objects.iter().filter(|id| id.len() == expected[0].len()).count();
        assert_eq!(versions, expected.len(), "zone {} holds keys that nobody has: {objects:?}", zone.name);
    }
}

/// A zone as it is without its faults.
fn real(zone: &Zone) -> Zone {
    Zone { module: zone.env["CHAOS_HSM_MODULE"].clone().into(), ..zone.clone() }
}

/// What a zone's token says of its user.
pub(super) fn flags(zone: &Zone) -> String {
    real(zone).flags()
}

/// CKA_ID of each secret key in a zone's token, as another program sees it through the real module.
fn objects(zone: &Zone) -> Vec<String> {
    let listed = real(zone).pkcs11_tool(&["--list-objects", "--type", "secrkey"]);
    listed.lines().filter_map(|line| line.trim().strip_prefix("ID:")).map(|id| id.trim().to_owned()).collect()
}
