//! The elements Action and NotAction.
//!
//! Which operations there are is known when a policy is compiled, so that a request's action is one bit of a set.

use std::sync::LazyLock;

use model::operation::Operation;

use super::finding::Problem;
use super::pattern::{Piece, fits};
use super::variable::{Syntax, Template};

/// Permissions that have no row in the table of operations yet: those of policies and grants.
const OF_ACCESS: &[&str] = &[
    "kms:CreateGrant",
    "kms:GetKeyPolicy",
    "kms:ListGrants",
    "kms:ListKeyPolicies",
    "kms:ListRetirableGrants",
    "kms:PutKeyPolicy",
    "kms:RetireGrant",
    "kms:RevokeGrant",
];

/// What AWS lets callers of other accounts do with a key. Permission for anything else has no effect there.
const ACROSS_ACCOUNTS: &[&str] = &[
    "kms:CreateGrant",
    "kms:Decapsulate",
    "kms:Decrypt",
    "kms:DeriveSharedSecret",
    "kms:DescribeKey",
    "kms:Encapsulate",
    "kms:Encrypt",
    "kms:GenerateDataKey",
    "kms:GenerateDataKeyPair",
    "kms:GenerateDataKeyPairWithoutPlaintext",
    "kms:GenerateDataKeyWithoutPlaintext",
    "kms:GenerateMac",
    "kms:GetKeyRotationStatus",
    "kms:GetPublicKey",
    "kms:ListGrants",
    "kms:ReEncryptFrom",
    "kms:ReEncryptTo",
    "kms:RetireGrant",
    "kms:RevokeGrant",
    "kms:Sign",
    "kms:Verify",
    "kms:VerifyMac",
];

/// Every permission that an operation needs, sorted.
static KNOWN: LazyLock<Vec<&'static str>> = LazyLock::new(|| {
    let specs = Operation::ALL.iter().map(|operation| operation.spec());
    let of_table = specs.flat_map(|spec| [Some(spec.permission), spec.source_permission]).flatten();
    let mut all: Vec<_> = of_table.chain(OF_ACCESS.iter().copied()).collect();
    all.sort_unstable();
    all.dedup();
    all
});

/// The same in small letters, in which patterns are compared.
static FOLDED: LazyLock<Vec<String>> = LazyLock::new(|| KNOWN.iter().map(|name| name.to_ascii_lowercase()).collect());

/// Whether callers of other accounts may be allowed this.
pub(super) fn crosses_accounts(action: &str) -> bool {
    ACROSS_ACCOUNTS.contains(&action)
}

/// The action of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked<'a> {
    name: &'a str,
    known: Option<usize>,
}

impl<'a> Asked<'a> {
    pub(super) fn of(name: &'a str) -> Self {
        Self { name, known: KNOWN.binary_search(&name).ok() }
    }
}

/// What a statement says about actions.
#[derive(Clone, Debug)]
pub(super) struct Actions {
    /// A bit for each of [`KNOWN`].
    known: u128,
    /// In small letters, for an action that no row has.
    patterns: Box<[Box<[Piece<'static>]>]>,
    /// Whether all others are meant.
    all_but: bool,
}

impl Actions {
    /// Of patterns that [`pattern`] has read.
    pub(super) fn new(patterns: Vec<Box<[Piece<'static>]>>, all_but: bool) -> Self {
        let known = patterns.iter().fold(0, |known, pattern| known | bits(pattern));
        Self { known, patterns: patterns.into(), all_but }
    }

    /// Whether it leaves out every operation that there is.
    pub(super) fn leave_nothing(&self) -> bool {
        self.all_but && self.known.count_ones() as usize == KNOWN.len()
    }

    pub(super) fn have(&self, asked: &Asked<'_>) -> bool {
        let named = match asked.known {
            Some(index) => self.known >> index & 1 == 1,
            None => {
                let name = asked.name.to_ascii_lowercase();
                self.patterns.iter().any(|pattern| fits(pattern, &name))
            }
        };
        named != self.all_but
    }
}

/// The known permissions that fit.
pub(super) fn bits(pattern: &[Piece<'_>]) -> u128 {
    let fitting = FOLDED.iter().enumerate().filter(|(_, name)| fits(pattern, name));
    fitting.fold(0, |bits, (index, _)| bits | 1 << index)
}

/// Reads an action of a policy.
pub(super) fn pattern(text: &str) -> Result<Box<[Piece<'static>]>, Problem> {
    let wrong = || Problem::ActionForm(text.to_owned());
    let vendor_legal = |vendor: &str| {
        let plain = !vendor.is_empty() && vendor.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        plain || vendor == "*"
    };
    let name_legal = |name: &str| {
        let legal = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'*' | b'?' | b'-' | b'_');
        !name.is_empty() && name.bytes().all(legal)
    };
    let legal =
        text == "*" || text.split_once(':').is_some_and(|(vendor, name)| vendor_legal(vendor) && name_legal(name));
    if !legal {
        return Err(wrong());
    }
    let syntax = Syntax { wildcards: true, variables: false };
    match Template::parse(&text.to_ascii_lowercase(), syntax)? {
        Template::Literal(text) => Ok([Piece::Text(String::from(text).into())].into()),
        Template::Pattern(pieces) => Ok(pieces),
        Template::Variable(_) => Err(wrong()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn actions(texts: &[&str], all_but: bool) -> Actions {
        Actions::new(texts.iter().map(|text| pattern(text).unwrap()).collect(), all_but)
    }

    #[test]
    fn every_known_permission_has_a_bit() {
        assert!(KNOWN.len() <= 128, "{}", KNOWN.len());
        for name in ["kms:Encrypt", "kms:ReEncryptFrom", "kms:ReEncryptTo", "kms:PutKeyPolicy", "keystored:AddHsm"] {
            assert!(KNOWN.contains(&name), "{name}");
        }
    }

    #[test]
    fn case_and_wildcards() {
        let allowed = |text: &str, action: &str| actions(&[text], false).have(&Asked::of(action));
        for (text, action) in [
            ("*", "kms:Encrypt"),
            ("*:*", "kms:Encrypt"),
            ("KMS:encRYPT", "kms:Encrypt"),
            ("kms:*crypt", "kms:Decrypt"),
            ("kms:?ncrypt", "kms:Encrypt"),
            ("kms:Re*", "kms:ReEncryptTo"),
            ("kms:*Key*Plain*", "kms:GenerateDataKeyWithoutPlaintext"),
            ("kms:Later*", "kms:LaterOperation"),
            ("*", "iam:CreateUser"),
        ] {
            assert!(allowed(text, action), "{text} {action}");
        }
        for (text, action) in [
            ("kms:Encrypt", "kms:EncryptMore"),
            ("kms:?ncrypt", "kms:ReEncryptTo"),
            ("kms:*", "keystored:AddHsm"),
            ("keystored:*", "kms:Encrypt"),
            ("kms:Later", "kms:LaterOperation"),
        ] {
            assert!(!allowed(text, action), "{text} {action}");
        }
        let but = actions(&["kms:Encrypt", "kms:Put*"], true);
        assert!(!but.have(&Asked::of("kms:Encrypt")) && !but.have(&Asked::of("kms:PutKeyPolicy")));
        assert!(but.have(&Asked::of("kms:Decrypt")) && but.have(&Asked::of("iam:CreateUser")));
        for wrong in ["", "Encrypt", ":", "kms:", ":Encrypt", "k*:Encrypt", "kms:En crypt", "kms:a:b", "**", "kms:${x}"]
        {
            assert!(pattern(wrong).is_err(), "{wrong}");
        }
    }
}
