//! Backups and restores that are broken off before and after every step.
//!
//! No HSM takes part: the configuration names another cluster than the key store's.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use model::clock::Clock;
use model::id::{ClusterId, HsmId, KeyId, KeyStoreId, KeyVersionId};
use store::backup::BackupStep;
use store::restore::RestoreStep;
use store::{Begun, Finished, NewKey, NewKeyStore, Store};

use super::{command, database, keystored};
use crate::harness::daemon::Site;
use crate::harness::tool;

/// A state directory with a key, a backup of it, and a key that came later, as a daemon that was killed left it.
struct Left {
    site: Site,
    backup: PathBuf,
    keys: [KeyId; 2],
}

impl Left {
    async fn prepare() -> Self {
        let site = Site::prepare().await;
        site.configure(|config| config["cluster"][0]["id"] = "cluster-zzzzzzzzzzz".into());
        let (file, clock) = (database(&site), Clock::system());
        let backup = site.path().join("backup.db");
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        let store = Store::open(&file, clock).await.unwrap();
        let new = NewKeyStore {
            id: KeyStoreId::random(),
            name: "main".into(),
            cluster: ClusterId::parse("cluster-abcdefghijk").unwrap(),
            trust_anchor: "PEM".into(),
            pins: Vec::new(),
            maker: None,
        };
        let id = store.create_key_store(new).await.unwrap();
        use model::key_store::Event;
        for event in [Event::Connect, Event::ConnectSucceeded] {
            store.advance_key_store(&id, event, None, false).await.unwrap();
        }
        let first = key(&store, &id).await;
        keystored(&site, "backup", &[backup.as_os_str()]).ok();
        let later = key(&store, &id).await;
        let crashed = site.path().join("crashed");
        copy(&site.path().join("state"), &crashed);
        store.close().await;
        Self { site, backup, keys: [first, later] }
    }

    /// Puts it back as it was left.
    fn again(&self) {
        let state = self.site.path().join("state");
        fs::remove_dir_all(&state).unwrap();
        copy(&self.site.path().join("crashed"), &state);
    }

    async fn holds(&self) -> BTreeSet<KeyId> {
        let store = Store::open(&database(&self.site), Clock::system()).await.unwrap();
        let keys = store.catalogue().keys().map(|key| key.id).collect();
        store.close().await;
        keys
    }
}

async fn key(store: &Store, key_store: &KeyStoreId) -> KeyId {
    let hsms: [HsmId; 1] = ["hsm-a".into()];
    let Begun::New(key) = store.begin_key(NewKey::new(key_store, &hsms), None).await.unwrap() else {
        panic!("it is new")
    };
    let version = KeyVersionId { key, version: 1 };
    let proof = ([0; 12], bytes::Bytes::from_static(b"proof"));
    let finished = Finished { version, proof, proven: hsms.to_vec(), reserve: 0 };
    store.finish_version(finished).await.unwrap();
    key
}

fn copy(from: &Path, to: &Path) {
    tool::run(Command::new("cp").arg("-a").arg(from).arg(to)).ok();
}

/// The point was passed: the process aborted.
#[track_caller]
fn aborts(left: &Left, point: &str, verb: &str, arguments: &[&std::ffi::OsStr]) {
    let mut command = command(&left.site, verb, arguments);
    let ran = tool::run(command.env("KEYSTORED_ABORT_AT", point));
    assert_eq!(ran.code, None, "{point} was not passed: {ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_that_is_broken_off_is_done_or_not_begun() {
    let left = Left::prepare().await;
    let restored = BTreeSet::from([left.keys[0]]);
    let both = BTreeSet::from(left.keys);
    let mut decided = false;
    for step in RestoreStep::ALL {
        for side in ["before", "after"] {
            decided |= (*step, side) == (RestoreStep::Decide, "after");
            let point = format!("{}.{side}", step.name());
            let arguments = [left.backup.as_os_str(), "--yes".as_ref()];
            // What comes next is a start of the daemon.
            left.again();
            aborts(&left, &point, "restore", &arguments);
            assert_eq!(left.holds().await, if decided { restored.clone() } else { both.clone() }, "{point}");
            let names: Vec<_> = fs::read_dir(left.site.path().join("state")).unwrap().flatten().collect();
            let is = |part: &str| names.iter().any(|entry| entry.file_name().to_string_lossy().contains(part));
            assert_eq!((is(".restore"), is(".before-")), (false, decided), "{point}: {names:?}");
            // Or another restore. A backup or a check in between says what to do.
            left.again();
            aborts(&left, &point, "restore", &arguments);
            if decided && point != "restore.clear.after" {
                let refused = keystored(&left.site, "backup", &[left.site.path().join("none").as_os_str()]);
                assert!(refused.err.contains("keystored restore` again, finishes it"), "{point}: {refused:?}");
            }
            let again = keystored(&left.site, "restore", &arguments).ok();
            assert_eq!(
                again.contains("broken off is finished now"),
                decided && point != "restore.clear.after",
                "{point}: {again}"
            );
            assert_eq!(left.holds().await, restored, "{point}: {again}");
        }
    }
    assert!(decided);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_broken_off_is_none() {
    let left = Left::prepare().await;
    left.again();
    for step in BackupStep::ALL {
        for side in ["before", "after"] {
            let point = format!("{}.{side}", step.name());
            let target = left.site.path().join(format!("of-{point}"));
            aborts(&left, &point, "backup", &[target.as_os_str()]);
            assert_eq!(target.exists(), point == "backup.publish.after", "{point}");
            if !target.exists() {
                keystored(&left.site, "backup", &[target.as_os_str()]).ok();
            }
            let told = keystored(&left.site, "restore", &[target.as_os_str()]);
            assert_eq!(told.code, Some(3), "{point}: {told:?}");
        }
    }
    for entry in fs::read_dir(left.site.path()).unwrap().flatten() {
        if entry.file_name().to_string_lossy().starts_with("of-") {
            assert_eq!(entry.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{entry:?}");
        }
    }
    assert_eq!(left.holds().await, BTreeSet::from(left.keys));
}
