//! A further HSM, brought into the cluster of a running daemon by keystorectl.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

use crate::harness::tool::{self, Ran};
use crate::harness::wait;

/// A development daemon, to whose configuration further HSMs with blank tokens are added.
struct Site {
    dir: TempDir,
    daemon: Child,
}

impl Site {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let log = File::create(dir.path().join("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_keystored"));
        command.args([
            "dev",
            "--dir",
            "dev",
            "--listen",
            "127.0.0.1:0",
            "--aws",
            "127.0.0.1:0",
            "--ops",
            "127.0.0.1:0",
        ]);
        command.current_dir(dir.path()).stdout(log.try_clone().unwrap()).stderr(log);
        let mut site = Self { daemon: command.spawn().unwrap(), dir };
        let env = site.path("dev/dev.env");
        wait::until("the development daemon serves", 3 * wait::LONG, || {
            let ended = site.daemon.try_wait().unwrap();
            assert!(ended.is_none(), "{}", fs::read_to_string(site.path("log")).unwrap());
            env.exists().then_some(())
        });
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Adds HSMs to the configuration, and waits until the daemon knows them.
    fn configure(&self, zones: &[&str]) {
        let module = provision::find_module().unwrap();
        let mut file = File::options().append(true).open(self.path("dev/keystored.toml")).unwrap();
        for zone in zones {
            let conf = self.path(&format!("{zone}.conf"));
            let tokens = self.path(&format!("tokens-{zone}"));
            fs::create_dir(&tokens).unwrap();
            fs::write(&conf, format!("directories.tokendir = {}\nlibrary.reset_on_fork = true\n", tokens.display()))
                .unwrap();
            writeln!(
                file,
                "\n[[cluster.hsm]]\nid = \"hsm-{zone}\"\nzone = \"{zone}\"\nmodule = {module:?}\n\
                 token_label = \"zone-{zone}\"\nprofile = \"softhsm\"\nenv.SOFTHSM2_CONF = {conf:?}"
            )
            .unwrap();
            for (kind, pin) in [("pin", "user-pin-of"), ("so", "so-pin-of")] {
                let path = self.path(&format!("{zone}.{kind}"));
                fs::write(&path, format!("{pin}-{zone}")).unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            }
        }
        kill_process(Pid::from_child(&self.daemon), Signal::HUP).unwrap();
        wait::until("the daemon knows the new HSMs", wait::LONG, || {
            zones.iter().all(|zone| self.hsm(zone).is_some()).then_some(())
        });
    }

    fn ctl(&self, arguments: &[&str]) -> Ran {
        tool::run(&mut self.command(arguments))
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keystorectl"));
        command.args(["--env-file", "dev/dev.env"]).args(arguments).current_dir(self.dir.path());
        command
    }

    fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.ctl(&[&["--json"], arguments].concat()).ok()).unwrap()
    }

    /// What `cluster status` shows of the HSM in a zone.
    fn hsm(&self, zone: &str) -> Option<Value> {
        let status = self.json(&["cluster", "status"]);
        let hsms = status["clusters"][0]["hsms"].as_array().unwrap();
        hsms.iter().find(|hsm| hsm["hsm_id"] == format!("hsm-{zone}")).cloned()
    }

    /// `cluster add-hsm` with the user's PIN of a zone.
    fn add(&self, zone: &str, more: &[&str]) -> Command {
        let (hsm, pin) = (format!("hsm-{zone}"), format!("{zone}.pin"));
        let place = ["--config", "dev/keystored.toml", "--folder", "dev/ceremony"];
        self.command(&[&["cluster", "add-hsm", &hsm, "--pin-file", &pin][..], &place, more].concat())
    }

    fn wait_until_filled(&self, zone: &str) {
        wait::until(&format!("hsm-{zone} holds every key"), wait::LONG, || {
            let hsm = self.hsm(zone)?;
            let filled = hsm["keys_missing"] == 0 && hsm["joined"] == true && hsm["proven"] == true;
            (filled && hsm["health"] == "Healthy").then_some(())
        });
    }

    fn parcel(&self, zone: &str) -> PathBuf {
        self.path(&format!("dev/ceremony/hsm-{zone}.wrapping.json"))
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // Told to leave, not killed: it may be inside a login.
        let _ = kill_process(Pid::from_child(&self.daemon), Signal::TERM);
        let _ = self.daemon.wait();
    }
}

fn set_of(parcel: &Path) -> Value {
    let parcel: Value = serde_json::from_slice(&fs::read(parcel).unwrap()).unwrap();
    parcel["set"].clone()
}

#[test]
fn a_further_hsm_is_brought_in_and_brings_in_the_next() {
    let site = Site::start();
    let key = site.json(&["key", "create", "--description", "older than the new HSMs"])["key_id"].clone();
    site.configure(&["c", "d"]);

    // A token that nobody has initialised needs an officer; nothing has begun without one.
    let without = tool::run(&mut site.add("c", &[]));
    assert!(without.code == Some(1) && without.err.contains("only with a security officer's PIN"), "{without:?}");
    assert_eq!(site.hsm("c").unwrap()["joined"], false);
    let set = set_of(&site.parcel("a"));
    if cfg!(debug_assertions) {
        // Also with the answer lost on its way here, and with it the wrapped copy: before the HSM has joined. By then the
        // daemon has changed the PIN.
        for (point, kept) in [
            ("ceremony.certify-identity.after", false),
            ("ceremony.keep-parcel.before", false),
            ("ceremony.keep-parcel.after", true),
        ] {
            let mut command = site.add("c", &["--so-pin-file", "c.so"]);
            let aborted = tool::run(command.env("KEYSTORED_ABORT_AT", point));
            assert_eq!(aborted.code, None, "{point}: {aborted:?}");
            assert_eq!(site.parcel("c").exists(), kept, "{point}");
            assert_eq!(aborted.err.contains("hands the wrapping key on"), point.contains("parcel"), "{aborted:?}");
            assert_eq!(site.hsm("c").unwrap()["member"], false, "{point}");
        }
        assert_eq!(set_of(&site.parcel("c")), set);
    }
    let added = tool::run(&mut site.add("c", &["--so-pin-file", "c.so"]));
    // Where the folder has the copy, the key is not wrapped again.
    assert_eq!(added.err.contains("hands the wrapping key on"), !cfg!(debug_assertions), "{added:?}");
    assert!(added.err.contains("cluster status"), "{added:?}");
    let text = added.ok();
    assert!(text.contains("has joined cluster-keystoredev; 1 key version is being placed in it"), "{text}");
    site.wait_until_filled("c");
    assert_eq!(set_of(&site.parcel("c")), set);
    assert_eq!(fs::metadata(site.parcel("c")).unwrap().permissions().mode() & 0o777, 0o600);

    // The last answer was lost on its way here: the daemon holds the HSM, and the folder its copy, which stays as it is.
    let parcel = fs::read(site.parcel("c")).unwrap();
    let again = tool::run(&mut site.add("c", &["--json"]));
    assert!(!again.err.contains("note:"), "{again:?}");
    let again: Value = serde_json::from_str(&again.ok()).unwrap();
    assert_eq!((&again["hsm_id"], &again["keys_to_place"]), (&"hsm-c".into(), &0.into()));
    assert_eq!(again["was_member"], true);
    assert_eq!(fs::read(site.parcel("c")).unwrap(), parcel);
    // A copy that was lost later is missed, and none is made for a member.
    fs::remove_file(site.parcel("c")).unwrap();
    let without = tool::run(&mut site.add("c", &[]));
    assert!(without.err.contains("holds no wrapped copy for HSM hsm-c"), "{without:?}");
    assert!(without.ok().contains("is a member of cluster-keystoredev already; no key has to be placed"));
    assert!(!site.parcel("c").exists());
    fs::write(site.parcel("c"), parcel).unwrap();

    // Its copy of the wrapping key is as good as those of the first ceremony.
    tool::run(&mut site.add("d", &["--so-pin-file", "d.so", "--from", "hsm-c"])).ok();
    site.wait_until_filled("d");
    let placements = site.json(&["key", "describe", key.as_str().unwrap()])["placements"].clone();
    assert_eq!(placements.as_array().unwrap().len(), 4, "{placements}");
}

#[test]
fn what_cannot_be_added_is_refused_before_its_token_is_touched() {
    let site = Site::start();
    site.configure(&["c"]);
    let so = ["--so-pin-file", "c.so"];
    for (more, code, words) in [
        (&["--from", "hsm-c"][..], 2, "names the new HSM itself"),
        (&["--from", "hsm-x"], 2, "hsm-x is no HSM of"),
        (&["--address", "https://127.0.0.1:1"], 3, ""),
    ] {
        let ran = tool::run(&mut site.add("c", &[&so, more].concat()));
        assert_eq!(ran.code, Some(code), "{more:?}: {ran:?}");
        assert!(ran.err.contains(words), "{more:?}: {ran:?}");
    }
    for (hsm, folder, code, words) in [
        ("hsm-x", "dev/ceremony", 2, "hsm-x is no HSM of"),
        ("hsm-c", "nowhere", 5, "nowhere is no folder"),
        ("hsm-c", "tokens-c", 1, "holds no wrapped key of another HSM"),
    ] {
        let place = ["--config", "dev/keystored.toml", "--folder", folder, "--pin-file", "c.pin"];
        let ran = site.ctl(&[&["cluster", "add-hsm", hsm][..], &place, &so].concat());
        assert_eq!(ran.code, Some(code), "{hsm} {folder}: {ran:?}");
        assert!(ran.err.contains(words), "{hsm} {folder}: {ran:?}");
    }
    assert_eq!(fs::read_dir(site.path("tokens-c")).unwrap().count(), 0);
}
