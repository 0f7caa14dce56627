//! Somebody puts something else in the place of the log's files: nothing hangs, nothing is believed, it is told, and it passes.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use rustix::fs::{CWD, FileType, Mode, RenameFlags, mknodat, renameat_with};

use super::disk::is_retryable;
use super::{wait_until_sound, wait_until_unready};
use crate::harness::audit::{Witnesses, request_ids};
use crate::harness::tool::keystorectl;
use crate::harness::{Daemon, context, wait};

fn pipe(path: &Path) {
    mknodat(CWD, path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn at_a_start_it_is_told_and_waited_for() {
    let mut daemon = Daemon::start().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("kept").await;
    let ciphertext = caller.encrypt(&key, b"kept", &context(&[])).await.unwrap();
    let directory = daemon.site().audit_dir();
    let aside = directory.with_file_name("aside");
    for (name, planted, told) in [
        ("checkpoint", "pipe", "not a regular file"),
        ("checkpoint", "folder", "not a regular file"),
        ("checkpoint", "link", "checkpoint"),
        ("journal", "link", "journal"),
        ("journal", "pipe", "journal"),
        ("", "link to itself", "cannot be looked at"),
    ] {
        let site = daemon.terminate().1;
        let path = if name.is_empty() { directory.clone() } else { directory.join(name) };
        fs::rename(&path, &aside).unwrap();
        match planted {
            "pipe" => pipe(&path),
            "folder" => fs::create_dir(&path).unwrap(),
            "link to itself" => symlink(&path, &path).unwrap(),
            // To what it was: also that is not followed.
            _ => symlink(&aside, &path).unwrap(),
        }
        daemon = site.launch();
        wait::until("it listens", wait::LONG, || daemon.ops("/readyz"));
        wait_until_unready(&daemon, told);
        let refused = daemon.caller().await.decrypt(&ciphertext, &context(&[])).await.unwrap_err();
        assert!(refused.retryable, "{planted} as {name}: {refused:?}");
        // In one step: the daemon tries to open it all the while.
        renameat_with(CWD, &aside, CWD, &path, RenameFlags::EXCHANGE).unwrap();
        match planted {
            "folder" => fs::remove_dir(&aside).unwrap(),
            _ => fs::remove_file(&aside).unwrap(),
        }
        wait_until_sound(&daemon);
        let caller = daemon.caller().await;
        daemon.wait_until_healthy_for(&caller).await;
        assert_eq!(caller.decrypt(&ciphertext, &context(&[])).await.unwrap(), b"kept", "{planted} as {name}");
    }
    daemon.audit_settled();
    let checked = daemon.audit_verify();
    assert_eq!(checked.code, Some(0), "{checked:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn while_it_runs_it_is_put_right_or_told() {
    let daemon = Daemon::start().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("used").await;
    let directory = daemon.site().audit_dir();
    let keys = directory.join("keys.json");
    wait::until("the keys are written", wait::LONG, || keys.exists().then_some(()));
    let witnesses = Witnesses::start(&caller, &key, "planted", 2);
    witnesses.answered(20).await;

    // The file of public keys says again what it has said, and what was no such file is kept.
    let is_whole = || fs::symlink_metadata(&keys).is_ok_and(|found| found.is_file() && found.len() > 100);
    // What is put in a place is made beside it: the daemon may write to the place at any moment.
    let beside = directory.with_file_name("beside");
    for planted in ["nothing", "damaged", "pipe", "link"] {
        match planted {
            "damaged" => fs::write(&beside, "{").unwrap(),
            "pipe" => pipe(&beside),
            "link" => symlink("/dev/zero", &beside).unwrap(),
            _ => {}
        }
        match planted {
            "nothing" => fs::remove_file(&keys).unwrap(),
            _ => fs::rename(&beside, &keys).unwrap(),
        }
        wait::until(&format!("it is whole again after {planted}"), wait::LONG, || is_whole().then_some(()));
    }
    assert!(fs::symlink_metadata(directory.join("keys.json.apart")).is_ok());

    // The journal is a pipe that would hold whoever opens it: it is written again beside that.
    let journal = directory.join("journal");
    let file = fs::read_dir(&journal).unwrap().map(|entry| entry.unwrap().path()).max().unwrap();
    pipe(&beside);
    fs::rename(&beside, &file).unwrap();
    witnesses.answered(50).await;
    wait_until_sound(&daemon);

    // The folder of the journal is a pipe: nothing can be written until it is gone.
    let exchange = || renameat_with(CWD, &beside, CWD, &journal, RenameFlags::EXCHANGE).unwrap();
    pipe(&beside);
    exchange();
    is_retryable(&witnesses.fails().await);
    wait_until_unready(&daemon, "the audit log");
    exchange();
    fs::remove_file(&beside).unwrap();
    witnesses.answered(50).await;
    wait_until_sound(&daemon);

    let (answered, _) = witnesses.stop().await;
    daemon.audit_settled();
    assert_eq!(answered.difference(&request_ids(&directory)).next(), None);
    let checked = daemon.audit_verify();
    assert_eq!(checked.code, Some(0), "{checked:?}");

    // Whoever checks is held by nothing either.
    let (trusted, directory) = (directory.with_file_name("trusted.json"), directory.to_str().unwrap().to_owned());
    fs::copy(&keys, &trusted).unwrap();
    let site = daemon.terminate().1;
    for name in ["keys.json", "checkpoint"] {
        let path = site.audit_dir().join(name);
        fs::remove_file(&path).unwrap();
        pipe(&path);
    }
    for arguments in [
        &["verify", &directory, "--keys", trusted.to_str().unwrap()][..],
        &["keys", &directory],
        &["head", &directory],
        &["prove", &directory, "1"],
    ] {
        let ran = keystorectl([].into(), &[&["audit"], arguments].concat());
        assert_eq!(ran.code, Some(5), "{arguments:?}: {ran:?}");
    }
}
