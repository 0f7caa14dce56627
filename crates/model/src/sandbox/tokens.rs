//! Modules that keep their tokens in files, and the configuration of theirs that says where.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// SoftHSM's configuration where the environment names none.
const SOFTHSM_DEFAULT: &str = "/etc/softhsm/softhsm2.conf";

/// Variables that name the modules' configurations.
const SOFTHSM_VARIABLE: &str = "SOFTHSM2_CONF";
const KRYOPTIC_VARIABLE: &str = "KRYOPTIC_CONF";

/// Who says where the tokens are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tokens {
    /// Nobody: they are in an HSM, or where the operator has allowed the module to write.
    #[default]
    Elsewhere,
    /// SoftHSM's softhsm2.conf.
    SoftHsm,
    /// kryoptic's configuration.
    Kryoptic,
}

impl Tokens {
    /// The module's configuration, which it reads; `environment` is the module's.
    #[must_use]
    pub fn configuration(self, environment: &dyn Fn(&str) -> Option<PathBuf>) -> Option<PathBuf> {
        match self {
            Self::Elsewhere => None,
            Self::SoftHsm => environment(SOFTHSM_VARIABLE).or_else(|| Some(SOFTHSM_DEFAULT.into())),
            Self::Kryoptic => environment(KRYOPTIC_VARIABLE),
        }
    }

    /// Which of these a module may be that runs under `profile`, which is not known where it is not confined: also one that
    /// stands before another module, whose configuration the environment names then.
    pub fn possible(
        profile: Option<Self>,
        environment: &dyn Fn(&str) -> Option<PathBuf>,
    ) -> impl Iterator<Item = Self> {
        let named = [(Self::SoftHsm, SOFTHSM_VARIABLE), (Self::Kryoptic, KRYOPTIC_VARIABLE)];
        let possible = named.map(|(one, name)| (profile == Some(one) || environment(name).is_some()).then_some(one));
        possible.into_iter().flatten()
    }

    /// The directories that a configuration names: those that the module writes to.
    #[must_use]
    pub fn directories(self, configuration: &str) -> Vec<PathBuf> {
        let settings = configuration.lines().filter_map(|line| line.split('#').next()?.split_once('='));
        let values = |wanted: &'static str| {
            settings.clone().filter(move |(name, _)| name.trim() == wanted).map(|(_, value)| value.trim())
        };
        match self {
            Self::Elsewhere => Vec::new(),
            // Where it is set twice, SoftHSM takes the later one.
            Self::SoftHsm => values("directories.tokendir").next_back().map(PathBuf::from).into_iter().collect(),
            // Databases, with their journals beside them.
            Self::Kryoptic => values("dbargs")
                .filter_map(|value| Path::new(value.trim_matches(['"', '\''])).parent().map(Path::to_owned))
                .filter(|directory| directory.is_absolute())
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_directory_is_read_from_softhsms_configuration() {
        let text = "# comment\ndirectories.tokendir = /var/lib/tokens/ # here\nobjectstore.backend = file\n";
        assert_eq!(Tokens::SoftHsm.directories(text), [Path::new("/var/lib/tokens/")]);
        assert!(Tokens::SoftHsm.directories("# directories.tokendir = /x\n").is_empty());
        let twice = "directories.tokendir = /a\ndirectories.tokendir = /b\n";
        assert_eq!(Tokens::SoftHsm.directories(twice), [Path::new("/b")]);
        assert!(Tokens::Elsewhere.directories(text).is_empty());
    }

    #[test]
    fn kryoptic_writes_beside_each_of_its_databases() {
        let text = "[[slots]]\nslot = 1\ndbtype = \"sqlite\"\ndbargs = \"/var/lib/one/token.sql\"\n[[slots]]\nslot = 2\n\
                    dbargs = '/var/lib/two/token.sql'\n";
        assert_eq!(Tokens::Kryoptic.directories(text), [Path::new("/var/lib/one"), Path::new("/var/lib/two")]);
        assert!(Tokens::Kryoptic.directories("dbargs = \"token.sql\"\n").is_empty());
    }

    #[test]
    fn a_module_may_stand_before_another_one_and_need_not_be_confined() {
        let possible = |profile, named: &str| {
            Tokens::possible(profile, &|name| (name == named).then(|| "/a.conf".into())).collect::<Vec<_>>()
        };
        assert_eq!(possible(Some(Tokens::SoftHsm), ""), [Tokens::SoftHsm]);
        assert_eq!(possible(Some(Tokens::Elsewhere), "SOFTHSM2_CONF"), [Tokens::SoftHsm], "as behind chaos-hsm");
        assert_eq!(possible(None, "SOFTHSM2_CONF"), [Tokens::SoftHsm], "sandbox = false");
        assert_eq!(possible(None, "KRYOPTIC_CONF"), [Tokens::Kryoptic]);
        assert_eq!(possible(Some(Tokens::Elsewhere), ""), []);
        assert_eq!(possible(Some(Tokens::Kryoptic), "SOFTHSM2_CONF"), [Tokens::SoftHsm, Tokens::Kryoptic]);
    }

    #[test]
    fn a_module_s_configuration_is_where_its_environment_says() {
        let set = |_: &str| Some(PathBuf::from("/a.conf"));
        let unset = |_: &str| None;
        assert_eq!(Tokens::SoftHsm.configuration(&set), Some("/a.conf".into()));
        assert_eq!(Tokens::SoftHsm.configuration(&unset), Some(SOFTHSM_DEFAULT.into()));
        assert_eq!(Tokens::Kryoptic.configuration(&unset), None);
        assert_eq!(Tokens::Elsewhere.configuration(&set), None);
    }
}
