//! Personalities with a name, and what a person says beside it.

use toml::{Table, Value};

use super::settings::Personality;

/// What a file of rules has of a personality.
pub(crate) const KEYS: &[&str] = &[
    "personality",
    "gcm",
    "mechanisms",
    "wrap",
    "attributes",
    "objects",
    "login",
    "calls",
    "codes",
    "token",
    "library",
    "topology",
];

macro_rules! presets {
    ($($name:literal),+ $(,)?) => {
        /// Each with its settings.
        const PRESETS: &[(&str, &str)] = &[$(($name, include_str!(concat!("presets/", $name, ".toml")))),+];
    };
}

presets!(
    "softhsm",
    "cloudhsm",
    "luna",
    "luna-fips",
    "luna-ha",
    "nshield",
    "utimaco",
    "utimaco-fips",
    "marvell",
    "google",
    "nethsm",
    "yubihsm2",
    "tpm2",
    "smartcard-hsm",
);

/// The personality that these settings describe: what they say, over what their presets say.
pub(crate) fn read(settings: Table) -> Result<Personality, String> {
    let mut all = Table::new();
    lay(&mut all, settings, &mut Vec::new())?;
    let personality: Personality = Value::Table(all).try_into().map_err(|error| format!("{error}"))?;
    personality.check().map(|()| personality)
}

/// Lays settings over all that was laid before, and under them the presets that they name: each once, so that two that have
/// one in common can be combined.
fn lay(all: &mut Table, mut over: Table, laid: &mut Vec<String>) -> Result<(), String> {
    let wrong = || "personality: a name, or a list of names".to_owned();
    let names = match over.remove("personality") {
        None => Vec::new(),
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => names
            .into_iter()
            .map(|name| name.as_str().map(str::to_owned).ok_or_else(wrong))
            .collect::<Result<_, _>>()?,
        Some(_) => return Err(wrong()),
    };
    for name in names {
        let known = PRESETS.iter().find(|(preset, _)| *preset == name);
        let (_, text) = known.ok_or_else(|| {
            let names: Vec<_> = PRESETS.iter().map(|(name, _)| *name).collect();
            format!("personality: {name} is none of {}", names.join(", "))
        })?;
        if !laid.contains(&name) {
            let preset: Table = text.parse().map_err(|error| format!("{name}: {error}"))?;
            laid.push(name);
            lay(all, preset, laid)?;
        }
    }
    merge(all, over);
    Ok(())
}

/// Tables are merged; whatever else is said takes the place of what was said before.
fn merge(under: &mut Table, over: Table) {
    for (key, value) in over {
        match (under.get_mut(&key), value) {
            (Some(Value::Table(under)), Value::Table(over)) => merge(under, over),
            (_, value) => drop(under.insert(key, value)),
        }
    }
}

#[cfg(test)]
mod tests {
    use cryptoki_sys::*;

    use super::super::names::{Function, Mechanism};
    use super::super::settings::{Iv, PinForm};
    use super::*;

    fn of(text: &str) -> Result<Personality, String> {
        read(text.parse().unwrap())
    }

    #[test]
    fn every_preset_makes_sense_and_is_told_of() {
        for (name, _) in PRESETS {
            of(&format!("personality = \"{name}\"")).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert!(include_str!("../../README.md").contains(&format!("`{name}`")), "{name}");
        }
    }

    #[test]
    fn what_is_said_beside_a_preset_goes_over_it() {
        let cloud = of("personality = \"cloudhsm\"").unwrap();
        let gcm = cloud.gcm(CKM_AES_GCM).unwrap();
        assert_eq!((gcm.iv, gcm.max_plaintext), (Iv::ZeroedWriteback, Some(16_224)));
        assert_eq!(cloud.login.pin_form, PinForm::UserPin);
        assert_eq!(cloud.mechanisms.map[&Mechanism(0x8000_2109)], Mechanism(CKM_AES_KEY_WRAP));
        let other =
            of("personality = \"cloudhsm\"\n[gcm]\nmax_plaintext = 99\n[calls.refused]\nC_CopyObject = \"CKR_OK\"");
        let other = other.unwrap();
        assert_eq!(other.gcm(CKM_AES_GCM).unwrap().max_plaintext, Some(99));
        assert_eq!(other.gcm(CKM_AES_GCM).unwrap().iv, Iv::ZeroedWriteback, "what is not said stays");
        assert_eq!(other.calls.refused[&Function("C_CopyObject")].0, CKR_OK);
        assert_eq!(other.calls.refused[&Function("C_SetPIN")].0, CKR_FUNCTION_NOT_SUPPORTED);
    }

    #[test]
    fn presets_are_laid_over_each_other_in_the_order_of_their_names() {
        for names in ["\"luna-ha\", \"luna-fips\"", "\"luna-fips\", \"luna-ha\""] {
            let both = of(&format!("personality = [{names}]")).unwrap();
            assert_eq!(both.topology.as_ref().unwrap().back_ends, 2);
            assert_eq!(both.gcm(CKM_AES_GCM).unwrap().iv, Iv::NullAppended, "what they have in common is laid once");
            assert!(!both.login.must_change);
        }
        let last = of("personality = [\"luna-fips\", \"utimaco\"]").unwrap();
        assert_eq!(last.gcm(CKM_AES_GCM).unwrap().iv, Iv::Caller);
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for (text, says) in [
            ("personality = \"clodhsm\"", "clodhsm"),
            ("personality = 7", "list of names"),
            ("[gcm]\niv = \"sent-by-post\"", "sent-by-post"),
            ("[gcm]\niv = \"null-appended\"\niv_length = 13", "12 or 16"),
            ("[gcm]\nwritten = \"at-encrypt\"", "zeroed-writeback"),
            ("[gcm]\nalso = [{ iv = \"caller\" }]", "twice"),
            ("[gcm]\n[mechanisms]\nhidden = [\"CKM_AES_GCM\"]", "hidden"),
            ("[mechanisms.map]\n0x80000170 = \"0x80000170\"", "map"),
            ("[mechanisms]\nhidden = [\"CKM_AES_WRAP\"]", "CKM_AES_WRAP"),
            ("[attributes.a]\nrefuse = [\"CKA_ID\"]\ndemand = [\"CKA_ID\"]", "attributes.a"),
            ("[attributes.a]\nonly = [\"CKA_ID\"]\ndemand = [\"CKA_LABEL\"]", "demanded"),
            ("[attributes.a]\nrefuse = [\"CKA_ID\"]\nignore = [\"CKA_ID\"]", "ignored"),
            ("[attributes.a]\nrefuse = [\"CKA_IDD\"]", "CKA_IDD"),
            ("[login]\nuser = \"kms_user\"", "user"),
            ("[login]\ntries = 0", "tries"),
            (
                "[login]\nmust_change = true\n[calls.refused]\nC_SetPIN = \"CKR_FUNCTION_FAILED\"",
                "nobody could ever log in",
            ),
            ("[calls]\nrandom = [9, 8]", "random"),
            ("[calls.refused]\nC_Encrpyt = \"CKR_OK\"", "C_Encrpyt"),
            ("[calls.rate]\nper_second = 0", "per_second"),
            ("[topology]\nback_ends = 1", "back_ends"),
            ("[topology]\nback_ends = 2\ndown = [2]", "down"),
            ("[topology]\nback_ends = 2\noutages = { every = 9, lasts = 9 }", "outages"),
            ("[codes.C_Login]\nCKR_OKAY = \"CKR_OK\"", "CKR_OKAY"),
            ("[login]\npin_fomr = \"{pin}\"", "pin_fomr"),
        ] {
            let error = of(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
