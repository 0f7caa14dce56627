//! Descriptors: how many the daemon may have, what workers get, and that clients cannot take those that workers need.

use std::ffi::OsStr;
use std::fs;
use std::process::Command;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::task::JoinSet;

use crate::harness::daemon::Site;
use crate::harness::{Caller, Daemon, context, process, tool, wait};

#[tokio::test(flavor = "multi_thread")]
async fn the_soft_limit_is_raised_and_workers_get_theirs_back() {
    let daemon = Site::for_grpc_alone().await.launch_with_files(700, 3_000);
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    daemon.connect_key_store(&caller).await;
    assert_eq!(open_files(daemon.pid()), (3_000, 3_000));
    let workers: Vec<u32> = daemon.zones.iter().flat_map(|zone| zone.workers()).collect();
    assert!(workers.len() >= 4, "{workers:?}");
    for worker in workers {
        assert_eq!(
            open_files(worker),
            (700, 3_000),
            "a module that uses select(2) must not meet a descriptor above its limit"
        );
    }
    assert!(!degraded(&daemon), "3,000 are enough: {:?}", daemon.ops("/readyz"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_idle_clients_leave_workers_their_descriptors() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let daemon = Site::for_grpc_alone().await.launch_with_files(1_024, 1_024);
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    daemon.connect_key_store(&caller).await;
    let key = caller.create_key("among idle clients").await;
    let says = "limits.connections allows 1024, but the limit of 1024 open files leaves room for";
    daemon.wait_until_logged(says);
    wait::until("it is told", wait::LONG, || degraded(&daemon).then_some(()));
    let before = open(&daemon);

    let idle = fair_share(&daemon, 1_000).await;
    assert!(idle.len() > 500, "only {} of them came in", idle.len());
    // What was kept back is there, with as many clients as may be.
    for zone in ["a", "b"] {
        daemon.replace_workers(zone, &caller).await;
    }
    caller.encrypt(&key, b"an open connection notices nothing", &context(&[])).await.unwrap();
    assert!(!daemon.log().contains("cannot be accepted"), "{}", daemon.log_tail());
    assert!(daemon.ops("/livez").is_some_and(|(code, _)| code == 200));
    assert!(process::files(daemon.pid()) < 1_024 - 20, "{} are open", process::files(daemon.pid()));

    drop(idle);
    wait::until("the fair_share has left", wait::LONG, || (open(&daemon) <= before).then_some(()));
    daemon.caller().await.encrypt(&key, b"there is room again", &context(&[])).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn check_and_start_say_what_does_not_fit() {
    let site = Site::for_grpc_alone().await;
    let run = |files: &str, verb: &str| {
        let mut command = Command::new("prlimit");
        let arguments = [OsStr::new(verb), "--config".as_ref(), site.config_file().as_os_str()];
        tool::run(command.arg(format!("--nofile={files}")).arg(env!("CARGO_BIN_EXE_keystored")).args(arguments))
    };
    let enough = run("1024:4096", "check").ok();
    assert!(enough.contains("open files: 1024 connections fit"), "{enough}");
    let short = run("1024:1024", "check").ok();
    assert!(short.contains("note: limits.connections allows 1024") && short.contains("LimitNOFILE"), "{short}");
    let two = Site::prepare().await;
    let mut command = Command::new("prlimit");
    let arguments = ["check".as_ref(), "--config".as_ref(), two.config_file().as_os_str()];
    let both = tool::run(command.arg("--nofile=1024:3000").arg(env!("CARGO_BIN_EXE_keystored")).args(arguments)).ok();
    assert!(both.contains("note: limits.connections allows 1024 on each listener"), "{both}");
    for verb in ["check", "serve"] {
        let ran = run("200:200", verb);
        assert_ne!(ran.code, Some(0), "{ran:?}");
        let said = format!("{}{}", ran.out, ran.err);
        assert!(said.contains("the limit of 200 open files leaves none for clients"), "{said}");
    }
}

/// So many connections that do nothing; those that the daemon let in.
async fn fair_share(daemon: &Daemon, wanted: usize) -> Vec<Caller> {
    let (address, mut open, mut coming) = (daemon.address(), Vec::new(), JoinSet::new());
    for _ in 0..wanted {
        // Few at once: how many may shake hands at the same time is not what is looked at.
        if coming.len() >= 16 {
            open.extend(coming.join_next().await);
        }
        let address = address.clone();
        coming.spawn(async move { address.connect().await });
    }
    open.extend(coming.join_all().await.into_iter().map(Ok));
    let open: Vec<Caller> = open.into_iter().filter_map(|joined| joined.unwrap().ok()).collect();
    open
}

/// Open gRPC connections, as the metrics count them.
fn open(daemon: &Daemon) -> u64 {
    let (_, metrics) = daemon.ops("/metrics").unwrap();
    let line = metrics.lines().find_map(|line| line.strip_prefix("keystored_connections ")).unwrap();
    line.trim().parse().unwrap()
}

fn degraded(daemon: &Daemon) -> bool {
    let (code, _) = daemon.ops("/readyz").unwrap();
    assert_eq!(code, 200, "calls are answered");
    let (_, metrics) = daemon.ops("/metrics").unwrap();
    metrics.contains("keystored_degraded{reason=\"limits\"} 1")
}

/// Soft and hard limit of a process.
fn open_files(pid: u32) -> (u64, u64) {
    let limits = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let mut numbers = line.split_whitespace().map(|number| number.parse().unwrap_or(u64::MAX));
    (numbers.next().unwrap(), numbers.next().unwrap())
}
