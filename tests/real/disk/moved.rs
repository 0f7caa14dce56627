//! Somebody tidies up in the state directory while the daemon runs.

use std::fs;
use std::os::unix::fs::MetadataExt;

use tonic::Code;

use super::{keys, readiness};
use crate::backup::database;
use crate::harness::daemon::Site;
use crate::harness::{context, wait};

#[tokio::test(flavor = "multi_thread")]
async fn what_is_moved_is_missed_at_once_and_what_was_removed_is_lost_to_nobody() {
    let daemon = Site::prepare().await.start().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("in the log").await;
    let ciphertext = caller.encrypt(&key, b"kept", &context(&[])).await.unwrap();
    let file = database(daemon.site());
    let log = file.with_file_name("keystored.db-wal");

    // Nothing is changed meanwhile, and a crash comes as soon as there is another log.
    let before = fs::metadata(&log).unwrap().ino();
    let kept = fs::File::open(&log).unwrap();
    fs::remove_file(&log).unwrap();
    wait::until("there is another log", wait::LONG, || {
        fs::metadata(&log).ok().filter(|found| found.ino() != before).map(drop)
    });
    drop(kept);
    let shown = keys(&caller).await;
    let daemon = daemon.crash().start().await;
    let caller = daemon.caller().await;
    assert_eq!(keys(&caller).await, shown);

    let aside = file.with_file_name("moved");
    fs::rename(&file, &aside).unwrap();
    let refused = caller.try_create_key("has no place", "").await.unwrap_err();
    assert_eq!((refused.code, refused.retryable), (Code::Unavailable, true), "{refused:?}");
    let says = ["was moved or removed", "put it back"];
    assert!(says.iter().all(|words| refused.message.contains(words)), "{refused:?}");
    assert_eq!(caller.decrypt(&ciphertext, &context(&[])).await.unwrap(), b"kept");
    wait::until("it is told", wait::LONG, || {
        let (code, report) = readiness(&daemon);
        assert_eq!(code, 200, "{report}");
        report["reasons"].to_string().contains("was moved or removed").then_some(())
    });
    assert!(!file.exists(), "none was made in its place");
    fs::rename(&aside, &file).unwrap();
    wait::until("nothing is wrong any more", wait::LONG, || (readiness(&daemon).1["status"] == "ready").then_some(()));
    caller.create_key("has a place").await;
    let shown = keys(&caller).await;
    assert_eq!(shown.len(), 2);
    let daemon = daemon.crash().start().await;
    assert_eq!(keys(&daemon.caller().await).await, shown);
}
