//! A log that is lost, or older than the database knows it: nothing is signed in its place unless somebody says so.

use std::fs;
use std::process::Command;

use super::{readiness, wait_until_sound, wait_until_unready};
use crate::harness::audit::{records, verified};
use crate::harness::daemon::Site;
use crate::harness::{Daemon, context, tool};

/// A verb of keystored with a site's configuration, to its end.
fn keystored(site: &Site, verb: &[&str], arguments: &[&std::ffi::OsStr]) -> tool::Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_keystored"));
    tool::run(command.args(verb).arg("--config").arg(site.config_file()).args(arguments))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_gone_is_not_begun_again_in_silence() {
    let daemon = Daemon::start().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("kept").await;
    let ciphertext = caller.encrypt(&key, b"kept", &context(&[])).await.unwrap();
    let refused = keystored(daemon.site(), &["audit", "new-log"], &[]);
    assert_ne!(refused.code, Some(0), "beside a daemon: {refused:?}");
    let site = daemon.terminate().1;
    let directory = site.audit_dir();
    let aside = directory.with_file_name("aside");
    fs::rename(&directory, &aside).unwrap();

    let launched = async |site: Site, says: &str| {
        let daemon = site.launch();
        crate::harness::wait::until("it listens", crate::harness::wait::LONG, || daemon.ops("/readyz"));
        wait_until_unready(&daemon, says);
        let refused = daemon.caller().await.decrypt(&ciphertext, &context(&[])).await.unwrap_err();
        assert!(refused.retryable, "{refused:?}");
        daemon
    };
    // Gone, empty, and with nothing but the beginning of what was signed.
    let daemon = launched(site, "is gone; put it back, or begin a new log").await;
    assert!(!directory.exists(), "none was made in its place");
    let site = daemon.terminate().1;
    fs::create_dir(&directory).unwrap();
    let daemon = launched(site, "keystored audit new-log").await;
    // Put back while the daemon runs, it is found.
    fs::remove_dir(&directory).unwrap();
    fs::rename(&aside, &directory).unwrap();
    wait_until_sound(&daemon);
    assert_eq!(daemon.caller().await.decrypt(&ciphertext, &context(&[])).await.unwrap(), b"kept");
    let report = daemon.audit_settled();

    // With a new one the service goes on, and the former one is checked as before.
    let site = daemon.terminate().1;
    let begun = keystored(&site, &["audit", "new-log"], &[]);
    assert_eq!(begun.code, Some(0), "{begun:?}");
    assert!(begun.out.contains("/2.") && begun.out.contains("were set aside in"), "{begun:?}");
    let former = fs::read_dir(site.path()).unwrap().map(|entry| entry.unwrap().path());
    let former = former.into_iter().find(|path| path.to_string_lossy().contains("audit.until-")).unwrap();
    assert!(verified(&former).head.size >= report.head.size);
    let daemon = site.launch();
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    daemon.wait_until_healthy_for(&caller).await;
    assert_eq!(caller.decrypt(&ciphertext, &context(&[])).await.unwrap(), b"kept");
    let anew = daemon.audit_settled();
    assert!(anew.origin.ends_with("/2") && anew.origin != report.origin, "{anew:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_database_goes_on_with_the_log_of_now() {
    let daemon = Daemon::start().await;
    let caller = daemon.caller().await;
    caller.create_key("before the backup").await;
    let backup = daemon.site().path().join("backup.db");
    let made = keystored(daemon.site(), &["backup"], &[backup.as_os_str()]);
    assert_eq!(made.code, Some(0), "{made:?}");
    caller.create_key("after the backup").await;
    let site = daemon.terminate().1;
    let before = records(&site.audit_dir()).len();
    let mut command = Command::new(env!("CARGO_BIN_EXE_keystored"));
    let restored = tool::run(command.args(["restore", "--yes", "--config"]).arg(site.config_file()).arg(&backup));
    assert_eq!(restored.code, Some(0), "{restored:?}");
    assert!(restored.out.contains("the audit log's newest head"), "{restored:?}");
    let daemon = site.launch();
    daemon.wait_until_ready();
    assert_eq!(readiness(&daemon).0, 200);
    daemon.caller().await.key_stores().await;
    assert!(daemon.audit_settled().head.size > before as u64);

    // Of before there was any log: the directory is of a log that it does not know.
    let site = daemon.terminate().1;
    fs::rename(site.path().join("state"), site.path().join("state.aside")).unwrap();
    let daemon = site.launch();
    crate::harness::wait::until("it listens", crate::harness::wait::LONG, || daemon.ops("/readyz"));
    wait_until_unready(&daemon, "holds an audit log that this database knows nothing of");
}
