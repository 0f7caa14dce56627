//! `keystorectl audit tail --follow` while daemons and connections come and go.

use std::fs::{self, File};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::network::Running;
use crate::access::{delete_user, make_user};
use crate::harness::audit::records;
use crate::harness::clients::environment_of;
use crate::harness::{Daemon, context, wait};

/// An address that stays, whichever port the daemon has.
pub(super) struct Door {
    pub(super) url: String,
    leads_to: Arc<Mutex<Leads>>,
}

#[derive(Default)]
struct Leads {
    to: String,
    /// Ends what came in so far.
    cut: CancellationToken,
}

impl Door {
    pub(super) async fn to(daemon: &Daemon) -> Self {
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

#[tokio::test(flavor = "multi_thread")]
async fn whatever_ends_its_stream_it_goes_on_without_gap_until_it_may_not() {
    const EACH: usize = 3;
    let mut daemon = Daemon::start().await;
    let admin = daemon.caller().await;
    let key = admin.create_key("followed").await;
    make_user(&admin, "auditor", Some("Auditor")).await;
    drop(admin);
    let door = Door::to(&daemon).await;
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let mut environment = environment_of(&daemon, folder.path(), "auditor");
    environment.insert("KEYSTORED_ADDRESS".to_owned(), door.url.clone());
    let mut command = Command::new(env!("CARGO_BIN_EXE_keystorectl"));
    command.args(["audit", "tail", "-n", "0", "--follow", "--operation", "Encrypt"]).envs(environment);
    command.stdin(Stdio::null());
    command.stdout(File::create(file("out")).unwrap()).stderr(File::create(file("err")).unwrap());
    let mut tail = Running(command.spawn().unwrap());
    let directory = daemon.site().audit_dir();
    wait::until("it follows", wait::LONG, || {
        records(&directory).iter().any(|record| record["eventName"] == "FollowAuditRecords").then_some(())
    });

    let numbers = || -> Vec<u64> {
        let text = fs::read_to_string(file("out")).unwrap();
        let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
        whole.lines().map(|line| line.split(' ').next().unwrap().parse().unwrap()).collect()
    };
    for round in 1..=4 {
        let caller = daemon.caller().await;
        for _ in 0..EACH {
            caller.encrypt(&key, b"seen", &context(&[])).await.unwrap();
        }
        wait::until("all of them are printed", wait::LONG, || (numbers().len() >= EACH * round).then_some(()));
        daemon = match round {
            1 => daemon.crash().start().await,
            2 => daemon.terminate().1.start().await,
            _ => daemon,
        };
        if round < 4 {
            door.leads_to(&daemon);
        }
    }
    // Each once, and in order.
    let all: Vec<u64> = (0..)
        .zip(records(&directory))
        .filter(|(_, record)| record["eventName"] == "Encrypt")
        .map(|(number, _)| number)
        .collect();
    assert_eq!(numbers(), all);

    delete_user(&daemon.caller().await, "auditor").await;
    let ended = wait::until("it ends", wait::LONG, || tail.0.try_wait().unwrap());
    let said = fs::read_to_string(file("err")).unwrap();
    assert_eq!(ended.code(), Some(1), "{said}");
    assert!(said.contains("AccessDeniedException"), "{said}");
    for words in ["it is tried again", "it goes on with record"] {
        assert_eq!(said.matches(words).count(), 3, "{said}");
    }
}
