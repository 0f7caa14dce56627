//! Who is meant: the elements Principal and NotPrincipal, and the ids behind their ARNs.
//!
//! Names are given again, ids never: policies and grants hold by ids.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::id::PrincipalId;

use super::finding::Problem;
use super::request::Caller;

/// Which principals the ARNs of a policy's text meant when it was put. Kept beside the text, so that a later principal of
/// the same ARN inherits nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bindings(BTreeMap<String, PrincipalId>);

impl Bindings {
    /// These, as they were saved.
    #[must_use]
    pub fn new(saved: BTreeMap<String, PrincipalId>) -> Self {
        Self(saved)
    }

    /// Who is meant by an ARN.
    #[must_use]
    pub fn resolve(&self, arn: &str) -> Option<PrincipalId> {
        self.0.get(arn).cloned()
    }

    /// All of them, to be saved.
    #[must_use]
    pub fn pairs(&self) -> &BTreeMap<String, PrincipalId> {
        &self.0
    }

    pub(super) fn bind(&mut self, arn: &str, id: PrincipalId) {
        self.0.insert(arn.to_owned(), id);
    }
}

/// One principal of an element.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Named {
    /// `*`.
    Everyone,
    /// An account, by its number or its root.
    Account(Arc<str>),
    /// A user or a role.
    Id(PrincipalId),
    /// A service, a federation or a canonical user: nobody that calls here.
    Nobody,
}

/// How a statement is about a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum About {
    /// Not at all.
    Nobody,
    /// The caller's account is named, which leaves it to the account's identity policies.
    ItsAccount,
    /// The caller is meant.
    Caller,
}

/// The element Principal or NotPrincipal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Whom {
    /// Identity policies have none: they are about whom they are attached to.
    Holder,
    /// A key policy names whom it is about.
    These(Box<[Named]>),
    /// All but these.
    AllBut(Box<[Named]>),
}

impl Whom {
    /// Whether it can be about anybody.
    pub(super) fn may_be_somebody(&self) -> bool {
        match self {
            Self::Holder | Self::AllBut(_) => true,
            Self::These(all) => all.iter().any(|one| *one != Named::Nobody),
        }
    }

    /// How an Allow is about a caller.
    pub(super) fn allows(&self, caller: &Caller<'_>) -> About {
        match self {
            Self::Holder => About::Caller,
            Self::These(all) => all.iter().map(|one| one.means(caller)).max().unwrap_or(About::Nobody),
            // AWS advises against it and says little. Whoever is named, or whose account is, is left out.
            Self::AllBut(all) if all.iter().all(|one| one.means(caller) == About::Nobody) => About::Caller,
            Self::AllBut(_) => About::Nobody,
        }
    }

    /// Whether a Deny is about a caller. One that names an account is about everybody in it.
    pub(super) fn denies(&self, caller: &Caller<'_>) -> bool {
        let named = |all: &[Named], about| all.iter().any(|one| one.means(caller) == about);
        match self {
            Self::Holder => true,
            Self::These(all) => all.iter().any(|one| one.means(caller) != About::Nobody),
            // AWS looks at the account as well as at the principal: one is left out only if both are named.
            Self::AllBut(all) => !(named(all, About::Caller) && (caller.is_root() || named(all, About::ItsAccount))),
        }
    }
}

impl Whom {
    /// Whether a Deny is about every user and role of an account; of any account where it is not told which. Its root never
    /// calls here.
    pub(super) fn denies_everybody_of(&self, account: Option<&str>) -> bool {
        let names_it = |one: &Named, unless_told: bool| match one {
            Named::Account(number) => account.map_or(unless_told, |own| **number == *own),
            _ => false,
        };
        match self {
            Self::Holder => false,
            Self::These(all) => all.iter().any(|one| *one == Named::Everyone || names_it(one, false)),
            Self::AllBut(all) => {
                let spares_somebody = all.iter().any(|one| matches!(one, Named::Id(_)));
                !(spares_somebody && all.iter().any(|one| names_it(one, true)))
            }
        }
    }
}

impl Named {
    fn means(&self, caller: &Caller<'_>) -> About {
        match self {
            Self::Everyone => About::Caller,
            Self::Account(account) if **account == *caller.account && caller.is_root() => About::Caller,
            Self::Account(account) if **account == *caller.account => About::ItsAccount,
            Self::Id(id) if id == caller.id => About::Caller,
            Self::Account(_) | Self::Id(_) | Self::Nobody => About::Nobody,
        }
    }
}

/// Who is meant by a string under `AWS`.
pub(super) fn principal(
    text: &str,
    partition: Option<&str>,
    resolve: &dyn Fn(&str) -> Option<PrincipalId>,
) -> Result<Named, Problem> {
    let is_account = |text: &str| text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit());
    if text == "*" {
        return Ok(Named::Everyone);
    }
    if is_account(text) {
        return Ok(Named::Account(text.into()));
    }
    let wrong = || Problem::PrincipalForm(text.to_owned());
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let ["arn", of, "iam" | "sts", "", account, name] = parts[..] else { return Err(wrong()) };
    if !is_account(account) || name.is_empty() || text.contains(['*', '?', '$']) {
        return Err(wrong());
    }
    let unknown = || Problem::UnknownPrincipal(text.to_owned());
    // An account of another partition is another account, whatever its number.
    if partition.is_some_and(|own| own != of) {
        return Err(unknown());
    }
    if name == "root" {
        return Ok(Named::Account(account.into()));
    }
    resolve(text).map(Named::Id).ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: &str = "111122223333";

    fn caller<'a>(id: &'a PrincipalId, arn: &'a str, account: &'a str) -> Caller<'a> {
        Caller { id, arn, account, tags: &() }
    }

    #[test]
    fn an_account_is_everybody_in_it_and_its_root_is_itself() {
        let (anna, root) = (PrincipalId::from("AIDAANNA"), PrincipalId::from("ROOT"));
        let anna = caller(&anna, "arn:aws:iam::111122223333:user/anna", HERE);
        let root = caller(&root, "arn:aws:iam::111122223333:root", HERE);
        let account = Whom::These([Named::Account(HERE.into())].into());
        assert_eq!((account.allows(&anna), account.allows(&root)), (About::ItsAccount, About::Caller));
        assert!(account.denies(&anna) && account.denies(&root));
        let other = Whom::These([Named::Account("999900001111".into()), Named::Nobody].into());
        assert_eq!(other.allows(&anna), About::Nobody);
        assert!(!other.denies(&root));
    }

    #[test]
    fn who_is_left_out_of_a_deny_is_named_with_the_account() {
        let (anna_id, bert_id, root) = (PrincipalId::from("A"), PrincipalId::from("B"), PrincipalId::from("R"));
        let anna = caller(&anna_id, "arn:aws:iam::111122223333:user/anna", HERE);
        let bert = caller(&bert_id, "arn:aws:iam::111122223333:user/bert", HERE);
        let root = caller(&root, "arn:aws:iam::111122223333:root", HERE);
        let (a, here) = (Named::Id(anna_id.clone()), Named::Account(HERE.into()));
        let both = Whom::AllBut([a.clone(), here.clone()].into());
        assert!(!both.denies(&anna) && both.denies(&bert) && !both.denies(&root));
        let alone = Whom::AllBut([a].into());
        assert!(alone.denies(&anna) && alone.denies(&bert));
        assert_eq!((alone.allows(&anna), alone.allows(&bert)), (About::Nobody, About::Caller));
        let account = Whom::AllBut([here].into());
        assert!(account.denies(&anna) && !account.denies(&root));
        assert_eq!(account.allows(&anna), About::Nobody);
    }
}
