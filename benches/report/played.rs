//! Network HSMs, played by chaos-hsm over SoftHSM.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use chaos_hsm::Control;
use model::clock::Clock;

use super::daemon::{Daemon, cluster, hsms};
use super::watch::Watch;
use super::{Outcome, said};

/// What a network HSM is like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Network {
    /// Milliseconds that an operation takes.
    pub(super) service_ms: f64,
    /// Operations that it works on at once; there are as many sessions.
    pub(super) at_once: u32,
}

impl Network {
    /// Operations a second over two of them.
    pub(super) fn capacity(self) -> f64 {
        2.0 * f64::from(self.at_once) * 1e3 / self.service_ms
    }
}

/// Whose habits it has beside that, and what its operator writes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Habits {
    /// The profile.
    pub(super) profile: &'static str,
    /// How chaos-hsm plays it.
    played: &'static str,
    /// What is said of its capabilities beside the profile.
    said: &'static str,
    /// Of the cluster.
    rotation: &'static str,
    /// It is one slot for all zones: its module replicates by itself, and works on as much as two of the others.
    is_alone: bool,
}

impl Habits {
    /// None.
    pub(super) const SOFTHSM: Self =
        Self { profile: "softhsm", played: "", said: "", rotation: "connect", is_alone: false };
    /// A Luna partition.
    pub(super) const LUNA: Self = Self { profile: "luna", played: "personality = \"luna\"\n", ..Self::SOFTHSM };
    /// An AWS CloudHSM cluster of two HSMs behind one slot, which makes its keys in place. Its token is one of SoftHSM's, with
    /// the certificate that the ceremony has put there.
    pub(super) const CLOUDHSM: Self = Self {
        profile: "cloudhsm",
        played: "personality = \"cloudhsm\"\n",
        said: "objects.certificate = \"token\"\n",
        rotation: "none",
        is_alone: true,
    };
}

impl Habits {
    /// The members of a cluster that has the capacity of two such network HSMs, and what each of them is like.
    pub(super) fn members(self, network: Network) -> (&'static [&'static str], Network) {
        if self.is_alone {
            (&["hsm-a"], Network { at_once: 2 * network.at_once, ..network })
        } else {
            (&["hsm-a", "hsm-b"], network)
        }
    }
}

/// Has every HSM of a configuration be such a one, with its controls under `dir`.
fn play(config: &mut toml::Table, dir: &Path, network: Network, habits: Habits) -> Outcome<()> {
    cluster(config)?.insert("rotation".to_owned(), habits.rotation.into());
    let nonsense = || "the configuration of an HSM cannot be read".to_owned();
    let hsms = hsms(config)?;
    if habits.is_alone {
        let zones: toml::Value = hsms.iter().filter_map(|hsm| hsm.get("zone").cloned()).collect::<Vec<_>>().into();
        hsms.truncate(1);
        let alone = hsms.first_mut().and_then(toml::Value::as_table_mut).ok_or_else(nonsense)?;
        alone.remove("zone");
        alone.insert("zones".to_owned(), zones);
    }
    for (number, hsm) in hsms.iter_mut().enumerate() {
        let hsm = hsm.as_table_mut().ok_or_else(nonsense)?;
        let real = hsm.insert("module".to_owned(), text(&library()?)).ok_or_else(nonsense)?;
        let real = PathBuf::from(real.as_str().ok_or_else(nonsense)?);
        hsm.insert("profile".to_owned(), habits.profile.into());
        let capabilities: toml::Table = toml::from_str(habits.said).map_err(said("reading what is said of an HSM"))?;
        hsm.insert("capabilities".to_owned(), capabilities.into());
        hsm.insert("workers".to_owned(), 1.into());
        hsm.insert("sessions".to_owned(), i64::from(network.at_once).into());
        // The confinement of a worker would not let it read its rules.
        hsm.insert("sandbox".to_owned(), false.into());
        let variables = hsm.get_mut("env").and_then(toml::Value::as_table_mut).ok_or_else(nonsense)?;
        for (name, value) in environment(&dir.join(format!("chaos-{number}")), &real, network, habits)? {
            variables.insert(name.to_owned(), text(&value));
        }
    }
    Ok(())
}

/// A daemon over two of them, all of its workers ready, and a key.
pub(super) async fn start(dir: &Path, network: Network, habits: Habits, clock: &Clock) -> Outcome<(Daemon, String)> {
    let (members, network) = habits.members(network);
    let daemon = Daemon::start_with(dir, clock, |config| play(config, dir, network, habits)).await?;
    let key = daemon.create_keys(1).await?.pop().ok_or("no key was made")?;
    let watch = Watch::over(&daemon, clock).await?;
    for hsm in members {
        watch.until_whole(hsm).await?;
    }
    Ok((daemon, key))
}

/// Writes the rules of one into `dir`; what its processes find them by.
pub(super) fn environment(
    dir: &Path,
    real: &Path,
    network: Network,
    habits: Habits,
) -> Outcome<BTreeMap<&'static str, PathBuf>> {
    let control = Control::open(dir).map_err(said("opening the controls of a network HSM"))?;
    let Network { service_ms, at_once } = network;
    let rules = format!("{}[network]\nservice_ms = {service_ms:.1}\nat_once = {at_once}\n", habits.played);
    control.set(&rules).map_err(said("setting the rules of a network HSM"))?;
    // The token was there before, and has its user's own PIN.
    control.pin_was_changed();
    Ok(BTreeMap::from([("CHAOS_HSM_MODULE", real.to_owned()), ("CHAOS_HSM_DIR", dir.to_owned())]))
}

/// The module: beside this program, or one above.
pub(super) fn library() -> Outcome<PathBuf> {
    let here = std::env::current_exe().map_err(said("finding this program"))?;
    let mut places = here.ancestors().skip(1).take(2).map(|dir| dir.join("libchaos_hsm.so"));
    places.find(|path| path.exists()).ok_or_else(|| "libchaos_hsm.so is not beside this program".to_owned())
}

fn text(path: &Path) -> toml::Value {
    path.display().to_string().into()
}
