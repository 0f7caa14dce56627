//! Somebody tidies up in the audit log's directory while the daemon runs.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::{wait_until_sound, wait_until_unready};
use crate::harness::audit::{Witnesses, request_ids};
use crate::harness::{Daemon, wait};

/// The newest file of the journal.
fn journal(directory: &Path) -> PathBuf {
    let files = fs::read_dir(directory.join("journal")).unwrap().map(|entry| entry.unwrap().path());
    let named =
        files.filter(|path| path.file_name().unwrap().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()));
    named.max().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_given_out_without_its_record_whatever_is_done_to_its_files() {
    let daemon = Daemon::start().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("used").await;
    let directory = daemon.site().audit_dir();
    let aside = directory.with_file_name("aside");
    let witnesses = Witnesses::start(&caller, &key, "moved", 4);
    witnesses.answered(50).await;

    // Unlinked: what was in it is still there for who has it open, and is written anew.
    let file = journal(&directory);
    let was = fs::metadata(&file).unwrap().ino();
    fs::remove_file(&file).unwrap();
    wait::until("there is a journal again", wait::LONG, || {
        let found = fs::read_dir(directory.join("journal")).ok()?.flatten();
        let inodes: Vec<u64> = found.filter_map(|entry| Some(entry.metadata().ok()?.ino())).collect();
        (!inodes.is_empty() && !inodes.contains(&was)).then_some(())
    });
    witnesses.answered(50).await;
    wait_until_sound(&daemon);

    // Moved, and another one in its place.
    let file = journal(&directory);
    fs::rename(&file, &aside).unwrap();
    fs::write(&file, b"somebody else's").unwrap();
    witnesses.answered(50).await;
    wait_until_sound(&daemon);
    fs::remove_file(&aside).unwrap();

    // The directory is away for a while.
    fs::rename(&directory, &aside).unwrap();
    let refused = witnesses.fails().await;
    assert!(refused.retryable, "{refused:?}");
    wait_until_unready(&daemon, "the directory of the audit log is gone");
    assert!(!directory.exists(), "none was made in its place");
    fs::rename(&aside, &directory).unwrap();
    witnesses.answered(50).await;
    wait_until_sound(&daemon);

    // Another one in its place.
    fs::rename(&directory, &aside).unwrap();
    fs::create_dir(&directory).unwrap();
    wait_until_unready(&daemon, "another directory is where the audit log was");
    fs::remove_dir_all(&directory).unwrap();
    fs::rename(&aside, &directory).unwrap();
    witnesses.answered(50).await;
    wait_until_sound(&daemon);

    let (answered, _) = witnesses.stop().await;
    let report = daemon.audit_settled();
    assert!(report.head.size > 200, "{report:#?}");
    assert_eq!(answered.difference(&request_ids(&directory)).next(), None);
    // And a crash finds it in order.
    let daemon = daemon.crash().launch();
    daemon.wait_until_ready();
    daemon.audit_settled();
    assert_eq!(answered.difference(&request_ids(&directory)).next(), None);
}
