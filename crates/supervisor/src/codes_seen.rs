//! Which return values a token has given, and how often: for people who ask its vendor.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Mutex;

use model::lock::MutexExt as _;
use protocol::{Class, Fault, Reply};

/// Pairs of function and value that are told apart.
const PAIRS: usize = 64;

/// A return value of one function.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CodeSeen {
    /// The function.
    pub function: String,
    /// The value, with its name.
    pub said: String,
    /// What it was taken for, when it was seen last.
    pub class: Class,
    /// How often it was seen.
    pub times: u64,
}

/// A function and its return value.
type Pair = (Cow<'static, str>, u64);
/// What that was taken for last, and how often it was seen.
type Seen = (Class, u64);

/// What was seen so far.
#[derive(Default)]
pub(super) struct CodesSeen(Mutex<BTreeMap<Pair, Seen>>);

impl CodesSeen {
    /// Takes note of what a reply says. Nothing but a look at each item where all is well.
    pub(super) fn note(&self, reply: &Reply) {
        match reply {
            Reply::Encrypted(items) => self.all(items),
            Reply::Decrypted(items) => self.all(items),
            Reply::DataKeys(items) => self.all(items),
            Reply::ReEncrypted(items) => self.all(items),
            Reply::Compared(items) => self.all(items),
            Reply::Failed(fault) => self.one(fault),
            _ => {}
        }
    }

    fn all<T>(&self, items: &[Result<T, Fault>]) {
        items.iter().filter_map(|item| item.as_ref().err()).for_each(|fault| self.one(fault));
    }

    fn one(&self, fault: &Fault) {
        if fault.code == 0 {
            return;
        }
        let mut seen = self.0.lock_anyway();
        let pair = (fault.function.clone(), fault.code);
        if let Some((class, times)) = seen.get_mut(&pair) {
            (*class, *times) = (fault.class, *times + 1);
        } else if seen.len() < PAIRS {
            seen.insert(pair, (fault.class, 1));
        }
    }

    /// All of it.
    pub(super) fn read(&self) -> Vec<CodeSeen> {
        let seen = self.0.lock_anyway();
        let shown = |((function, code), (class, times)): (&Pair, &Seen)| {
            let fault =
                Fault { class: *class, function: function.clone(), code: *code, detail: None, at_source: false };
            CodeSeen { function: function.to_string(), said: fault.to_string(), class: *class, times: *times }
        };
        seen.iter().map(shown).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(function: &'static str, code: u64, class: Class) -> Fault {
        Fault { class, function: function.into(), code, detail: None, at_source: false }
    }

    #[test]
    fn what_is_seen_is_counted_and_bounded() {
        let seen = CodesSeen::default();
        seen.note(&Reply::Done);
        seen.note(&Reply::Encrypted(vec![
            Err(fault("C_Encrypt", 0x30, Class::Token)),
            Err(fault("C_Encrypt", 0x30, Class::Busy)),
        ]));
        seen.note(&Reply::Failed(fault("C_WrapKey", 0x70, Class::Refused)));
        // Not a return value.
        seen.note(&Reply::Failed(Fault::own(Class::Refused, "worker", "why")));
        let read = seen.read();
        assert_eq!(read.len(), 2, "{read:?}");
        assert_eq!((read[0].times, read[0].class), (2, Class::Busy));
        assert_eq!(read[0].said, "C_Encrypt: CKR_DEVICE_ERROR");
        for code in 1..1_000 {
            seen.note(&Reply::Failed(fault("C_Sign", 0x8000_0000 + code, Class::Token)));
        }
        assert_eq!(seen.read().len(), PAIRS);
    }
}
