//! Backups beside a running daemon, and what becomes of a database that somebody copies into the place of another.

mod restore;
mod steps;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use proto::v1::KeyState;

use crate::harness::daemon::{Daemon, Site};
use crate::harness::tool::{self, Ran};
use crate::harness::{Caller, context, wait};

pub(crate) fn database(site: &Site) -> PathBuf {
    site.path().join("state/keystored.db")
}

fn beside(path: &Path, what: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(what);
    name.into()
}

/// A verb of keystored with a site's configuration, to its end.
fn keystored(site: &Site, verb: &str, arguments: &[&OsStr]) -> Ran {
    tool::run(&mut command(site, verb, arguments))
}

fn command(site: &Site, verb: &str, arguments: &[&OsStr]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keystored"));
    command.arg(verb).arg("--config").arg(site.config_file()).args(arguments);
    command
}

/// Every file of a state directory but the locks, with what is in it.
fn files(site: &Site) -> BTreeMap<PathBuf, Vec<u8>> {
    let entries = fs::read_dir(site.path().join("state")).unwrap().map(|entry| entry.unwrap().path());
    let kept = entries.filter(|path| path.extension() != Some(OsStr::new("lock")));
    kept.map(|path| (path.clone(), fs::read(&path).unwrap_or_else(|error| error.to_string().into_bytes()))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_under_load_are_whole_and_disturb_nobody() {
    let daemon = Daemon::start().await;
    let caller = daemon.caller().await.with_deadline(wait::LONG);
    let stop = Arc::new(AtomicBool::new(false));
    let making: Vec<_> = (0..3)
        .map(|number: usize| {
            let (caller, stop) = (caller.clone(), Arc::clone(&stop));
            tokio::spawn(async move {
                let mut made = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    let key = caller.create_key(&number.to_string()).await;
                    let sealed = caller.encrypt(&key, key.as_bytes(), &context(&[])).await.unwrap();
                    made.push((key, sealed));
                }
                made
            })
        })
        .collect();
    let mut before = Vec::new();
    let targets: Vec<PathBuf> = (0..4).map(|number| daemon.site().path().join(format!("backup-{number}"))).collect();
    for target in &targets {
        // Whatever was answered before the backup was asked for is in it.
        let key = caller.create_key("before").await;
        let sealed = caller.encrypt(&key, key.as_bytes(), &context(&[])).await.unwrap();
        before.push((key, sealed));
        let ran = keystored(daemon.site(), "backup", &[target.as_os_str()]);
        assert_eq!(ran.code, Some(0), "{ran:?}");
        assert!(ran.out.contains("looked through and on the disk"), "{ran:?}");
        assert_eq!(fs::metadata(target).unwrap().permissions().mode() & 0o777, 0o600);
    }
    stop.store(true, Ordering::Relaxed);
    let mut made = Vec::new();
    for task in making {
        made.extend(task.await.unwrap());
    }
    assert!(made.len() > 3, "{} keys", made.len());
    let again = keystored(daemon.site(), "backup", &[targets[0].as_os_str()]);
    assert!(again.code == Some(1) && again.err.contains("nothing is overwritten"), "{again:?}");

    let site = daemon.crash();
    let restored = keystored(&site, "restore", &[targets[2].as_os_str(), "--yes".as_ref()]);
    assert_eq!(restored.code, Some(0), "{restored:?}");
    let daemon = site.launch();
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    daemon.wait_until_healthy_for(&caller).await;
    for (key, sealed) in &before[..3] {
        assert_eq!(caller.decrypt(sealed, &context(&[])).await.unwrap(), key.as_bytes());
    }
    let error = caller.describe_key(&before[3].0).await.unwrap_err();
    assert_eq!(error.reason, "NotFoundException", "{error:?}");
    // Those that it caught half made are finished, and nothing that it holds is broken.
    let mut known = 0;
    for (key, sealed) in &made {
        if caller.describe_key(key).await.is_err() {
            continue;
        }
        known += 1;
        wait::until_async("a key that was being made is finished", wait::LONG, async || {
            let state = caller.describe_key(key).await.map(|key| key.key_state());
            // One that had nothing in any token yet is gone.
            state.map_or(Some(()), |state| (state == KeyState::Enabled).then_some(()))
        })
        .await;
        if caller.describe_key(key).await.is_ok() {
            assert_eq!(caller.decrypt(sealed, &context(&[])).await.unwrap(), key.as_bytes());
        }
    }
    assert!(known > 0, "the backup holds none of {}", made.len());
}

/// So many changes that SQLite writes its log into the file on the way.
async fn many_changes(caller: &Caller, key: &str) {
    for _ in 0..250 {
        caller.switch_key(key, false).await.unwrap();
        caller.switch_key(key, true).await.unwrap();
    }
}

/// The daemon does not come up, says this, and changes nothing.
#[track_caller]
fn refuses_to_start(site: &Site, says: &str) {
    let before = files(site);
    let ran = keystored(site, "serve", &[]);
    assert!(ran.code.is_some_and(|code| code != 0), "{says}: {ran:?}");
    for word in [says, "keystored restore --config"] {
        assert!(ran.err.contains(word), "{word}: {ran:?}");
    }
    assert!(before == files(site), "{says}: {:?} became {:?}", before.keys(), files(site).keys());
}

/// Before this was looked at: "database disk image is malformed" and a damaged file, or, with few changes, a daemon that
/// went on as if nothing had been restored.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_was_copied_over_a_crashed_one_by_hand_is_refused() {
    for many in [true, false] {
        let daemon = Daemon::start().await;
        let kept = daemon.caller().await.create_key("kept").await;
        let site = daemon.terminate().1;
        let (file, copy) = (database(&site), site.path().join("copy.db"));
        fs::copy(&file, &copy).unwrap();
        let daemon = site.start().await;
        let caller = daemon.caller().await;
        let live = daemon.site().path().join("live.db");
        fs::copy(&file, &live).unwrap();
        let later = caller.create_key("later").await;
        if many {
            many_changes(&caller, &later).await;
        }
        let backup = daemon.site().path().join("backup.db");
        assert_eq!(keystored(daemon.site(), "backup", &[backup.as_os_str()]).code, Some(0));
        let site = daemon.crash();
        let left = site.path().join("left");
        tool::run(Command::new("cp").arg("-a").arg(site.path().join("state")).arg(&left)).ok();
        for (what, source) in [("stopped", &copy), ("running", &live), ("backup", &backup)] {
            for over in ["cp", "mv", "rm -f $2-wal $2-shm; cp"] {
                let script = match over {
                    "mv" => "cp -p $1 $1.moved && mv $1.moved $2".to_owned(),
                    over => format!("{over} $1 $2"),
                };
                tool::run(Command::new("sh").args(["-ec", &script, "sh"]).arg(source).arg(&file)).ok();
                refuses_to_start(&site, if what == "backup" { "it is a backup" } else { "copied here by hand" });
                // As the crash left it, times included.
                fs::remove_dir_all(site.path().join("state")).unwrap();
                tool::run(Command::new("cp").arg("-a").arg(&left).arg(site.path().join("state"))).ok();
            }
        }
        // A record that is gone, and the way out for files that somebody moved: the same command, with the file in place.
        fs::remove_file(beside(&file, ".id")).unwrap();
        refuses_to_start(&site, "keystored.db.id");
        let taken = keystored(&site, "restore", &[file.as_os_str(), "--yes".as_ref()]);
        assert!(taken.code == Some(0) && taken.out.contains("this very file"), "{taken:?}");
        let daemon = site.start().await;
        let caller = daemon.caller().await;
        for key in [&kept, &later] {
            caller.encrypt(key, b"works", &context(&[])).await.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_is_killed_at_any_time_starts_again() {
    let mut site = Site::prepare().await;
    let mut keys = Vec::new();
    for aim in [1, 20, 150, 400] {
        let daemon = site.start().await;
        let caller = daemon.caller().await;
        let key = caller.create_key("over all crashes").await;
        keys.push(key.clone());
        let done = Arc::new(AtomicUsize::new(0));
        let toggling = tokio::spawn({
            let (caller, done) = (caller.clone(), Arc::clone(&done));
            // Until the daemon is gone.
            async move {
                while caller.switch_key(&key, done.load(Ordering::Relaxed) % 2 == 1).await.is_ok() {
                    done.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        wait::until("changes are under way", wait::LONG, || (done.load(Ordering::Relaxed) >= aim).then_some(()));
        site = daemon.crash();
        toggling.await.unwrap();
    }
    let daemon = site.start().await;
    let caller = daemon.caller().await;
    for key in keys {
        caller.describe_key(&key).await.unwrap();
    }
}
