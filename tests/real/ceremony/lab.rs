//! A directory as an operator has it before the ceremony: a configuration, zones whose tokens are blank, PINs in files.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::fs::{FlockOperation, flock};
use tempfile::TempDir;

use crate::harness::tool::{self, Ran};
use crate::harness::wait;

pub(super) const PIN: &str = "planted-user-pin";
pub(super) const SO_PIN: &str = "planted-so-pin";
pub(super) const CLUSTER: &str = "cluster-keystoredev";

/// Every object that the ceremony leaves in a token: its class, its label. In the order of the text.
pub(super) const OBJECTS: [(&str, &str); 8] = [
    ("Certificate Object", "keystored-identity"),
    ("Certificate Object", "keystored-transport"),
    ("Private Key Object", "keystored-identity"),
    ("Private Key Object", "keystored-transport"),
    ("Public Key Object", "keystored-identity"),
    ("Public Key Object", "keystored-transport"),
    ("Secret Key Object", "keystored-canary"),
    ("Secret Key Object", "keystored-cluster-wrapping"),
];

/// The directory.
pub(super) struct Lab {
    dir: TempDir,
    pub(super) module: PathBuf,
}

impl Lab {
    /// With two zones, a and b; hsm-a and hsm-b in them.
    pub(super) fn blank() -> Self {
        let module = provision::find_module().expect("SoftHSM (make deps)");
        let lab = Self { dir: tempfile::tempdir().unwrap(), module };
        fs::create_dir(lab.path("locks")).unwrap();
        // None of these paths has to exist for the ceremony.
        let mut config = format!(
            "state_dir = \"state\"\nlock_dir = \"locks\"\n\n[seal]\nkey = \"seal.key\"\n\n\
             [arn]\nregion = \"eu-central-1\"\naccount = \"000000000000\"\n\n\
             [grpc]\nlisten = \"127.0.0.1:0\"\ncertificate = \"server.pem\"\nkey = \"server.key\"\nclient_ca = \"ca.pem\"\n\n\
             [log]\nformat = \"text\"\nfilter = \"warn\"\n\n\
             [[cluster]]\nid = \"{CLUSTER}\"\n"
        );
        for zone in ["a", "b"] {
            let tokens = lab.tokens(zone);
            fs::create_dir_all(&tokens).unwrap();
            let text = format!(
                "directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n\
                 library.reset_on_fork = true\n",
                tokens.display()
            );
            fs::write(lab.softhsm_conf(zone), text).unwrap();
            config.push_str(&format!(
                "\n[[cluster.hsm]]\nid = \"hsm-{zone}\"\nzone = \"{zone}\"\nmodule = {:?}\ntoken_label = \"{}\"\n\
                 profile = \"softhsm\"\nenv.SOFTHSM2_CONF = {:?}\n",
                lab.module,
                label(zone),
                lab.softhsm_conf(zone),
            ));
        }
        fs::write(lab.config(), config).unwrap();
        lab.secret_file("user.pin", PIN);
        lab.secret_file("so.pin", SO_PIN);
        lab
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn config(&self) -> PathBuf {
        self.path("keystored.toml")
    }

    pub(super) fn folder(&self) -> PathBuf {
        self.path("ceremony")
    }

    pub(super) fn tokens(&self, zone: &str) -> PathBuf {
        self.path("zones").join(zone).join("tokens")
    }

    fn softhsm_conf(&self, zone: &str) -> PathBuf {
        self.path("zones").join(zone).join("softhsm2.conf")
    }

    /// Writes a file that only its owner may read; its path.
    pub(super) fn secret_file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, format!("{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    /// `keystorectl cluster init` in this directory, without PINs.
    pub(super) fn init(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_keystorectl"));
        command.current_dir(self.dir.path());
        command.args(["cluster", "init", "--config", "keystored.toml", "--folder", "ceremony"]);
        command
    }

    /// Runs it with both PINs, and to be aborted at a point if one is named.
    pub(super) fn run(&self, abort_at: Option<&str>) -> Ran {
        let mut command = self.init();
        command.args(["--pin-file", "user.pin", "--so-pin-file", "so.pin"]);
        command.envs(abort_at.map(|point| ("KEYSTORED_ABORT_AT", point)));
        let ran = tool::run(&mut command);
        self.wait_until_workers_are_gone();
        ran
    }

    /// Workers hold the lock file of their HSM until they have left.
    fn wait_until_workers_are_gone(&self) {
        for zone in ["a", "b"] {
            let Ok(lock) = File::open(self.lock_file(zone)) else { continue };
            wait::until(&format!("the workers of zone {zone} are gone"), wait::LONG, || {
                flock(&lock, FlockOperation::NonBlockingLockExclusive).ok()
            });
        }
    }

    pub(super) fn lock_file(&self, zone: &str) -> PathBuf {
        self.path("state").join(format!("hsm-hsm-{zone}.lock"))
    }

    /// A tool of SoftHSM or OpenSC on the token directory of a zone.
    pub(super) fn tool(&self, program: &str, zone: &str, arguments: &[&str]) -> Ran {
        let mut command = Command::new(program);
        command.arg("--module").arg(&self.module).args(arguments);
        tool::run(command.env("SOFTHSM2_CONF", self.softhsm_conf(zone)).env("LAB_PIN", PIN))
    }

    /// pkcs11-tool on the token of a zone, without a login.
    pub(super) fn pkcs11_tool(&self, zone: &str, arguments: &[&str]) -> Ran {
        let token = label(zone);
        self.tool("pkcs11-tool", zone, &[&["--token-label", &token][..], arguments].concat())
    }

    /// What pkcs11-tool shows of each object in a token after kmsuser's login; its first line names the class.
    pub(super) fn objects(&self, zone: &str) -> Vec<String> {
        let text = self.pkcs11_tool(zone, &["--login", "--pin", "env:LAB_PIN", "--list-objects"]).ok();
        let mut objects: Vec<String> = Vec::new();
        for line in text.lines() {
            match objects.last_mut().filter(|_| line.starts_with(' ')) {
                Some(object) => object.push_str(&format!("\n{}", line.trim())),
                None => objects.push(line.to_owned()),
            }
        }
        objects
    }

    /// The token holds each object of the ceremony once and no other.
    #[track_caller]
    pub(super) fn assert_complete(&self, zone: &str) {
        let objects = self.objects(zone);
        let class = |object: &str| object.split(';').next().unwrap_or_default().to_owned();
        let name = |object: &str| field(object, "label:").to_owned();
        let mut found: Vec<(String, String)> = objects.iter().map(|object| (class(object), name(object))).collect();
        found.sort();
        let wanted = OBJECTS.map(|(class, label)| (class.to_owned(), label.to_owned()));
        assert_eq!(found, wanted, "zone {zone}:\n{}", objects.join("\n"));
    }

    /// What the token directory of a zone holds, but for what every login writes anew.
    pub(super) fn token_files(&self, zone: &str) -> BTreeMap<PathBuf, Vec<u8>> {
        let kept = |path: &Path| path.extension().is_some_and(|end| end == "object") && !path.ends_with("token.object");
        files(&self.tokens(zone)).into_iter().filter(|(path, _)| kept(path)).collect()
    }

    /// The parcel of an HSM in the ceremony folder.
    pub(super) fn parcel(&self, hsm: &str) -> serde_json::Value {
        let file = self.folder().join(format!("{hsm}.wrapping.json"));
        serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
    }

    /// Serial numbers of the initialised tokens in a zone.
    pub(super) fn serials(&self, zone: &str) -> Vec<String> {
        let slots = self.tool("pkcs11-tool", zone, &["--list-token-slots"]).ok();
        let serial =
            |line: &str| Some(line.trim().strip_prefix("serial num")?.trim_start_matches([' ', ':']).to_owned());
        slots.lines().filter_map(serial).filter(|serial| !serial.is_empty()).collect()
    }
}

/// The label of the token in a zone.
pub(super) fn label(zone: &str) -> String {
    format!("zone-{zone}")
}

/// What stands behind a name in the description of an object.
pub(super) fn field<'a>(object: &'a str, name: &str) -> &'a str {
    object.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().trim()
}

/// All files under a directory with their contents.
pub(super) fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).into_iter().flatten() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    found
}
