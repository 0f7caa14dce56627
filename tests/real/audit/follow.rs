//! `keystorectl audit tail --follow` while daemons and connections come and go.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use tempfile::TempDir;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::network::Running;
use crate::access::{delete_user, make_user};
use crate::harness::audit::records;
use crate::harness::clients::environment_of;
use crate::harness::{Caller, Daemon, context, wait};

/// An address that stays, whichever port the daemon has.
pub(super) struct Door {
    url: String,
    leads_to: Arc<Mutex<Leads>>,
}

#[derive(Default)]
struct Leads {
    to: String,
    /// Ends what came in so far.
    cut: CancellationToken,
}

impl Door {
    async fn to(daemon: &Daemon) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (url, leads_to) = (format!("https://{}", listener.local_addr().unwrap()), Arc::<Mutex<Leads>>::default());
        let leads = Arc::clone(&leads_to);
        tokio::spawn(async move {
            while let Ok((mut from, _)) = listener.accept().await {
                let (to, cut) = {
                    let leads = leads.lock().unwrap();
                    (leads.to.clone(), leads.cut.clone())
                };
                tokio::spawn(cut.run_until_cancelled_owned(async move {
                    if let Ok(mut to) = TcpStream::connect(to).await {
                        let _ended = tokio::io::copy_bidirectional(&mut from, &mut to).await;
                    }
                }));
            }
        });
        let door = Self { url, leads_to };
        door.leads_to(daemon);
        door
    }

    /// From now on it is this one's; connections that there were end.
    pub(super) fn leads_to(&self, daemon: &Daemon) {
        let address = daemon.environment().unwrap()["KEYSTORED_ADDRESS"].clone();
        let mut leads = self.leads_to.lock().unwrap();
        std::mem::take(&mut leads.cut).cancel();
        leads.to = address.trim_start_matches("https://").to_owned();
    }
}

/// Somebody who follows the encryptions, over an address that stays.
pub(super) struct Follower {
    pub(super) door: Door,
    folder: TempDir,
    tail: Running,
}

impl Follower {
    /// Begins to follow as the auditor, who is made for that.
    pub(super) async fn of(daemon: &Daemon, admin: &Caller) -> Self {
        make_user(admin, "auditor", Some("Auditor")).await;
        let (door, folder) = (Door::to(daemon).await, tempfile::tempdir().unwrap());
        let mut environment = environment_of(daemon, folder.path(), "auditor");
        environment.insert("KEYSTORED_ADDRESS".to_owned(), door.url.clone());
        let file = |name: &str| File::create(folder.path().join(name)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_keystorectl"));
        command.args(["audit", "tail", "-n", "0", "--follow", "--operation", "Encrypt"]).envs(environment);
        command.stdin(Stdio::null()).stdout(file("out")).stderr(file("err"));
        let tail = Running(command.spawn().unwrap());
        let directory = daemon.site().audit_dir();
        wait::until("it follows", wait::LONG, || {
            records(&directory).iter().any(|record| record["eventName"] == "FollowAuditRecords").then_some(())
        });
        Self { door, folder, tail }
    }

    /// The numbers of the records that were printed as a whole.
    pub(super) fn numbers(&self) -> Vec<u64> {
        let text = fs::read_to_string(self.folder.path().join("out")).unwrap();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect()
    }

    /// What else it says.
    pub(super) fn said(&self) -> String {
        fs::read_to_string(self.folder.path().join("err")).unwrap()
    }

    /// How it has ended, if it has.
    pub(super) fn ended(&mut self) -> Option<ExitStatus> {
        self.tail.0.try_wait().unwrap()
    }
}

/// The numbers of the encryptions in a log.
pub(super) fn encryptions(directory: &Path) -> Vec<u64> {
    let all = (0..).zip(records(directory)).filter(|(_, record)| record["eventName"] == "Encrypt");
    all.map(|(number, _)| number).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_ends_its_stream_it_goes_on_without_gap_until_it_may_not() {
    const EACH: usize = 3;
    let mut daemon = Daemon::start().await;
    let admin = daemon.caller().await;
    let key = admin.create_key("followed").await;
    let mut follower = Follower::of(&daemon, &admin).await;
    drop(admin);
    let directory = daemon.site().audit_dir();
    for round in 1..=4 {
        let caller = daemon.caller().await;
        for _ in 0..EACH {
            caller.encrypt(&key, b"seen", &context(&[])).await.unwrap();
        }
        let printed = || (follower.numbers().len() >= EACH * round).then_some(());
        wait::until("all of them are printed", wait::LONG, printed);
        daemon = match round {
            1 => daemon.crash().start().await,
            2 => daemon.terminate().1.start().await,
            _ => daemon,
        };
        if round < 4 {
            follower.door.leads_to(&daemon);
        }
    }
    assert_eq!(follower.numbers(), encryptions(&directory), "each once, and in order");

    delete_user(&daemon.caller().await, "auditor").await;
    let ended = wait::until("it ends", wait::LONG, || follower.ended());
    let said = follower.said();
    assert_eq!(ended.code(), Some(1), "{said}");
    assert!(said.contains("AccessDeniedException"), "{said}");
    for words in ["it is tried again", "it goes on with record"] {
        assert_eq!(said.matches(words).count(), 3, "{said}");
    }
}
