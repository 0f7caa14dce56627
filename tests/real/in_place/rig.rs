//! A site whose only HSM stands for two zones and makes its keys in place: one SoftHSM token plays the whole cluster.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use chaos_hsm::Control;

use crate::harness::daemon::Site;
use crate::harness::other::{self, Kind};
use crate::harness::tool::{self, Ran};
use crate::harness::{Daemon, chaos};

/// Where the HSM stands, as it is shown.
pub(crate) const ZONE: &str = "a+b";
pub(crate) const HSM: &str = "hsm-alone";
/// What is said of SoftHSM so that it is such an HSM.
pub(crate) const SOFTHSM: &str = "topology.kind = \"self-replicating\"\nkeys.made = \"in-place\"";

pub(crate) struct Alone {
    pub(crate) site: Site,
    pub(crate) control: Control,
}

/// A file that only its owner may read.
fn private(path: PathBuf, text: &str) -> PathBuf {
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

impl Alone {
    /// By this profile and with this said of its capabilities, under a personality or none. Before the ceremony.
    pub(crate) async fn blank(profile: &str, said: &str, personality: &str) -> Self {
        let mut site = Site::prepare().await;
        let dir = site.path().join("alone");
        let mut hsm = other::blank(&dir, Kind::SoftHsm, "alone");
        let conf = PathBuf::from(hsm["env"]["SOFTHSM2_CONF"].as_str().unwrap());
        // Most HSMs' modules leave that to their vendor's tools.
        let init = ["--init-token", "--free", "--label", "other-alone", "--so-pin", other::SO_PIN, "--pin", other::PIN];
        tool::run(Command::new("softhsm2-util").args(init).env("SOFTHSM2_CONF", &conf)).ok();
        let mut set = |field: &str, value: toml::Value| drop(hsm.insert(field.to_owned(), value));
        set("profile", profile.into());
        set("zones", vec!["a", "b"].into());
        set("capabilities", toml::from_str::<toml::Table>(said).unwrap().into());
        hsm.remove("zone");
        if profile != "softhsm" {
            // Its own limits follow from how long such a module may take, and its sandbox knows no SoftHSM.
            hsm.remove("kill");
            chaos::allow(&mut hsm, "read", &conf);
            chaos::allow(&mut hsm, "write", &dir.join("alone/tokens"));
        }
        let control = chaos::control(&mut hsm, &site.path().join("chaos"));
        control.set(personality).unwrap();
        site.configure(|config| config["cluster"][0]["hsm"] = vec![toml::Value::from(hsm)].into());
        site.layout.pin = private(site.path().join("credentials").join(format!("{ZONE}.pin")), other::PIN);
        site.layout.trust_anchor = site.path().join("alone/ceremony/customerCA.crt");
        Self { site, control }
    }

    /// The same after the ceremony.
    pub(crate) async fn prepare(profile: &str, said: &str, personality: &str) -> Self {
        let alone = Self::blank(profile, said, personality).await;
        alone.init().ok();
        alone
    }

    /// The ceremony, or what is left of it.
    pub(crate) fn init(&self) -> Ran {
        let shown = |path: &Path| path.display().to_string();
        let (config, pin) = (shown(self.site.config_file()), shown(&self.site.layout.pin));
        let folder = shown(&self.site.path().join("alone/ceremony"));
        let arguments = ["cluster", "init", "--config", &config, "--folder", &folder, "--pin-file", &pin];
        tool::keystorectl(Default::default(), &arguments)
    }
}

/// What the token holds as a client sees it that knows SoftHSM alone.
pub(crate) fn objects(daemon: &Daemon) -> String {
    let zone = &daemon.zones[0];
    let mut command = Command::new("pkcs11-tool");
    command.arg("--module").arg(provision::find_module().unwrap()).args(["--token-label", &zone.label]);
    command.args(["--login", "--pin", "env:ALONE_PIN", "--list-objects", "--type", "secrkey"]);
    tool::run(command.env("SOFTHSM2_CONF", &zone.softhsm_conf).env("ALONE_PIN", zone.pin())).ok()
}

/// Takes an object away as such a client would.
pub(crate) fn delete(daemon: &Daemon, id: &str) {
    let zone = &daemon.zones[0];
    let mut command = Command::new("pkcs11-tool");
    command.arg("--module").arg(provision::find_module().unwrap()).args(["--token-label", &zone.label]);
    command.args(["--login", "--pin", "env:ALONE_PIN", "--delete-object", "--type", "secrkey", "--id", id]);
    tool::run(command.env("SOFTHSM2_CONF", &zone.softhsm_conf).env("ALONE_PIN", zone.pin())).ok();
}
