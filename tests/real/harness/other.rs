//! Clusters beside a site's own: blank tokens of any type, taken through the ceremony.

use std::fs;
use std::path::{Path, PathBuf};

use ceremony::{self, Participant};
use config::{self, Hsm};
use model::clock::Clock;
use model::secret::Secret;

use super::daemon::Site;

/// kmsuser's PIN after the ceremony.
pub(crate) const PIN: &str = "first-pin-of-other";
pub(crate) const SO_PIN: &str = "so-pin-of-other";

/// What makes a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    SoftHsm,
    Kryoptic,
}

/// A cluster that has been through the ceremony.
pub(crate) struct Other {
    /// Its table for the configuration.
    pub(crate) cluster: toml::Table,
    /// customerCA.crt, PEM.
    pub(crate) anchor: String,
}

/// The module of kryoptic, which `make test` builds first.
pub(crate) fn kryoptic() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let module = root.join("target/kryoptic/debug/libkryoptic_token.so");
    assert!(module.exists(), "{} is not there: scripts/kryoptic.sh builds it", module.display());
    module
}

/// A blank token of a kind, as a table of the configuration. Zone and id are named after it.
pub(crate) fn blank(dir: &Path, kind: Kind, name: &str) -> toml::Table {
    let zone = dir.join(name);
    fs::create_dir_all(zone.join("tokens")).unwrap();
    let mut hsm = toml::Table::new();
    let mut set = |field: &str, value: toml::Value| drop(hsm.insert(field.to_owned(), value));
    set("id", format!("hsm-{name}").into());
    set("zone", name.into());
    set("token_label", format!("other-{name}").into());
    let (module, variable, conf, text) = match kind {
        Kind::SoftHsm => {
            let tokens = zone.join("tokens").display().to_string();
            let text = format!("directories.tokendir = {tokens}\nlog.level = ERROR\n");
            (provision::find_module().unwrap(), "SOFTHSM2_CONF", zone.join("softhsm2.conf"), text)
        }
        Kind::Kryoptic => {
            let file = zone.join("tokens/token.sql").display().to_string();
            let text = format!("[[slots]]\nslot = 1\ndbtype = \"sqlite\"\ndbargs = {file:?}\n");
            (kryoptic(), "KRYOPTIC_CONF", zone.join("kryoptic.conf"), text)
        }
    };
    fs::write(&conf, text).unwrap();
    set("module", module.display().to_string().into());
    set("profile", if kind == Kind::SoftHsm { "softhsm" } else { "generic" }.into());
    set("env", toml::Table::from_iter([(variable.to_owned(), conf.display().to_string().into())]).into());
    set("kill", toml::Table::from_iter([("crypto_ms".to_owned(), 3_000.into())]).into());
    if kind == Kind::Kryoptic {
        super::chaos::allow(&mut hsm, "read", &conf);
        super::chaos::allow(&mut hsm, "write", &zone.join("tokens"));
    }
    hsm
}

impl Other {
    /// Carries the ceremony out over blank tokens of these kinds and names.
    pub(crate) async fn make(site: &Site, id: &str, tokens: &[(Kind, &str)]) -> Self {
        let dir = site.path().join(id);
        let hsms: Vec<toml::Value> = tokens.iter().map(|(kind, name)| blank(&dir, *kind, name).into()).collect();
        let mut cluster = toml::Table::new();
        cluster.insert("id".to_owned(), id.into());
        cluster.insert("hsm".to_owned(), hsms.into());
        let folder = dir.join("ceremony");
        let config = alone(site, &cluster);
        let of = |hsm: &Hsm| participant(&config, hsm);
        let participants: Vec<Participant> = config.clusters[0].hsms.iter().map(of).collect();
        let mut told = Vec::new();
        let (id, clock) = (id.into(), Clock::system());
        let done = ceremony::run(&id, &participants, &folder, &clock, &mut |step| told.push(step.to_owned())).await;
        done.unwrap_or_else(|error| panic!("{error}\nafter {told:#?}"));
        let anchor = fs::read_to_string(ceremony::trust_anchor(&folder)).unwrap();
        Self { cluster, anchor }
    }
}

/// A site's configuration with this cluster alone, as the ceremony reads it.
fn alone(site: &Site, cluster: &toml::Table) -> config::Config {
    let mut table = site.config();
    table.insert("cluster".to_owned(), vec![toml::Value::from(cluster.clone())].into());
    let file = site.path().join("ceremony.toml");
    fs::write(&file, table.to_string()).unwrap();
    config::load(&file).unwrap()
}

/// An HSM of a site's own cluster, as the ceremony takes part in it.
pub(crate) fn of_site(site: &Site, id: &str) -> Participant {
    let config = config::load(site.config_file()).unwrap();
    let hsm = config.clusters[0].hsms.iter().find(|hsm| hsm.id.as_str() == id).unwrap();
    participant(&config, hsm)
}

fn participant(config: &config::Config, hsm: &Hsm) -> Participant {
    let secret = |text: &str| Secret::new(text.as_bytes().to_vec());
    let mut participant = Participant::of(config, hsm, secret(PIN), Some(secret(SO_PIN)));
    participant.settings.worker = env!("CARGO_BIN_EXE_keystored").into();
    participant
}
