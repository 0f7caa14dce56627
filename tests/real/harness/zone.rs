//! One zone of a daemon under test: its token on disk, its workers, and what can be done to them.
//!
//! SoftHSM rewrites `token.object` in place at each login; a process that is killed just then leaves it empty. So the
//! file is copied before anything is done to a worker and put back where it was found empty, and every such repair is
//! counted and reported.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use model::clock::Clock;
use rustix::process::Signal;

use super::process;

/// Repairs in this run of the tests.
static REPAIRS: AtomicUsize = AtomicUsize::new(0);

/// A file that is empty for so long was not written anew by whoever emptied it.
const LOST: Duration = Duration::from_secs(2);

#[derive(Clone, Debug)]
pub(crate) struct Zone {
    /// As the configuration calls the HSM in it.
    pub(crate) hsm: String,
    /// As the configuration calls the zone.
    pub(crate) name: String,
    /// The token's label.
    pub(crate) label: String,
    /// kmsuser's PIN.
    pub(crate) pin_file: PathBuf,
    /// SoftHSM's configuration; empty for tokens of another type.
    pub(crate) softhsm_conf: PathBuf,
    /// The module's environment.
    pub(crate) env: BTreeMap<String, String>,
    /// The PKCS#11 module.
    pub(crate) module: PathBuf,
    /// The daemon.
    pub(crate) daemon: u32,
}

impl Zone {
    /// Where SoftHSM keeps the zone's tokens.
    pub(crate) fn tokens(&self) -> PathBuf {
        tokens(&self.softhsm_conf)
    }

    /// The lock that the HSM's workers hold as long as one of them lives.
    pub(crate) fn lock_file(&self, site: &super::daemon::Site) -> String {
        site.path().join("state").join(format!("hsm-{}.lock", self.hsm)).display().to_string()
    }

    /// Whether the token takes this PIN from kmsuser. SoftHSM locks nobody.
    pub(crate) fn takes(&self, pin: &str) -> bool {
        let mut command = self.tool(&["--login", "--pin", "env:ZONE_PIN", "--list-objects"]);
        command.env("ZONE_PIN", pin);
        super::tool::run(&mut command).code == Some(0)
    }

    /// What the token says of its user, as another client reads it.
    pub(crate) fn flags(&self) -> String {
        let mut command = Command::new("pkcs11-tool");
        command.arg("--module").arg(&self.module).arg("--list-slots").envs(&self.env);
        let out = super::tool::run(&mut command).ok();
        out.lines().find(|line| line.contains("token flags")).unwrap_or_else(|| panic!("{out}")).to_owned()
    }

    /// What the security officer does: sets kmsuser's PIN.
    pub(crate) fn officer_sets(&self, pin: &str) {
        let so_pin = fs::read_to_string(self.pin_file.with_extension("so-pin")).unwrap();
        let mut command =
            self.tool(&["--init-pin", "--login", "--login-type", "so", "--so-pin", "env:SO", "--new-pin", "env:NEW"]);
        command.env("SO", so_pin.trim_end()).env("NEW", pin);
        super::tool::run(&mut command).ok();
    }

    fn tool(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("pkcs11-tool");
        command.arg("--module").arg(&self.module).args(["--token-label", &self.label]).args(arguments);
        command.envs(&self.env);
        command
    }

    pub(crate) fn pin(&self) -> String {
        fs::read_to_string(&self.pin_file).unwrap().trim_end().to_owned()
    }

    /// The zone's worker processes, data and control.
    pub(crate) fn workers(&self) -> Vec<u32> {
        let mine = |pid: &u32| process::arguments(*pid).ends_with(&format!(" hsm-worker {}", self.hsm));
        process::children(self.daemon).into_iter().filter(mine).collect()
    }

    /// Sends a signal to each of the zone's workers. Only for an HSM that is healthy with every worker ready, since
    /// none of them is then inside a login.
    pub(crate) fn signal_workers(&self, signal: Signal) -> Vec<u32> {
        self.keep_copies();
        let workers = self.workers();
        assert!(!workers.is_empty(), "zone {} has no worker", self.name);
        for pid in &workers {
            process::signal(*pid, signal);
        }
        workers
    }

    /// Takes the token directory away, as when an HSM's network is gone.
    pub(crate) fn take_away(&self) -> Taken {
        let from = self.tokens();
        let to = from.with_extension("away");
        self.keep_copies();
        fs::rename(&from, &to).unwrap();
        Taken { from, to, there: false }
    }

    /// Copies each `token.object`.
    pub(crate) fn keep_copies(&self) {
        for file in self.token_files() {
            if fs::metadata(&file).is_ok_and(|meta| meta.len() > 0) {
                fs::copy(&file, copy_of(&file)).unwrap();
            }
        }
    }

    /// Puts back what was emptied; how many files that were.
    pub(crate) fn repair(&self) -> usize {
        let mut repaired = 0;
        for file in self.token_files() {
            if stays_empty(&file) && fs::copy(copy_of(&file), &file).is_ok() {
                repaired += 1;
                let all = REPAIRS.fetch_add(1, Ordering::Relaxed) + 1;
                eprintln!("repaired {} ({all} in this run)", file.display());
            }
        }
        repaired
    }

    fn token_files(&self) -> Vec<PathBuf> {
        if self.softhsm_conf.as_os_str().is_empty() {
            return Vec::new();
        }
        let tokens = fs::read_dir(self.tokens()).into_iter().flatten().filter_map(Result::ok);
        tokens.map(|token| token.path().join("token.object")).filter(|file| file.is_file()).collect()
    }

    /// pkcs11-tool, logged in to the zone's token. The PIN travels in the environment.
    pub(crate) fn pkcs11_tool(&self, arguments: &[&str]) -> String {
        let output = Command::new("pkcs11-tool")
            .arg("--module")
            .arg(&self.module)
            .args(["--token-label", &self.label, "--login", "--pin", "env:ZONE_PIN"])
            .args(arguments)
            .envs(&self.env)
            .env("ZONE_PIN", self.pin())
            .output()
            .expect("pkcs11-tool can be started (make deps)");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "pkcs11-tool: {text}{}", String::from_utf8_lossy(&output.stderr));
        text
    }

    /// Deletes a key version's object as another PKCS#11 client would.
    pub(crate) fn delete_key(&self, key: &str, version: u32) {
        self.pkcs11_tool(&["--delete-object", "--type", "secrkey", "--id", &object_id(key, version)]);
    }
}

/// Where SoftHSM keeps its tokens by this file of its.
pub(crate) fn tokens(conf: &Path) -> PathBuf {
    let conf = fs::read_to_string(conf).unwrap();
    let line = conf.lines().find_map(|line| line.strip_prefix("directories.tokendir"));
    PathBuf::from(line.unwrap().trim_start_matches([' ', '=']).trim())
}

/// CKA_ID of a key version's object, as pkcs11-tool writes it.
pub(crate) fn object_id(key: &str, version: u32) -> String {
    format!("{}{version:08x}", key.replace('-', ""))
}

/// A login or a PIN change empties the file for a moment before it writes it anew; a killed one leaves it so. To put the
/// copy back in that moment would bring the old PIN back.
fn stays_empty(file: &Path) -> bool {
    static SINCE: Mutex<BTreeMap<PathBuf, Instant>> = Mutex::new(BTreeMap::new());
    let mut since = SINCE.lock().unwrap();
    if !fs::metadata(file).is_ok_and(|meta| meta.len() == 0) {
        since.remove(file);
        return false;
    }
    let now = Clock::system().now();
    now - *since.entry(file.to_owned()).or_insert(now) >= LOST
}

fn copy_of(token_file: &Path) -> PathBuf {
    token_file.with_extension("object.copy")
}

/// A token directory that is away until it is put back.
pub(crate) struct Taken {
    from: PathBuf,
    to: PathBuf,
    there: bool,
}

impl Taken {
    pub(crate) fn put_back(mut self) {
        self.back();
    }

    fn back(&mut self) {
        if !self.there {
            self.there = true;
            // Whoever looked for the directory may have made an empty one.
            let _ = fs::remove_dir(&self.from);
            fs::rename(&self.to, &self.from).unwrap();
        }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.back();
    }
}
