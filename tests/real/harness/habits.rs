//! HSMs with the habits of a vendor, and what an operator writes of them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use chaos_hsm::Control;

use super::other::{self, Kind};
use super::zone::tokens;
use super::{chaos, tool};

/// A kind of HSM.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Habits {
    /// For people.
    pub(crate) name: &'static str,
    /// What it is played over.
    pub(crate) below: Kind,
    /// How chaos-hsm plays it.
    pub(crate) played: &'static str,
    /// Its profile.
    pub(crate) profile: &'static str,
    /// What is said of its capabilities beside that: what docs/hsms.md or the profile's own comment has an operator say.
    pub(crate) said: &'static str,
    /// The token is initialised by the vendor's tool, and its user has changed the PIN that it was given, before the
    /// ceremony.
    pub(crate) prepared: bool,
    /// Nobody changes its PIN by PKCS#11, so that the operator has `rotation = "none"`.
    pub(crate) fixed_pin: bool,
}

const fn of_vendor(name: &'static str, played: &'static str, profile: &'static str) -> Habits {
    Habits { name, below: Kind::SoftHsm, played, profile, said: "", prepared: false, fixed_pin: false }
}

pub(crate) const SOFTHSM: Habits = of_vendor("softhsm", "personality = \"softhsm\"\n", "softhsm");
pub(crate) const KRYOPTIC: Habits =
    Habits { below: Kind::Kryoptic, ..of_vendor("kryoptic", "personality = \"softhsm\"\n", "kryoptic") };
pub(crate) const LUNA: Habits = Habits { prepared: true, ..of_vendor("luna", "personality = \"luna\"\n", "luna") };
pub(crate) const LUNA_FIPS: Habits =
    Habits { prepared: true, ..of_vendor("luna-fips", "personality = \"luna-fips\"\n", "luna-fips") };
pub(crate) const NSHIELD: Habits = of_vendor("nshield", "personality = \"nshield\"\n", "nshield");
pub(crate) const UTIMACO: Habits = of_vendor("utimaco", "personality = \"utimaco\"\n", "utimaco");
pub(crate) const UTIMACO_FIPS: Habits = Habits {
    said: "gcm.iv = \"zeroed-writeback\"",
    ..of_vendor("utimaco-fips", "personality = \"utimaco-fips\"\n", "utimaco")
};
/// As a member like any other, one cluster of CloudHSM's behind each slot. It holds no certificates.
pub(crate) const CLOUDHSM: Habits = Habits {
    prepared: true,
    fixed_pin: true,
    said: "keys.made = \"wrapped\"",
    ..of_vendor("cloudhsm", "personality = \"cloudhsm\"\n", "cloudhsm")
};
/// The same where certificates were switched on, and its operator says so.
pub(crate) const CLOUDHSM_WITH_CERTIFICATES: Habits = Habits {
    prepared: true,
    fixed_pin: true,
    said: "keys.made = \"wrapped\"\nobjects.certificate = \"token\"",
    ..of_vendor(
        "cloudhsm with certificates",
        "personality = \"cloudhsm\"\n\
         [objects]\nclasses = [\"secret-key\", \"private-key\", \"public-key\", \"certificate\"]\n",
        "cloudhsm",
    )
};
/// No vendor's profile has this way of IVs; it is that of a second mechanism of CloudHSM's, by its number.
pub(crate) const PREPENDED: Habits = Habits {
    said: "gcm.mechanism = 0x80001087\ngcm.iv = \"null-prepended\"\ngcm.iv_bits = 0",
    ..of_vendor("null-prepended", "[gcm]\nmechanism = \"0x80001087\"\niv = \"null-prepended\"\n", "generic")
};

impl Habits {
    /// A token of this kind as it comes to the ceremony, as a table of the configuration. Zone and id are named after it.
    pub(crate) fn come(&self, dir: &Path, name: &str) -> (toml::Table, Control) {
        let mut hsm = other::blank(dir, self.below, name);
        if self.prepared {
            prepare(&hsm);
        }
        let control = self.play(&mut hsm, &dir.join(name).join("chaos"));
        (hsm, control)
    }

    /// Has the HSM of this table of a configuration be one like this, with its controls in `dir`.
    pub(crate) fn play(&self, hsm: &mut toml::Table, dir: &Path) -> Control {
        let control = chaos::control(hsm, dir);
        control.set(self.played).unwrap();
        if self.prepared {
            control.pin_was_changed();
        }
        self.describe(hsm);
        if self.below == Kind::SoftHsm {
            // What its profile knows of SoftHSM, and no vendor's does.
            let conf = PathBuf::from(hsm["env"]["SOFTHSM2_CONF"].as_str().unwrap());
            chaos::allow(hsm, "write", &tokens(&conf));
            chaos::allow(hsm, "read", &conf);
        }
        control
    }

    /// Says of the HSM of this table of a configuration that it is one like this, whatever it is.
    pub(crate) fn describe(&self, hsm: &mut toml::Table) {
        hsm.insert("profile".to_owned(), self.profile.into());
        let said = toml::from_str::<toml::Table>(self.said).unwrap();
        hsm.insert("capabilities".to_owned(), said.into());
    }
}

/// What the vendor's tool does to a partition.
fn prepare(hsm: &toml::Table) {
    let label = hsm["token_label"].as_str().unwrap();
    let token = ["--slot-index", "0", "--init-token", "--label", label, "--so-pin", other::SO_PIN];
    let user = ["--token-label", label, "--login", "--login-type", "so", "--so-pin", other::SO_PIN];
    let user = [&user[..], &["--init-pin", "--new-pin", other::PIN]].concat();
    for arguments in [&token[..], &user] {
        let mut command = Command::new("pkcs11-tool");
        command.arg("--module").arg(hsm["module"].as_str().unwrap()).args(arguments);
        for (variable, value) in hsm["env"].as_table().unwrap() {
            command.env(variable, value.as_str().unwrap());
        }
        tool::run(&mut command).ok();
    }
}

/// How many files SoftHSM has for objects of the tokens that these settings name; without an HSM's help.
pub(crate) fn objects(tokens: &Path) -> usize {
    let tokens = fs::read_dir(tokens).into_iter().flatten().flatten();
    let files = tokens.flat_map(|token| fs::read_dir(token.path()).into_iter().flatten().flatten());
    let is_object = |file: &fs::DirEntry| {
        let name = file.file_name().into_string().unwrap_or_default();
        name.ends_with(".object") && name != "token.object"
    };
    files.filter(is_object).count()
}
