//! The audit log read over the network: by whom, and that what is read so can be believed without the daemon.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use futures_util::future::select_all;
use proto::v1::{AuditFilter, FollowAuditRecordsRequest, FollowAuditRecordsResponse, ListAuditRecordsRequest};
use rustix::process::Signal;
use serde_json::Value;
use tonic::{Code, Status, Streaming};

use crate::access::make_user;
use crate::harness::clients::{address_of, environment_of};
use crate::harness::tool::{Ran, keystorectl};
use crate::harness::{Caller, Daemon, Failure, context, process, wait};

/// Follows the log from a record on.
async fn follow(caller: &Caller, from: Option<u64>) -> Result<Streaming<FollowAuditRecordsResponse>, Status> {
    let request = FollowAuditRecordsRequest { filter: None, from };
    Ok(caller.audit.clone().follow_audit_records(request).await?.into_inner())
}

/// The next message of a stream, which must come.
async fn next(stream: &mut Streaming<FollowAuditRecordsResponse>) -> Result<FollowAuditRecordsResponse, Status> {
    let come = tokio::time::timeout(wait::LONG, stream.message()).await.expect("nothing came");
    Ok(come?.expect("it ended without a word"))
}

/// keystorectl as somebody, who has these files.
struct Auditor<'d> {
    daemon: &'d Daemon,
    folder: &'d Path,
    name: &'static str,
}

impl Auditor<'_> {
    fn ran(&self, arguments: &[&str]) -> Ran {
        keystorectl(environment_of(self.daemon, self.folder, self.name), &[&["audit"], arguments].concat())
    }

    /// What a command prints, in a file.
    fn kept(&self, name: &str, arguments: &[&str]) -> String {
        let path = self.folder.join(name);
        fs::write(&path, self.ran(arguments).ok()).unwrap();
        path.to_str().unwrap().to_owned()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_auditor_reads_and_checks_without_the_daemon_s_directory() {
    let daemon = Daemon::start().await;
    let admin = daemon.caller().await;
    let key = admin.create_key("audited").await;
    make_user(&admin, "auditor", Some("Auditor")).await;
    make_user(&admin, "app", Some("KeyUser")).await;
    let app = address_of(&daemon, "app").connect().await.unwrap();
    for _ in 0..5 {
        app.encrypt(&key, b"x", &context(&[])).await.unwrap();
    }
    let denied = app.switch_key(&key, false).await.unwrap_err();
    assert_eq!(denied.reason, "AccessDeniedException", "{denied:?}");
    // The file of keys stays as it is once both zones have signed.
    daemon.audit_signed_by_all(&app, &key).await;

    let folder = tempfile::tempdir().unwrap();
    let auditor = Auditor { daemon: &daemon, folder: folder.path(), name: "auditor" };
    let keys = auditor.kept("keys.json", &["keys"]);
    let head = auditor.kept("head", &["head"]);
    assert_eq!(fs::read(&keys).unwrap(), fs::read(daemon.site().audit_dir().join("keys.json")).unwrap());
    // The same filters find the same records in files and over the network.
    let directory = daemon.site().audit_dir();
    for filter in [
        &["--principal", "user/app"][..],
        &["--key", &key, "--operation", "Encrypt"],
        &["--principal", "app", "--outcome", "denied"],
        &["--operation", "CreateKey", "--since", "2020-01-01"],
        &["--until", "2020-01-01T00:00:00Z"],
    ] {
        let of_files = [&["tail", directory.to_str().unwrap()], filter].concat();
        let of_files = auditor.ran(&of_files).ok();
        assert_eq!(auditor.ran(&[&["tail"], filter].concat()).ok(), of_files, "{filter:?}");
        assert_eq!(of_files.is_empty(), filter[0] == "--until", "{filter:?}: {of_files}");
    }
    // A record, by its number and by its event, and its proof, which is checked with files alone.
    let line = auditor.ran(&["tail", "--operation", "Encrypt", "-n", "1", "--json"]).ok();
    let line: Value = serde_json::from_str(&line).unwrap();
    let (number, event) = (line["number"].to_string(), line["record"]["eventID"].as_str().unwrap().to_owned());
    let shown = auditor.ran(&["show", &number]).ok();
    assert!(shown.contains(&event), "{shown}");
    assert_eq!(auditor.ran(&["show", &event]).ok(), shown);
    assert_eq!(auditor.ran(&["show", directory.to_str().unwrap(), &event]).ok(), shown);
    let proof = auditor.kept("proof", &["prove", &number]);
    let checked = keystorectl([].into(), &["audit", "check-proof", &proof, "--keys", &keys, "--json"]).ok();
    let checked: Value = serde_json::from_str(&checked).unwrap();
    assert_eq!((&checked["record"]["eventID"], checked["number"].to_string()), (&event.as_str().into(), number));
    let verify = ["audit", "verify", directory.to_str().unwrap(), "--keys", &keys, "--checkpoint", &head];
    keystorectl([].into(), &verify).ok();
    // Nothing before a head that was kept was changed, says a proof; of another log nothing is believed.
    let grown = auditor.ran(&["verify", "--keys", &keys, "--checkpoint", &head, "--json"]).ok();
    let grown: Value = serde_json::from_str(&grown).unwrap();
    assert!(grown["sound"] == true && grown["records"].as_u64() >= grown["kept_records"].as_u64(), "{grown}");
    let forged = folder.path().join("forged");
    let text = fs::read_to_string(&head).unwrap();
    fs::write(&forged, text.replacen(text.lines().nth(1).unwrap(), "1", 1)).unwrap();
    let ran = auditor.ran(&["verify", "--keys", &keys, "--checkpoint", forged.to_str().unwrap()]);
    assert!(ran.code == Some(5) && ran.err.contains("not signed"), "{ran:?}");
    assert_eq!(auditor.ran(&["verify", "--keys", &keys]).code, Some(2));
    // What is not there is told as that.
    for missing in [&["prove", "999999"][..], &["show", "999999"]] {
        assert_ne!(auditor.ran(missing).code, Some(0), "{missing:?}");
    }

    let user = Auditor { name: "app", ..auditor };
    for refused in [&["keys"][..], &["head"], &["tail"], &["tail", "--follow"], &["show", "0"], &["prove", "0"]] {
        let ran = user.ran(refused);
        assert!(ran.code == Some(1) && ran.err.contains("AccessDeniedException"), "{refused:?}: {ran:?}");
        assert!(ran.err.contains(":audit-log/"), "{ran:?}");
    }
}

/// A program that goes on until it is dropped.
pub(super) struct Running(pub(super) Child);

impl Drop for Running {
    fn drop(&mut self) {
        process::signal(self.0.id(), Signal::KILL);
        let _ = self.0.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_follows_sees_what_comes_and_not_itself_without_end() {
    let daemon = Daemon::start().await;
    let admin = daemon.caller().await;
    let key = admin.create_key("followed").await;
    make_user(&admin, "auditor", Some("Auditor")).await;
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_keystorectl"));
    // That the key was made may be under no head yet.
    command.args(["audit", "tail", "-n", "0", "--follow", "--key", &key, "--operation", "Encrypt"]);
    command.envs(environment_of(&daemon, folder.path(), "auditor")).stdin(Stdio::null()).stdout(Stdio::piped());
    let mut tail = Running(command.spawn().unwrap());
    let mut lines = BufReader::new(tail.0.stdout.take().unwrap()).lines();
    wait::until("it follows", wait::LONG, || {
        crate::harness::audit::records(&daemon.site().audit_dir())
            .iter()
            .any(|record| record["eventName"] == "FollowAuditRecords")
            .then_some(())
    });
    admin.encrypt(&key, b"seen", &context(&[])).await.unwrap();
    let line = tokio::task::spawn_blocking(move || lines.next().unwrap().unwrap());
    let line = tokio::time::timeout(wait::LONG, line).await.expect("nothing is printed").unwrap();
    assert!(line.contains("  Encrypt  ok  ") && line.contains(&key), "{line}");

    // A stream, from a number on, with every record once.
    let auditor = address_of(&daemon, "auditor").connect().await.unwrap();
    let mut stream = follow(&auditor, Some(0)).await.unwrap();
    let (mut number, mut marks) = (0, 0);
    while marks < 2 {
        let come = next(&mut stream).await.unwrap();
        for record in come.records {
            assert_eq!(record.number, number);
            number += 1;
            let said: Value = serde_json::from_slice(&record.record).unwrap();
            marks += usize::from(said["eventName"] == "FollowAuditRecords");
        }
        assert_eq!(come.next, number);
    }
    drop(stream);
    drop(tail);
    let all = crate::harness::audit::records(&daemon.site().audit_dir());
    let began = all.iter().filter(|record| record["eventName"] == "FollowAuditRecords").count();
    assert_eq!(began, 2, "one record for each stream");

    // What is taken away ends streams.
    let mut stream = follow(&auditor, None).await.unwrap();
    crate::access::delete_user(&admin, "auditor").await;
    let ended = loop {
        if let Err(status) = next(&mut stream).await {
            break Failure::from(status);
        }
    };
    assert_eq!(ended.reason, "AccessDeniedException", "{ended:?}");
    let all = crate::harness::audit::records(&daemon.site().audit_dir());
    let denied =
        |record: &&Value| record["eventName"] == "FollowAuditRecords" && record["errorCode"] == "AccessDeniedException";
    let denied: Vec<&Value> = all.iter().filter(denied).collect();
    let [record] = &denied[..] else { panic!("{denied:#?}") };
    assert!(record["resources"][0]["ARN"].as_str().unwrap().contains(":audit-log/"), "{record:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_readers_are_bounded_and_hold_nobody_up() {
    let daemon = Daemon::start().await;
    let admin = daemon.caller().await;
    let key = admin.create_key("busy").await;
    for name in ["reader", "other"] {
        make_user(&admin, name, Some("Auditor")).await;
    }
    let reader = address_of(&daemon, "reader").connect().await.unwrap();
    // Nobody takes what these give.
    let mut streams = Vec::new();
    let mut refused = 0;
    for _ in 0..1_000 {
        match follow(&reader, Some(0)).await {
            Ok(stream) => streams.push(stream),
            Err(status) => {
                assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
                refused += 1;
            }
        }
    }
    // One of one's own that nobody has used for ten seconds makes room.
    assert!(refused > 500, "{refused} of 1,000 were refused");
    // Others are served: users of keys, and somebody else who follows or lists.
    admin.encrypt(&key, b"beside them", &context(&[])).await.unwrap();
    let other = address_of(&daemon, "other").connect().await.unwrap();
    let request = ListAuditRecordsRequest {
        filter: Some(AuditFilter { operation: "Encrypt".to_owned(), ..AuditFilter::default() }),
        newest_first: true,
        ..ListAuditRecordsRequest::default()
    };
    wait::until_async("it is listed", wait::LONG, async || {
        let page = other.audit.clone().list_audit_records(other.request(request.clone())).await.unwrap().into_inner();
        (!page.records.is_empty()).then_some(())
    })
    .await;
    let mut follows = follow(&other, None).await.unwrap();
    admin.encrypt(&key, b"followed", &context(&[])).await.unwrap();
    assert!(!next(&mut follows).await.unwrap().records.is_empty());
    // One of the thousand made room for it.
    let ends =
        streams.iter_mut().map(|stream| Box::pin(async move { while let Ok(Some(_)) = stream.message().await {} }));
    tokio::time::timeout(wait::LONG, select_all(ends)).await.expect("none has made room");
}
