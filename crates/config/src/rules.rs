//! Of the file's shape: which calls others have to approve, and how many requests a second there may be.

use std::num::NonZeroU32;
use std::time::Duration;

use toml::Spanned;

use super::check::Context;
use super::{Approvals, Error, RateLimits, raw};
use model::operation::Operation;

/// Requests a second with the keys of one key store: AWS's quota of a custom key store.
const AWS_PER_KEY_STORE: u64 = 1_800;
/// Most requests a second that a limit can be set to.
const FASTEST: u64 = 10_000_000;

impl Context<'_> {
    pub(super) fn approvals(&self, raw: &raw::Approvals) -> Result<Approvals, Error> {
        let mut operations = Vec::with_capacity(raw.operations.len());
        for name in &raw.operations {
            let operation = self.operation(name)?;
            if operations.contains(&operation) {
                return Err(self.at(name, format!("{} is named twice; take one out", operation.name())));
            }
            operations.push(operation);
        }
        let required = self.figure(raw.required.as_ref(), 2, 1, 20)?;
        let seconds = self.figure(raw.expires_after_s.as_ref(), 3_600, 60, 7 * 24 * 3_600)?;
        Ok(Approvals { operations, required, expires_after: Duration::from_secs(u64::from(seconds.get())) })
    }

    fn operation(&self, name: &Spanned<String>) -> Result<Operation, Error> {
        let text = name.get_ref();
        let by = |of: fn(&Operation) -> &'static str| Operation::ALL.iter().copied().find(|one| of(one) == text);
        let Some(operation) = by(|one| one.name()) else {
            let hint = by(|one| one.spec().event).map_or_else(
                || {
                    "write the name of a method that changes something, such as AddHsm or ScheduleKeyDeletion"
                        .to_owned()
                },
                |meant| format!("AWS calls so what is called {} here", meant.name()),
            );
            return Err(self.at(name, format!("{text:?} is no operation; {hint}")));
        };
        if operation.can_need_approval() {
            return Ok(operation);
        }
        let why = match operation {
            Operation::Approve | Operation::RefuseApproval => "is a vote itself",
            _ => "changes nothing",
        };
        Err(self.at(name, format!("{text} {why}; only calls that change something can need the approval of others")))
    }

    pub(super) fn rate_limits(&self, raw: &raw::RateLimits) -> Result<RateLimits, Error> {
        let rate = |value: Option<&Spanned<u64>>| value.map(|_| self.figure(value, 1, 1, FASTEST)).transpose();
        let per_key_store = match &raw.requests_per_second_per_key_store {
            None => None,
            Some(value) => {
                let figure = match value.get_ref() {
                    raw::Rate::Figure(figure) => *figure,
                    raw::Rate::Named(name) if name == "aws" => AWS_PER_KEY_STORE,
                    raw::Rate::Named(name) => {
                        return Err(
                            self.at(value, format!("{name:?} is no rate; write a number, or \"aws\" for 1,800"))
                        );
                    }
                };
                rate(Some(&Spanned::new(value.span(), figure)))?
            }
        };
        Ok(RateLimits {
            per_principal: rate(raw.requests_per_second_per_principal.as_ref())?,
            per_key_store,
            burst_s: self.figure(raw.burst_s.as_ref(), 1, 1, 60)?,
        })
    }

    /// A number that is not zero.
    fn figure(&self, value: Option<&Spanned<u64>>, default: usize, least: u64, most: u64) -> Result<NonZeroU32, Error> {
        let number = self.count(value, default, least..=most)?;
        Ok(u32::try_from(number).ok().and_then(NonZeroU32::new).unwrap_or(NonZeroU32::MIN))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Config;
    use super::super::check::check;
    use super::*;

    fn judge(section: &str) -> Result<Config, Error> {
        let sample = include_str!("../../../deploy/keystored.toml");
        // In the place of the sample's own sections, which come before [log].
        let (head, rest) = sample.split_once("[approvals]").expect("the sample has it");
        let (_, tail) = rest.split_once("[log]").expect("and that");
        let text = format!("{head}{section}\n[log]{tail}");
        let credentials = Some(Path::new("/run/credentials/keystored"));
        check(&Context { file: Path::new("keystored.toml"), text: &text, credentials })
    }

    #[test]
    fn nothing_needs_approval_and_nothing_is_limited_unless_it_says_so() {
        let config = judge("").expect("good");
        assert_eq!((config.approvals.operations.len(), config.approvals.required.get()), (0, 2));
        assert_eq!(config.approvals.expires_after, Duration::from_secs(3_600));
        let RateLimits { per_principal, per_key_store, burst_s } = config.rate_limits;
        assert_eq!((per_principal, per_key_store, burst_s.get()), (None, None, 1));
    }

    #[test]
    fn what_is_written_is_taken_over() {
        let text = "[approvals]\noperations = [\"AddHsm\", \"PutPolicy\"]\nrequired = 1\nexpires_after_s = 60\n\
                    [rate_limits]\nrequests_per_second_per_principal = 50\nrequests_per_second_per_key_store = \"aws\"\n\
                    burst_s = 3";
        let Config { approvals, rate_limits, .. } = judge(text).expect("good");
        assert_eq!(approvals.operations, [Operation::AddHsm, Operation::PutPolicy]);
        assert_eq!((approvals.required.get(), approvals.expires_after.as_secs()), (1, 60));
        let RateLimits { per_principal, per_key_store, burst_s } = rate_limits;
        let figures = [per_principal, per_key_store, Some(burst_s)].map(|one| one.map(NonZeroU32::get));
        assert_eq!(figures, [Some(50), Some(1_800), Some(3)]);
        let figure = judge("[rate_limits]\nrequests_per_second_per_key_store = 7").expect("good").rate_limits;
        assert_eq!(figure.per_key_store.map(NonZeroU32::get), Some(7));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_what_would_be_right() {
        for (text, says) in [
            ("[approvals]\noperations = [\"AddHsn\"]", "\"AddHsn\" is no operation; write the name of a method"),
            ("[approvals]\noperations = [\"UpdateCustomKeyStore\"]", "what is called UpdateKeyStore here"),
            ("[approvals]\noperations = [\"Encrypt\"]", "Encrypt changes nothing; only calls that change something"),
            ("[approvals]\noperations = [\"DescribeKey\"]", "DescribeKey changes nothing"),
            ("[approvals]\noperations = [\"WhoAmI\"]", "WhoAmI changes nothing"),
            ("[approvals]\noperations = [\"Approve\"]", "Approve is a vote itself"),
            ("[approvals]\noperations = [\"RefuseApproval\"]", "is a vote itself"),
            ("[approvals]\noperations = [\"AddHsm\", \"AddHsm\"]", "AddHsm is named twice"),
            ("[approvals]\nrequired = 0", "0 is outside 1 to 20"),
            ("[approvals]\nexpires_after_s = 59", "59 is outside 60 to 604800"),
            ("[approvals]\nexpires_after = \"1h\"", "unknown field `expires_after`"),
            ("[rate_limits]\nrequests_per_second_per_principal = 0", "0 is outside 1 to"),
            ("[rate_limits]\nrequests_per_second_per_key_store = 0", "0 is outside 1 to"),
            (
                "[rate_limits]\nrequests_per_second_per_key_store = \"gcp\"",
                "\"gcp\" is no rate; write a number, or \"aws\"",
            ),
            ("[rate_limits]\nburst_s = 61", "61 is outside 1 to 60"),
        ] {
            let error = judge(text).expect_err(text);
            assert!(error.message.contains(says) && error.line.is_some(), "{text}: {error}");
        }
    }
}
