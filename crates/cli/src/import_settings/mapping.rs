//! What names of the account stand for here: `OLD=NEW`, where each is an ARN or the number of an account.

use std::collections::BTreeMap;

/// Digits of an account.
const ACCOUNT_DIGITS: usize = 12;
/// Where an ARN has its account, counted from 0.
const ACCOUNT_PART: usize = 4;
/// Parts of an ARN.
const ARN_PARTS: usize = 6;

/// All that was given.
#[derive(Clone, Debug, Default)]
pub(super) struct Mapping(BTreeMap<String, String>);

impl Mapping {
    /// Each name stands for one thing.
    pub(super) fn new(pairs: impl IntoIterator<Item = (String, String)>) -> Result<Self, String> {
        let mut all = BTreeMap::new();
        for (old, new) in pairs {
            if let Some(other) = all.insert(old.clone(), new.clone())
                && other != new
            {
                return Err(format!("{old} is to be {other} and {new}"));
            }
        }
        Ok(Self(all))
    }

    /// What stands here for an ARN, an account, or whatever else: the ARN itself that is mapped, else the ARN with its
    /// account mapped; and else it stays.
    pub(super) fn of(&self, text: &str) -> String {
        if let Some(new) = self.0.get(text) {
            return new.clone();
        }
        let parts: Vec<&str> = text.splitn(ARN_PARTS, ':').collect();
        if parts.len() == ARN_PARTS
            && parts[0] == "arn"
            && is_account(parts[ACCOUNT_PART])
            && let Some(account) = self.0.get(parts[ACCOUNT_PART])
        {
            let mapped =
                parts.iter().enumerate().map(|(at, part)| if at == ACCOUNT_PART { account.as_str() } else { part });
            return mapped.collect::<Vec<_>>().join(":");
        }
        text.to_owned()
    }
}

/// The account that an ARN or a number names.
pub(super) fn account_of(text: &str) -> Option<&str> {
    let account = if text.starts_with("arn:") { text.split(':').nth(ACCOUNT_PART)? } else { text };
    is_account(account).then_some(account)
}

/// `OLD=NEW`. ARNs of principals may have `=` in them: the one counts that has an ARN or an account on both sides.
pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    let splits = text.match_indices('=').map(|(at, _)| (text[..at].trim(), text[at + 1..].trim()));
    let fits = |(old, new): &(&str, &str)| is_name(old) && is_name(new) && is_account(old) == is_account(new);
    let found = splits.into_iter().find(fits).map(|(old, new)| (old.to_owned(), new.to_owned()));
    found.ok_or_else(|| "write it as OLD=NEW, both of them ARNs, or both accounts' numbers of 12 digits".to_owned())
}

/// The pairs in a file: one on each line. Empty lines and those that begin with `#` are passed over.
pub(super) fn pairs(text: &str) -> Result<Vec<(String, String)>, String> {
    let lines = (1..).zip(text.lines().map(str::trim));
    let said = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    said.map(|(number, line)| pair(line).map_err(|wrong| format!("line {number}: {wrong}"))).collect()
}

fn is_account(text: &str) -> bool {
    text.len() == ACCOUNT_DIGITS && text.bytes().all(|c| c.is_ascii_digit())
}

fn is_name(text: &str) -> bool {
    is_account(text) || (text.starts_with("arn:") && !text.contains(char::is_whitespace))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(pairs: &[(&str, &str)]) -> Mapping {
        Mapping::new(pairs.iter().map(|(old, new)| ((*old).to_owned(), (*new).to_owned()))).unwrap()
    }

    #[test]
    fn an_arn_goes_before_its_account() {
        let mapping = of(&[
            ("111122223333", "000000000000"),
            ("arn:aws:iam::111122223333:role/app", "arn:aws:iam::000000000000:user/billing"),
        ]);
        for (old, new) in [
            ("arn:aws:iam::111122223333:role/app", "arn:aws:iam::000000000000:user/billing"),
            ("arn:aws:iam::111122223333:role/other:x", "arn:aws:iam::000000000000:role/other:x"),
            ("arn:aws:iam::111122223333:root", "arn:aws:iam::000000000000:root"),
            ("111122223333", "000000000000"),
            ("arn:aws:iam::444455556666:root", "arn:aws:iam::444455556666:root"),
            ("arn:aws:s3:::111122223333", "arn:aws:s3:::111122223333"),
            ("x:aws:iam::111122223333:root", "x:aws:iam::111122223333:root"),
            ("arn:aws:iam::111122223333", "arn:aws:iam::111122223333"),
            ("*", "*"),
        ] {
            assert_eq!(mapping.of(old), new);
        }
        assert_eq!(account_of("arn:aws:iam::111122223333:root"), Some("111122223333"));
        assert_eq!(
            (account_of("444455556666"), account_of("arn:aws:s3:::b"), account_of("*")),
            (Some("444455556666"), None, None)
        );
    }

    #[test]
    fn a_pair_is_two_arns_or_two_accounts() {
        let (old, new) = ("arn:aws:iam::111122223333:user/a=b", "arn:aws:iam::000000000000:user/c=d");
        assert_eq!(pair(&format!("{old}={new}")), Ok((old.to_owned(), new.to_owned())));
        assert!(pair("111122223333=000000000000").is_ok());
        for wrong in ["", "=", "a=b", "111122223333", "111122223333=arn:x", "arn:a=111122223333", "arn:a=", "arn:a=*"] {
            assert!(pair(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_file_has_one_on_each_line() {
        let text = "# ours\n\n  arn:a = arn:b \n111122223333=000000000000\n";
        let read = pairs(text).unwrap();
        assert_eq!(read[0], ("arn:a".to_owned(), "arn:b".to_owned()));
        assert_eq!(read.len(), 2);
        assert!(pairs("arn:a=arn:b\nnonsense\n").unwrap_err().starts_with("line 2: "));
    }

    #[test]
    fn a_name_stands_for_one_thing() {
        let twice = |other: &str| {
            let pairs = [("arn:a", "arn:b"), ("arn:a", other)];
            Mapping::new(pairs.map(|(old, new)| (old.to_owned(), new.to_owned())))
        };
        assert!(twice("arn:b").is_ok());
        assert!(twice("arn:c").unwrap_err().contains("arn:a"));
    }
}
