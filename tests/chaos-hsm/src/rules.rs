//! The rules as a person writes them.

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use toml::{Table, Value};

use crate::codes::code;
use crate::forward::NAMES;
use crate::personality::{self, Personality};

/// What is in force.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rules {
    /// For everything that is left to chance.
    #[serde(default)]
    pub(crate) seed: u64,
    /// The first that applies to a call decides.
    #[serde(default, rename = "rule")]
    pub(crate) rules: Vec<Rule>,
    /// Plays a network HSM.
    pub(crate) network: Option<Network>,
    /// Has the habits of another HSM.
    #[serde(skip)]
    pub(crate) personality: Option<Arc<Personality>>,
}

/// One rule.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    /// Names, or `*` for all but those that begin and end the module.
    #[serde(default = "all")]
    pub(crate) function: Functions,
    /// Numbers of calls of that function, counted over all processes, from 1.
    pub(crate) calls: Option<Calls>,
    /// Of those calls, so many; all where absent.
    pub(crate) probability: Option<f64>,
    /// The real function is called first.
    #[serde(default)]
    pub(crate) after_call: bool,
    /// What happens.
    pub(crate) fault: Fault,
}

/// Which functions.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Functions {
    /// One, or `*`.
    One(String),
    /// Several.
    Several(Vec<String>),
}

fn all() -> Functions {
    Functions::One("*".to_owned())
}

fn once() -> u64 {
    1
}

/// From one call to another, both included.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Calls {
    /// The first.
    pub(crate) from: u64,
    /// The last; absent: no end.
    pub(crate) to: Option<u64>,
}

/// What can happen.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Fault {
    /// Without a value.
    Plain(Plain),
    /// Returns this: a name of the standard, or a number in hexadecimal.
    Code {
        /// Which.
        code: String,
    },
    /// Takes so much longer.
    Delay {
        /// Always as long, or between two times.
        delay_ms: Delay,
    },
    /// Says something on standard error first, as vendors' modules do.
    Talk {
        /// What, to the byte: a newline only where there is one.
        talk: String,
        /// How often.
        #[serde(default = "once")]
        times: u64,
    },
    /// C_OpenSession refuses when this process has so many.
    SessionLimit {
        /// How many.
        session_limit: usize,
    },
}

/// What can happen without a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Plain {
    /// Does not return before the rule is gone.
    Hang,
    /// The process aborts.
    Crash,
    /// Says that all is well, and gives other bytes.
    WrongBytes,
    /// The token is not there.
    LostToken,
    /// The user is locked.
    PinLocked,
    /// AES-GCM encrypts with another IV than the caller's, and nothing says so.
    IvRandom,
    /// The same, and the IV is written into the caller's parameters.
    IvWrittenBack,
    /// The same, and the IV follows the ciphertext.
    IvAppended,
    /// AES-GCM encrypts and decrypts with an IV of zeroes, and nothing says so.
    IvFixed,
    /// A search brings as many objects as there is room for, each time.
    EndlessSearch,
}

/// A delay in milliseconds.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(untagged)]
pub(crate) enum Delay {
    /// Always as long.
    Fixed(f64),
    /// Evenly between.
    Between([f64; 2]),
}

impl Delay {
    /// As long as chance, from 0 to 1, has it.
    pub(crate) fn of(self, chance: f64) -> Duration {
        let millis = match self {
            Self::Fixed(millis) => millis,
            Self::Between([least, most]) => least + (most - least) * chance,
        };
        Duration::try_from_secs_f64(millis / 1e3).unwrap_or_default()
    }
}

/// A network HSM.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Network {
    /// Mean time of an operation in it.
    pub(crate) service_ms: f64,
    /// How that is spread.
    #[serde(default)]
    pub(crate) distribution: Distribution,
    /// Operations that it works on at once, over all processes.
    pub(crate) at_once: usize,
}

/// How service times are spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Distribution {
    /// Always the mean.
    #[default]
    Constant,
    /// From half of the mean to one and a half.
    Uniform,
    /// Exponential.
    Exponential,
}

impl Functions {
    /// Whether a function is meant.
    pub(crate) fn contains(&self, function: &str) -> bool {
        match self {
            Self::One(name) if name == "*" => !matches!(function, "C_Initialize" | "C_Finalize" | "C_GetFunctionList"),
            Self::One(name) => name == function,
            Self::Several(names) => names.iter().any(|name| name == function),
        }
    }

    fn unknown(&self) -> Option<&str> {
        let names = match self {
            Self::One(name) if name == "*" => &[],
            Self::One(name) => std::slice::from_ref(name),
            Self::Several(names) => &names[..],
        };
        names.iter().map(String::as_str).find(|name| !NAMES.contains(name))
    }
}

impl Rules {
    /// Reads and checks; an error says where.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        let mut rest: Table = text.parse().map_err(|error| format!("{error}"))?;
        let habits: Table = personality::KEYS.iter().filter_map(|key| rest.remove_entry(*key)).collect();
        let rules: Result<Self, _> = match habits.is_empty() {
            // Errors say on which line.
            true => toml::from_str(text),
            false => Value::Table(rest).try_into(),
        };
        let mut rules = rules.map_err(|error| format!("{error}"))?;
        if !habits.is_empty() {
            rules.personality = Some(Arc::new(personality::read(habits)?));
        }
        for (number, rule) in rules.rules.iter().enumerate() {
            let wrong = |what: String| Err(format!("rule {}: {what}", number + 1));
            if let Some(name) = rule.function.unknown() {
                return wrong(format!("{name} is no function of PKCS#11"));
            }
            if let Fault::Code { code: name } = &rule.fault
                && code(name).is_none()
            {
                return wrong(format!("{name} is no return value of PKCS#11"));
            }
            if rule.probability.is_some_and(|share| !(0.0..=1.0).contains(&share)) {
                return wrong("a probability is from 0 to 1".to_owned());
            }
        }
        match rules.network {
            Some(network) if !(1..=crate::state::SERVERS).contains(&network.at_once) || network.service_ms.is_nan() => {
                Err(format!("network: at_once is from 1 to {}", crate::state::SERVERS))
            }
            _ => Ok(rules),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_can_be_written() {
        let text = r#"
            seed = 7
            rule = [
                { function = "C_Decrypt", calls = { from = 3, to = 3 }, fault = { code = "CKR_DEVICE_ERROR" } },
                { function = ["C_Encrypt", "C_Decrypt"], probability = 0.5, fault = { code = "0x80000001" } },
                { fault = { delay_ms = [1, 5.5] } },
                { function = "C_Sign", fault = { delay_ms = 40 }, after_call = true },
                { function = "C_Encrypt", fault = "hang" },
                { fault = "crash" }, { fault = "wrong-bytes" }, { fault = "lost-token" }, { fault = "pin-locked" },
                { fault = "iv-random" }, { fault = "iv-written-back" }, { fault = "iv-appended" }, { fault = "iv-fixed" },
                { fault = "endless-search" },
                { fault = { session_limit = 3 } }, { fault = { talk = "words\n" } },
                { function = "C_Login", fault = { talk = "words\n", times = 9 } },
            ]
            network = { service_ms = 5, distribution = "exponential", at_once = 16 }
        "#;
        assert_eq!(Rules::parse(text).unwrap().rules.len(), 17);
    }

    #[test]
    fn what_the_readme_shows_can_be_written() {
        let (_, personalities) = include_str!("../README.md").split_once("## Personalities").unwrap();
        let shown: Vec<_> =
            personalities.split("```toml").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
        assert_eq!(shown.len(), 4);
        for text in shown {
            let text = text.replace("CKR_…", "CKR_DEVICE_ERROR");
            let rules = Rules::parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
            assert!(rules.personality.is_some(), "{text}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (text, says) in [
            ("[[rule]]\nfunction = \"C_Encrpyt\"\nfault = \"hang\"", "C_Encrpyt"),
            ("[[rule]]\nprobability = 2.0\nfault = \"hang\"", "0 to 1"),
            ("[[rule]]\nfault = { code = \"CKR_NONE\" }", "rule 1: CKR_NONE"),
            ("[network]\nservice_ms = 5\nat_once = 0", "at_once"),
            ("sede = 1", "sede"),
        ] {
            let error = Rules::parse(text).unwrap_err();
            assert!(error.contains(says), "{text}: {error}");
        }
    }
}
