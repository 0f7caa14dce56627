//! The log's directory is somewhere else for a while: nobody is told that the log is empty, and nothing is written into what has
//! its place. And what a sink has passed on when the daemon ends is not passed on again.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use proto::v1::ListAuditRecordsRequest;

use super::disk::is_retryable;
use super::follow::{Follower, encryptions};
use super::{wait_until_sound, wait_until_unready};
use crate::harness::audit::{records, request_ids};
use crate::harness::daemon::Site;
use crate::harness::{Caller, Daemon, Failure, context, wait};

/// How many records the log has, as callers are told.
async fn listed(caller: &Caller) -> Result<u64, Failure> {
    let request = caller.request(ListAuditRecordsRequest { limit: Some(1), ..Default::default() });
    Ok(caller.audit.clone().list_audit_records(request).await?.into_inner().size)
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_restart_without_it_readers_are_told_so_and_go_on_when_it_is_back() {
    let daemon = Daemon::start().await;
    let admin = daemon.caller().await;
    let key = admin.create_key("followed").await;
    let mut follower = Follower::of(&daemon, &admin).await;
    let directory = daemon.site().audit_dir();
    admin.encrypt(&key, b"before", &context(&[])).await.unwrap();
    wait::until("it is printed", wait::LONG, || (follower.numbers().len() == 1).then_some(()));
    let before = listed(&admin).await.unwrap();

    let site = daemon.terminate().1;
    let aside = directory.with_file_name("aside");
    fs::rename(&directory, &aside).unwrap();
    let daemon = site.launch();
    wait::until("it listens", wait::LONG, || daemon.ops("/readyz"));
    wait_until_unready(&daemon, "is gone; put it back");
    follower.door.leads_to(&daemon);
    let admin = daemon.caller().await;
    is_retryable(&listed(&admin).await.unwrap_err());
    wait::until("the follower has noticed", wait::LONG, || follower.said().contains("it is tried again").then_some(()));
    // Nor is an empty one the log.
    fs::create_dir(&directory).unwrap();
    wait_until_unready(&daemon, "a new log is begun by");
    is_retryable(&listed(&admin).await.unwrap_err());
    fs::remove_dir_all(&directory).unwrap();
    fs::rename(&aside, &directory).unwrap();

    wait_until_sound(&daemon);
    daemon.wait_until_healthy_for(&admin).await;
    assert!(listed(&admin).await.unwrap() >= before);
    admin.encrypt(&key, b"after", &context(&[])).await.unwrap();
    wait::until("it goes on", wait::LONG, || (follower.numbers().len() == 2).then_some(()));
    assert!(follower.ended().is_none(), "{}", follower.said());
    assert_eq!(follower.numbers(), encryptions(&directory));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_in_its_place_gets_nothing() {
    let site = Site::prepare().await;
    json_lines(&site);
    let daemon = site.start().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("used").await;
    caller.encrypt(&key, b"before", &context(&[])).await.unwrap();
    let directory = daemon.site().audit_dir();
    wait::until("a position is kept", wait::LONG, || directory.join("sinks/json").exists().then_some(()));
    let aside = directory.with_file_name("aside");
    fs::rename(&directory, &aside).unwrap();
    fs::create_dir(&directory).unwrap();
    // What is kept beside the log goes on being kept, where the log is.
    fs::remove_file(aside.join("keys.json")).unwrap();
    wait_until_unready(&daemon, "another directory is where the audit log was");
    wait::until("the keys are written again", wait::LONG, || aside.join("keys.json").exists().then_some(()));
    is_retryable(&listed(&caller).await.unwrap_err());
    let planted: Vec<_> = fs::read_dir(&directory).unwrap().collect();
    assert!(planted.is_empty(), "{planted:?}");
    fs::remove_dir(&directory).unwrap();
    fs::rename(&aside, &directory).unwrap();
    wait_until_sound(&daemon);
    caller.encrypt(&key, b"after", &context(&[])).await.unwrap();
    daemon.audit_settled();
    let checked = daemon.audit_verify();
    assert_eq!(checked.code, Some(0), "{checked:?}");
}

fn json_lines(site: &Site) {
    site.audit(|audit| {
        let section = toml::Table::from_iter([("path".to_owned(), "audit.jsonl".into())]);
        audit.insert("json".to_owned(), section.into());
    });
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_orderly_stop_everything_was_passed_on_and_nothing_comes_twice() {
    let site = Site::prepare().await;
    json_lines(&site);
    let mut daemon = site.start().await;
    let key = daemon.caller().await.create_key("passed on").await;
    let file = daemon.site().path().join("audit.jsonl");
    for _ in 0..3 {
        let caller = daemon.caller().await;
        daemon.wait_until_healthy_for(&caller).await;
        for _ in 0..20 {
            caller.encrypt(&key, b"x", &context(&[])).await.unwrap();
        }
        // Whatever the sink has not had yet.
        let (status, site) = daemon.terminate();
        assert!(status.success());
        let written = lines(&file);
        assert_eq!(written.len(), records(&site.audit_dir()).len(), "all of them, each once");
        assert_eq!(written.iter().collect::<BTreeSet<_>>().len(), written.len());
        daemon = site.launch();
        daemon.wait_until_ready();
    }
    let caller = daemon.caller().await;
    daemon.wait_until_healthy_for(&caller).await;
    caller.encrypt(&key, b"the last", &context(&[])).await.unwrap();
    let directory = daemon.site().audit_dir();
    daemon.audit_settled();
    let count = request_ids(&directory).len();
    wait::until("the file has everything", wait::LONG, || {
        let ids: BTreeSet<String> = lines(&file)
            .iter()
            .filter_map(|line| {
                serde_json::from_str::<serde_json::Value>(line).ok()?["requestID"].as_str().map(str::to_owned)
            })
            .collect();
        (ids.len() >= count).then_some(())
    });
    let written = lines(&file);
    assert_eq!(written.iter().collect::<BTreeSet<_>>().len(), written.len(), "nothing twice");
}
