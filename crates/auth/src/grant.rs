//! Grants: what somebody may do with a key beside its policy. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::id::{GrantId, PrincipalId};

use crate::fold::{Folded, fold};

/// Most pairs of a constraint.
pub const CONSTRAINT_PAIRS: usize = 8;
/// Longest value of a constraint, in characters.
pub const CONSTRAINT_VALUE_CHARS: usize = 384;

macro_rules! operations {
    ($($name:ident $symmetric:ident $context:ident;)+) => {
        /// An operation that a grant can allow.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum GrantOperation {
            $(#[doc = concat!("`", stringify!($name), "`")] $name,)+
        }

        impl GrantOperation {
            /// All of them: AWS's nineteen.
            pub const ALL: &[Self] = &[$(Self::$name,)+];

            /// Its name in grants and in `kms:GrantOperations`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => stringify!($name),)+
                }
            }

            /// The permission that it stands for.
            #[must_use]
            pub const fn permission(self) -> &'static str {
                match self {
                    $(Self::$name => concat!("kms:", stringify!($name)),)+
                }
            }

            /// Whether it fits a symmetric encryption key.
            #[must_use]
            pub const fn fits_symmetric_key(self) -> bool {
                match self {
                    $(Self::$name => $symmetric,)+
                }
            }

            /// Whether it has an encryption context, and so is what constraints are about.
            #[must_use]
            pub const fn has_context(self) -> bool {
                match self {
                    $(Self::$name => $context,)+
                }
            }
        }
    };
}

const YES: bool = true;
const NO: bool = false;

// Whether it fits a symmetric encryption key, and whether it has an encryption context.
operations! {
    Decrypt YES YES;
    Encrypt YES YES;
    GenerateDataKey YES YES;
    GenerateDataKeyWithoutPlaintext YES YES;
    GenerateDataKeyPair YES YES;
    GenerateDataKeyPairWithoutPlaintext YES YES;
    ReEncryptFrom YES YES;
    ReEncryptTo YES YES;
    Sign NO NO;
    Verify NO NO;
    GenerateMac NO NO;
    VerifyMac NO NO;
    DeriveSharedSecret NO NO;
    Encapsulate NO NO;
    Decapsulate NO NO;
    GetPublicKey NO NO;
    CreateGrant YES NO;
    RetireGrant YES NO;
    DescribeKey YES NO;
}

impl GrantOperation {
    /// The operation of this name; case matters.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|operation| operation.name() == name)
    }

    pub(crate) fn of_permission(permission: &str) -> Option<Self> {
        Self::parse(permission.strip_prefix("kms:")?)
    }
}

/// Operations of a grant.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct GrantOperations(u32);

impl GrantOperations {
    /// Whether it is one of them.
    #[must_use]
    pub const fn contains(self, operation: GrantOperation) -> bool {
        self.0 >> operation as u32 & 1 == 1
    }

    /// Whether all of them are among others.
    #[must_use]
    pub const fn is_subset(self, others: Self) -> bool {
        self.0 & !others.0 == 0
    }

    /// Whether there is none: no grant is like that.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each of them, in the order of AWS's list.
    pub fn iter(self) -> impl Iterator<Item = GrantOperation> {
        GrantOperation::ALL.iter().copied().filter(move |operation| self.contains(*operation))
    }
}

impl FromIterator<GrantOperation> for GrantOperations {
    fn from_iter<I: IntoIterator<Item = GrantOperation>>(all: I) -> Self {
        Self(all.into_iter().fold(0, |bits, operation| bits | 1 << operation as u32))
    }
}

/// Who is meant by a grant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Party {
    /// A principal.
    Principal(PrincipalId),
    /// An account, given as its root: it is left to its identity policies.
    Account(Arc<str>),
}

/// What a constraint asks of the encryption context.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConstraintKind {
    /// `EncryptionContextSubset`: these pairs, and maybe more.
    Subset,
    /// `EncryptionContextEquals`: these pairs and no other.
    Equals,
}

/// A constraint of a grant. Names compare without case, values with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Constraint {
    kind: ConstraintKind,
    pairs: BTreeMap<String, String>,
    /// The pairs' names without their case, in the order of the pairs.
    folded: Vec<Box<str>>,
}

/// Why pairs are no constraint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConstraintError {
    /// None, or too many.
    #[error("a grant's constraint has 1 to {CONSTRAINT_PAIRS} pairs")]
    Pairs,
    /// A value is too long.
    #[error("a value in a grant's constraint has at most {CONSTRAINT_VALUE_CHARS} characters")]
    Value,
    /// Which of the two values would count?
    #[error("two names in a grant's constraint differ only by case, which constraints do not look at")]
    Case,
}

impl Constraint {
    /// Checks the pairs.
    pub fn new(kind: ConstraintKind, pairs: BTreeMap<String, String>) -> Result<Self, ConstraintError> {
        if !(1..=CONSTRAINT_PAIRS).contains(&pairs.len()) {
            return Err(ConstraintError::Pairs);
        }
        if pairs.values().any(|value| value.chars().count() > CONSTRAINT_VALUE_CHARS) {
            return Err(ConstraintError::Value);
        }
        let folded: Vec<Box<str>> = pairs.keys().map(|name| fold(name).into()).collect();
        if folded.iter().collect::<BTreeSet<_>>().len() < pairs.len() {
            return Err(ConstraintError::Case);
        }
        Ok(Self { kind, pairs, folded })
    }

    /// What it asks.
    #[must_use]
    pub const fn kind(&self) -> ConstraintKind {
        self.kind
    }

    /// The pairs.
    #[must_use]
    pub const fn pairs(&self) -> &BTreeMap<String, String> {
        &self.pairs
    }

    /// Its name in grants and in `kms:GrantConstraintType`.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self.kind {
            ConstraintKind::Subset => "EncryptionContextSubset",
            ConstraintKind::Equals => "EncryptionContextEquals",
        }
    }

    /// Whether an encryption context is what it asks for.
    pub(crate) fn holds(&self, given: &Folded<'_>) -> bool {
        // Its names are different ones without their case too, so that as many pairs have to be there.
        let as_many = match self.kind {
            ConstraintKind::Subset => given.pairs() >= self.pairs.len(),
            ConstraintKind::Equals => given.pairs() == self.pairs.len(),
        };
        as_many && self.each().all(|(name, value)| given.has(name, value))
    }

    /// The pairs, with folded names.
    fn each(&self) -> impl Iterator<Item = (&str, &str)> {
        self.folded.iter().map(|name| &**name).zip(self.pairs.values().map(String::as_str))
    }

    /// Whether whatever it lets pass, another one does too.
    fn is_as_strict_as(&self, other: &Self) -> bool {
        let has_all = other.each().all(|pair| self.each().any(|own| own == pair));
        match (self.kind, other.kind) {
            (_, ConstraintKind::Subset) => has_all,
            (ConstraintKind::Equals, ConstraintKind::Equals) => has_all && self.pairs.len() == other.pairs.len(),
            (ConstraintKind::Subset, ConstraintKind::Equals) => false,
        }
    }
}

/// What a grant allows, to whom, under which constraint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Who may do it.
    pub grantee: Party,
    /// Who may take it back, beside those who always may.
    pub retiring: Option<Party>,
    /// The operations that it allows.
    pub operations: GrantOperations,
    /// With which encryption contexts alone.
    pub constraint: Option<Constraint>,
}

/// A grant of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Its id.
    pub id: GrantId,
    /// What it allows.
    pub terms: Terms,
    /// The account in which it was made.
    pub issuing_account: Arc<str>,
}

/// Why somebody who may make grants by a grant alone may not make this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotDelegable {
    /// It does not allow to make grants at all.
    #[error("the grant does not allow CreateGrant")]
    NoCreateGrant,
    /// The new one allows what it does not.
    #[error("the grant does not allow {}, so no grant made by it can", .0.name())]
    Operation(GrantOperation),
    /// The new one has a weaker constraint, or none.
    #[error("the constraint of a grant made by a grant must be at least as strict as that grant's own")]
    Constraint,
}

impl Grant {
    /// Whether who may make grants by this one alone may make one with these terms: no other operation, and no encryption
    /// context that this one does not let pass.
    pub fn may_delegate(&self, new: &Terms) -> Result<(), NotDelegable> {
        if !self.terms.operations.contains(GrantOperation::CreateGrant) {
            return Err(NotDelegable::NoCreateGrant);
        }
        let allowed = self.terms.operations;
        if let Some(other) = new.operations.iter().find(|operation| !allowed.contains(*operation)) {
            return Err(NotDelegable::Operation(other));
        }
        let strict = match (&new.constraint, &self.terms.constraint) {
            (_, None) => true,
            (None, Some(_)) => false,
            (Some(new), Some(own)) => new.is_as_strict_as(own),
        };
        if strict { Ok(()) } else { Err(NotDelegable::Constraint) }
    }

    /// Whether what it says about an action may be another thing at the next request of the same caller.
    #[must_use]
    pub fn depends_on_request(&self, action: &str) -> bool {
        let operation = GrantOperation::of_permission(action).filter(|one| self.terms.operations.contains(*one));
        operation.is_some_and(|operation| {
            operation == GrantOperation::CreateGrant || operation.has_context() && self.terms.constraint.is_some()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn the_nineteen_operations() {
        assert_eq!(GrantOperation::ALL.len(), 19);
        for operation in GrantOperation::ALL {
            assert_eq!(GrantOperation::parse(operation.name()), Some(*operation));
            assert_eq!(operation.permission(), format!("kms:{}", operation.name()));
            assert!(operation.fits_symmetric_key() || !operation.has_context(), "{operation:?}");
        }
        assert_eq!(GrantOperation::parse("decrypt"), None);
        assert_eq!(GrantOperation::ALL.iter().filter(|operation| operation.fits_symmetric_key()).count(), 11);
        let all: GrantOperations = GrantOperation::ALL.iter().copied().collect();
        assert_eq!(all.iter().collect::<Vec<_>>(), GrantOperation::ALL);
        let some: GrantOperations = [GrantOperation::DescribeKey, GrantOperation::Decrypt].into_iter().collect();
        assert!(some.is_subset(all) && !all.is_subset(some) && GrantOperations::default().is_empty());
        assert_eq!(some.iter().map(GrantOperation::name).collect::<Vec<_>>(), ["Decrypt", "DescribeKey"]);
    }

    #[test]
    fn what_can_be_a_constraint() {
        let new = |given: &[(&str, &str)]| Constraint::new(ConstraintKind::Subset, pairs(given)).map(|_| ());
        assert_eq!(new(&[]), Err(ConstraintError::Pairs));
        assert_eq!(new(&[("a", "1"), ("A", "2")]), Err(ConstraintError::Case));
        assert_eq!(new(&[("a", &"é".repeat(384))]), Ok(()));
        assert_eq!(new(&[("a", &"é".repeat(385))]), Err(ConstraintError::Value));
        let names: Vec<_> = (0..9).map(|index| index.to_string()).collect();
        let given: Vec<_> = names.iter().map(|name| (name.as_str(), "")).collect();
        assert_eq!((new(&given[..8]), new(&given)), (Ok(()), Err(ConstraintError::Pairs)));
    }

    #[test]
    fn why_a_grant_cannot_be_passed_on() {
        let grant = |operations: &[GrantOperation], constraint| {
            let operations = operations.iter().copied().collect();
            let terms = Terms { grantee: Party::Account("1".into()), retiring: None, operations, constraint };
            Grant { id: "g".into(), terms, issuing_account: "1".into() }
        };
        let (create, encrypt) = (GrantOperation::CreateGrant, GrantOperation::Encrypt);
        let exact = || Constraint::new(ConstraintKind::Equals, pairs(&[("a", "1")])).ok();
        let plain = grant(&[encrypt], None).terms;
        assert_eq!(grant(&[encrypt], None).may_delegate(&plain), Err(NotDelegable::NoCreateGrant));
        assert_eq!(grant(&[create], None).may_delegate(&plain), Err(NotDelegable::Operation(encrypt)));
        assert_eq!(grant(&[create, encrypt], exact()).may_delegate(&plain), Err(NotDelegable::Constraint));
        assert_eq!(grant(&[create, encrypt], None).may_delegate(&grant(&[encrypt], exact()).terms), Ok(()));
        let why = NotDelegable::Operation(encrypt).to_string();
        assert_eq!(why, "the grant does not allow Encrypt, so no grant made by it can");
    }

    #[test]
    fn what_of_a_grant_depends_on_the_request() {
        let constraint = Constraint::new(ConstraintKind::Subset, pairs(&[("a", "1")])).ok();
        let operations = [GrantOperation::Decrypt, GrantOperation::DescribeKey, GrantOperation::CreateGrant];
        let terms = Terms {
            grantee: Party::Account("1".into()),
            retiring: None,
            operations: operations.into_iter().collect(),
            constraint,
        };
        let with = Grant { id: "g".into(), terms, issuing_account: "1".into() };
        let without = Grant { terms: Terms { constraint: None, ..with.terms.clone() }, ..with.clone() };
        let depends = |grant: &Grant| {
            ["kms:Decrypt", "kms:DescribeKey", "kms:CreateGrant", "kms:Encrypt"]
                .map(|one| grant.depends_on_request(one))
        };
        assert_eq!(depends(&with), [true, false, true, false]);
        assert_eq!(depends(&without), [false, false, true, false]);
    }
}
