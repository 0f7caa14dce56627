//! Clients beside the development one: other certificates of the same authority, and who of them may do everything.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use model::clock::Clock;
use pki::Authority;

use super::call::{Address, Caller};
use super::daemon::{Daemon, Site};

/// Common names of clients that tests call with where it does not matter who calls; they may do everything.
pub(super) const ANYBODY: [&str; 4] = ["dev-client", "guest", "tester", "attacker"];

/// How long certificates of other clients last.
const VALID: Duration = Duration::from_secs(3_600);

impl Site {
    /// Has the configuration name the holders of these common names as administrators, and nobody else.
    pub(crate) fn administrators(&self, names: &[&str]) {
        let names: Vec<toml::Value> = names.iter().map(|name| format!("cn:{name}").into()).collect();
        self.configure(|config| drop(config.insert("administrators".to_owned(), names.into())));
    }
}

/// Another client than [`Daemon::caller`]: with another certificate of the same authority.
pub(crate) async fn guest_of(daemon: &Daemon) -> Caller {
    address_of(daemon, "guest").connect().await.unwrap()
}

/// Where a client of this common name connects.
pub(crate) fn address_of(daemon: &Daemon, name: &str) -> Address {
    let mut address = daemon.address();
    let key = fs::read_to_string(daemon.client_authority_key()).unwrap();
    let authority = Authority::load(&address.ca, &key).unwrap();
    let issued = authority.client(name, None, Clock::system().calendar(), VALID).unwrap();
    address.certificate = issued.certificate;
    address.key = String::from_utf8(issued.key.expose().to_vec()).unwrap();
    address
}

/// What a client of this common name needs, as keystorectl reads it; its certificate and key go into this folder.
pub(crate) fn environment_of(daemon: &Daemon, folder: &Path, name: &str) -> BTreeMap<String, String> {
    let (address, mut environment) = (address_of(daemon, name), daemon.environment().unwrap());
    for (variable, content) in [("KEYSTORED_CERT", address.certificate), ("KEYSTORED_KEY", address.key)] {
        let file = folder.join(format!("{name}-{variable}.pem"));
        fs::write(&file, content).unwrap();
        environment.insert(variable.to_owned(), file.to_str().unwrap().to_owned());
    }
    environment
}
