//! The daemon as its operator meets it: what ends it at start, and `keystored dev` from an empty directory.

use std::fs::{self, File};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::harness::daemon::Site;
use crate::harness::{process, tool, wait};

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_of_the_operator_ends_the_daemon_with_one_sentence() {
    let site = Site::prepare().await;
    let good = fs::read_to_string(site.config_file()).unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let open_key = site.path().join("open.key");
    fs::write(&open_key, "12345678123456781234567812345678").unwrap();
    fs::set_permissions(&open_key, fs::Permissions::from_mode(0o644)).unwrap();

    type Change = Box<dyn Fn(&mut toml::Table)>;
    let set = |table: &'static str, field: &'static str, value: String| -> Change {
        Box::new(move |config| {
            config[table].as_table_mut().unwrap().insert(field.to_owned(), value.clone().into());
        })
    };
    let foreign = site.path().join("foreign");
    fs::create_dir(&foreign).unwrap();
    fs::write(foreign.join("keystored.db"), "this is no database").unwrap();
    let state = |dir: PathBuf| -> Change {
        Box::new(move |config| {
            config.insert("state_dir".to_owned(), dir.to_str().unwrap().into());
        })
    };
    // With the exit code: 2 where starting again does not help, 75 where somebody else has what is needed.
    let mistakes: [(Change, i32, &[&str]); 8] = [
        (set("grpc", "certificate", "nowhere.pem".to_owned()), 2, &["nowhere.pem: No such file"]),
        (set("grpc", "key", "pki/dev-client.key".to_owned()), 2, &["pki/server.pem: ", "pki/dev-client.key"]),
        (set("grpc", "listen", taken.clone()), 75, &["cannot listen on", "change grpc.listen"]),
        (set("ops", "listen", taken), 75, &["cannot listen on", "change ops.listen"]),
        // An address that this machine does not have, or not yet.
        (set("grpc", "listen", "192.0.2.1:7411".to_owned()), 75, &["cannot listen on", "change grpc.listen"]),
        (state("keystored.toml/below".into()), 2, &["state_dir", "cannot be made"]),
        (state(foreign), 2, &["keystored.db: ", "no SQLite database"]),
        (
            Box::new(move |config| {
                config["seal"]["key"] = open_key.to_str().unwrap().into();
            }),
            2,
            &["open.key: everybody may read it (mode 644)"],
        ),
    ];
    for (change, code, says) in &mistakes {
        site.configure(change);
        let ran = tool::keystored(&["serve".as_ref(), "--config".as_ref(), site.config_file().as_os_str()]);
        assert_eq!(ran.code, Some(*code), "{says:?}: {ran:?}");
        let last = ran.err.lines().last().unwrap_or_default();
        for words in *says {
            assert!(last.starts_with("keystored: ") && last.contains(words), "{words}: {ran:?}");
        }
        assert!(!ran.err.contains("12345678"), "{ran:?}");
        fs::write(site.config_file(), &good).unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_daemon_on_the_same_state_is_refused() {
    let daemon = Site::prepare().await.start().await;
    let config = daemon.site().config_file().to_owned();
    let ran = tool::keystored(&["serve".as_ref(), "--config".as_ref(), config.as_os_str()]);
    assert_eq!(ran.code, Some(75), "{ran:?}");
    assert!(ran.err.contains("in use by another keystored"), "{ran:?}");
    assert!(daemon.ops("/readyz").is_some_and(|(code, _)| code == 200));

    let (_, metrics) = daemon.ops("/metrics").unwrap();
    for line in ["keystored_ready 1", "keystored_hsm_data_workers{", "keystored_calls_total{", "# EOF"] {
        assert!(metrics.contains(line), "{line} is missing in\n{metrics}");
    }
    assert!(daemon.ops("/").is_some_and(|(code, _)| code == 404));
}

#[test]
fn dev_makes_everything_once_and_mends_an_emptied_token() {
    let dir = TempDir::with_prefix("keystored dev ").unwrap();
    let key = {
        let dev = Dev::start(dir.path());
        let made = dev.keystorectl(&["--json", "key", "create", "--description", "first"]).ok();
        let made: serde_json::Value = serde_json::from_str(&made).unwrap();
        assert!(dev.output().contains("carrying the key ceremony out"), "{}", dev.output());
        assert!(dev.output().contains("set -a; . "), "{}", dev.output());
        dev.stop();
        made["key_id"].as_str().unwrap_or_else(|| panic!("{made}")).to_owned()
    };

    // What a process that dies inside C_Login leaves behind.
    let token = fs::read_dir(dir.path().join("zones/a/tokens")).unwrap().next().unwrap().unwrap();
    fs::write(token.path().join("token.object"), b"").unwrap();
    let dev = Dev::start(dir.path());
    assert!(dev.output().contains("WARNING: zone a: token.object was EMPTY"), "{}", dev.output());
    assert!(dev.output().contains("are there from an earlier start"), "{}", dev.output());
    dev.keystorectl(&["key", "describe", &key]).ok();
    dev.keystorectl(&["key", "create", "--description", "both zones are there"]).ok();
    dev.stop();

    let other =
        Command::new(env!("CARGO_BIN_EXE_keystored")).args(["dev", "--zones", "3", "--dir"]).arg(dir.path()).output();
    let other = other.unwrap();
    assert_eq!(other.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&other.stderr).contains("ask for 2 zones"), "{other:?}");
}

/// `keystored dev` in the foreground of nobody.
struct Dev {
    child: Child,
    dir: PathBuf,
    log: PathBuf,
}

impl Dev {
    fn start(dir: &Path) -> Self {
        let log = dir.with_extension("log");
        let _ = fs::remove_file(dir.join("dev.env"));
        let output = File::create(&log).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_keystored"));
        command
            .args(["dev", "--listen", "127.0.0.1:0", "--aws", "127.0.0.1:0", "--ops", "127.0.0.1:0", "--dir"])
            .arg(dir);
        command.stdin(Stdio::null()).stdout(output.try_clone().unwrap()).stderr(output);
        let dev = Self { child: command.spawn().unwrap(), dir: dir.to_owned(), log };
        wait::until("the dev daemon serves both zones", 3 * wait::LONG, || {
            assert!(process::lives(dev.child.id()), "{}", dev.output());
            let ready = dev.dir.join("dev.env").exists() && dev.keystorectl(&["health"]).code == Some(0);
            let output = dev.output();
            let healthy = |hsm| output.lines().any(|line| line.contains("HSM is healthy") && line.contains(hsm));
            let serving = healthy("hsm-a") && healthy("hsm-b");
            (ready && serving).then_some(())
        });
        dev
    }

    fn output(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    fn keystorectl(&self, arguments: &[&str]) -> tool::Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keystorectl"));
        tool::run(command.arg("--env-file").arg(self.dir.join("dev.env")).args(arguments))
    }

    fn stop(mut self) {
        process::signal(self.child.id(), Signal::TERM);
        let status = wait::until("the dev daemon has gone", wait::LONG, || self.child.try_wait().unwrap());
        assert_eq!(status.code(), Some(0), "{}", self.output());
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            for pid in process::family(self.child.id()) {
                process::signal(pid, Signal::KILL);
            }
            let _ = self.child.wait();
        }
        let _ = fs::remove_file(&self.log);
    }
}
