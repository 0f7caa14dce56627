//! What an HSM can do and how: facts about a vendor's module, each of which some code goes by.
//!
//! The names of fields are the keys of the data file and of `[cluster.hsm.capabilities]`.

use serde::{Deserialize, Serialize};

use super::login::Login;
use super::objects::{Attributes, Wrap};
use super::stored::Stored;
use super::topology::{Keys, Topology};

/// Everything that is known of how an HSM behaves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Capabilities {
    /// Where these values are from.
    pub basis: Basis,
    /// How it is run where the configuration does not say.
    pub run: Run,
    /// How it does AES-GCM.
    pub gcm: Gcm,
    /// How it wraps keys.
    pub wrap: Wrap,
    /// What objects in it are described by.
    pub attributes: Attributes,
    /// What it holds.
    pub objects: Stored,
    /// How kmsuser logs in.
    pub login: Login,
    /// What its functions can be asked for.
    pub calls: Calls,
    /// What its return values mean where they mean something else than the standard says.
    pub codes: Codes,
    /// What stands behind its slot.
    pub topology: Topology,
    /// Where its keys come from.
    pub keys: Keys,
}

/// Where the values of a profile are from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Basis {
    /// Measured on the module itself.
    Measured,
    /// From documents, code and reports; not run on the device.
    Documents,
    /// What the standard says; no vendor is meant.
    Standard,
}

/// How an HSM is run where the configuration of the HSM does not say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Data worker processes.
    pub workers: u16,
    /// Sessions in each.
    pub sessions: u16,
    /// Keep copies of keys in use as session objects.
    pub hot_copies: bool,
}

/// How an HSM does AES-GCM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Gcm {
    /// The number of the mechanism.
    pub mechanism: u64,
    /// Who makes the IV, and how it is told.
    pub iv: IvBy,
    /// Bytes of the IV.
    pub iv_bytes: u64,
    /// What ulIvBits says in the parameters.
    pub iv_bits: u64,
    /// Longest plaintext, in bytes.
    pub plaintext_max: u64,
    /// Longest additional authenticated data, in bytes.
    pub aad_max: u64,
}

/// The standard's word for a wrong PIN.
const CKR_PIN_INCORRECT: u64 = 0xa0;

/// What the standard has.
pub const CKM_AES_GCM: u64 = 0x1087;

impl Gcm {
    /// It is the standard's mechanism, with the IV that the caller chooses and all of its parameters filled.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.mechanism == CKM_AES_GCM && self.iv == IvBy::Caller && self.iv_bits == self.iv_bytes * 8
    }
}

/// Who makes the IV of AES-GCM, and how it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IvBy {
    /// The caller.
    Caller,
    /// The HSM, which writes it over the zeroes that the parameters point to.
    ZeroedWriteback,
    /// The HSM, which is given none and puts it behind ciphertext and tag.
    NullAppended,
    /// The HSM, which is given none and puts it before the ciphertext, and wants it there again to open that.
    NullPrepended,
}

impl IvBy {
    /// Its name in the configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Caller => "caller",
            Self::ZeroedWriteback => "zeroed-writeback",
            Self::NullAppended => "null-appended",
            Self::NullPrepended => "null-prepended",
        }
    }
}

/// What functions can be asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calls {
    /// C_OpenSession opens read-only sessions, and they are enough for encrypting and decrypting.
    pub read_only_sessions: bool,
    /// C_CopyObject makes a session object of a token object: a hot copy of a key that there is in no wrapped form.
    pub copy_object: bool,
    /// Most bytes of one C_GenerateRandom.
    pub random_bytes: u64,
    /// Most sessions of all processes of this host together; 0 where no limit is known.
    pub sessions: u64,
    /// How long the module itself may try again, or move to another HSM, within one call, in milliseconds.
    pub retry_ms: u64,
}

/// What return values mean.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Codes {
    /// The first that fits decides, before what the standard says.
    pub meaning: Vec<Meaning>,
}

/// What a return value means that one of some functions gives.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Meaning {
    /// Their names in the standard; `*` is any.
    pub functions: Vec<String>,
    /// The value.
    pub code: u64,
    /// What it means.
    pub means: Means,
}

/// Whose trouble a return value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Means {
    /// The caller's fault.
    Request,
    /// The key's object is gone.
    KeyAbsent,
    /// The session's trouble.
    Session,
    /// The token or the module is out of service.
    Token,
    /// The login was refused.
    Login,
    /// The user is locked.
    Locked,
    /// A bad ciphertext, or the token: the proof ciphertext tells.
    Ambiguous,
    /// The token does not do that.
    Refused,
    /// The token has too much to do at this moment.
    Busy,
    /// A bad ciphertext, the token, or too much to do: a proof ciphertext that opens tells.
    AmbiguousOrBusy,
}

impl Codes {
    /// What a function's return value means, where this HSM has a meaning of its own for it.
    #[must_use]
    pub fn means(&self, function: &str, code: u64) -> Option<Means> {
        let fits = |meaning: &&Meaning| {
            meaning.code == code && meaning.functions.iter().any(|name| name == function || name == "*")
        };
        self.meaning.iter().find(fits).map(|meaning| meaning.means)
    }

    /// The same, where the meaning that decides names the function: what is said of any function may not be meant of this one.
    #[must_use]
    pub fn means_by_name(&self, function: &str, code: u64) -> Option<Means> {
        let names = |meaning: &Meaning, wanted: &str| meaning.functions.iter().any(|name| name == wanted);
        let fits = |meaning: &&Meaning| meaning.code == code && (names(meaning, function) || names(meaning, "*"));
        self.meaning.iter().find(fits).filter(|meaning| names(meaning, function)).map(|meaning| meaning.means)
    }

    /// A function that looks at PINs and the standard's word for a wrong one, where that is said to mean something else: then
    /// no wrong PIN would be noticed before the token has locked its user.
    #[must_use]
    pub fn hidden_wrong_pin(&self) -> Option<(&'static str, u64)> {
        ["C_Login", "C_SetPIN"].into_iter().map(|function| (function, CKR_PIN_INCORRECT)).find(|(function, code)| {
            self.means(function, *code).is_some_and(|means| !matches!(means, Means::Login | Means::Locked))
        })
    }

    /// A function and a code that are said to tell of a bad ciphertext alone, while another function says by the same code
    /// that it has too much to do: so does this one then.
    #[must_use]
    pub fn hidden_busy(&self) -> Option<(&str, u64)> {
        self.meaning.iter().filter(|meaning| meaning.means == Means::Busy).find_map(|busy| {
            let unclear =
                self.meaning.iter().find(|meaning| meaning.code == busy.code && meaning.means == Means::Ambiguous)?;
            Some((unclear.functions.first()?.as_str(), unclear.code))
        })
    }
}

impl Capabilities {
    /// The standard's ways and nobody's habits. Profile `generic` has these in the data file; a test of it compares them.
    #[must_use]
    pub fn standard() -> Self {
        // Codes for "something went wrong", which several modules give for a wrong tag as well.
        let unclear = [0x05, 0x06, 0x07, 0x30].map(|code| Meaning {
            functions: ["C_Decrypt", "C_UnwrapKey"].map(str::to_owned).to_vec(),
            code,
            means: Means::Ambiguous,
        });
        Self {
            basis: Basis::Standard,
            run: Run { workers: 1, sessions: 8, hot_copies: false },
            gcm: Gcm {
                mechanism: CKM_AES_GCM,
                iv: IvBy::Caller,
                iv_bytes: 12,
                iv_bits: 96,
                plaintext_max: 4_096,
                aad_max: 8_213,
            },
            wrap: Wrap::standard(),
            attributes: Attributes::standard(),
            objects: Stored::standard(),
            login: Login::standard(),
            calls: Calls {
                read_only_sessions: false,
                copy_object: true,
                random_bytes: 4_096,
                sessions: 0,
                retry_ms: 0,
            },
            codes: Codes { meaning: unclear.to_vec() },
            topology: Topology::standard(),
            keys: Keys::standard(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn codes() -> Codes {
        let meaning = |functions: &[&str], code, means| {
            let functions = functions.iter().map(|name| (*name).to_owned()).collect();
            Meaning { functions, code, means }
        };
        Codes {
            meaning: vec![
                meaning(&["C_Decrypt", "C_UnwrapKey"], 6, Means::Ambiguous),
                meaning(&["*"], 6, Means::Busy),
                meaning(&["C_Login"], 5, Means::Login),
            ],
        }
    }

    #[test]
    fn the_first_meaning_that_fits_decides() {
        let codes = codes();
        assert_eq!(codes.means("C_Decrypt", 6), Some(Means::Ambiguous));
        assert_eq!(codes.means("C_Encrypt", 6), Some(Means::Busy));
        assert_eq!(codes.means("C_Login", 5), Some(Means::Login));
        assert_eq!(codes.means("C_Encrypt", 5), None);
        assert_eq!(codes.means("C_Decrypt", 7), None);
    }

    #[test]
    fn what_is_said_of_all_functions_names_none() {
        let codes = codes();
        assert_eq!((codes.means("C_Login", 6), codes.means_by_name("C_Login", 6)), (Some(Means::Busy), None));
        assert_eq!(codes.means_by_name("C_Login", 5), Some(Means::Login));
        assert_eq!(codes.means_by_name("C_Decrypt", 6), Some(Means::Ambiguous));
        // One that never decides says nothing.
        let mut hidden = codes;
        hidden.meaning.push(Meaning { functions: vec!["C_Login".to_owned()], code: 6, means: Means::Login });
        assert_eq!((hidden.means("C_Login", 6), hidden.means_by_name("C_Login", 6)), (Some(Means::Busy), None));
    }

    #[test]
    fn the_standard_s_word_for_a_wrong_pin_stays_one() {
        let says = |function: &str, means| {
            let functions = vec![function.to_owned()];
            Codes { meaning: vec![Meaning { functions, code: 0xa0, means }] }.hidden_wrong_pin()
        };
        for means in [Means::Busy, Means::Token, Means::Ambiguous, Means::Request, Means::Refused] {
            assert_eq!(says("*", means), Some(("C_Login", 0xa0)), "{means:?}");
            assert_eq!(says("C_SetPIN", means), Some(("C_SetPIN", 0xa0)), "{means:?}");
            assert_eq!(says("C_Encrypt", means), None, "{means:?}");
        }
        assert_eq!([says("*", Means::Login), says("C_Login", Means::Locked), codes().hidden_wrong_pin()], [None; 3]);
    }

    #[test]
    fn only_the_standards_way_is_plain() {
        let plain = Capabilities::standard().gcm;
        assert!(plain.is_plain());
        assert!(!Gcm { mechanism: 0x8000_1087, ..plain.clone() }.is_plain());
        assert!(!Gcm { iv: IvBy::ZeroedWriteback, ..plain.clone() }.is_plain());
        assert!(!Gcm { iv_bits: 0, ..plain }.is_plain());
    }
}
