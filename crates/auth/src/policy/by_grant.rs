//! What a grant allows to whom.

use std::cell::OnceCell;
use std::collections::BTreeMap;

use super::principal::About;
use super::request::{Caller, Request};
use crate::fold::Folded;
use crate::grant::{Grant, GrantOperation, Party};

/// The permission on which grants decide, and policies do not.
pub(super) const RETIRE: &str = "kms:RetireGrant";

/// What a request asks of grants. A caller may have hundreds of a key: what does not depend on the grant is looked up once.
pub(super) struct Sought<'r> {
    operation: GrantOperation,
    request: &'r Request<'r>,
    /// The encryption context, once a constraint asks for it.
    context: OnceCell<Folded<'r>>,
}

impl<'r> Sought<'r> {
    /// `None` where no grant can allow what is asked.
    pub(super) fn of(request: &'r Request<'r>) -> Option<Self> {
        let operation = GrantOperation::of_permission(request.action)?;
        Some(Self { operation, request, context: OnceCell::new() })
    }

    /// Whom a grant lets do it.
    pub(super) fn allowed_by(&self, grant: &Grant) -> About {
        let (terms, operation) = (&grant.terms, self.operation);
        if !terms.operations.contains(operation) {
            return About::Nobody;
        }
        let constraint = terms.constraint.as_ref().filter(|_| operation.has_context());
        let fits = match operation {
            // Which grant is to be made decides, so who does not say it may make none.
            GrantOperation::CreateGrant => {
                self.request.parameters.grant.as_ref().is_some_and(|new| grant.may_delegate(new.terms).is_ok())
            }
            GrantOperation::RetireGrant => false,
            _ => constraint.is_none_or(|constraint| constraint.holds(self.context())),
        };
        if fits { means(&terms.grantee, &self.request.caller) } else { About::Nobody }
    }

    fn context(&self) -> &Folded<'r> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        self.context.get_or_init(|| {
            Folded::of(self.request.parameters.encryption_context.map_or(&NONE, |context| context.pairs()))
        })
    }
}

/// Who may retire a grant.
pub(super) fn retires(grant: &Grant, caller: &Caller<'_>) -> About {
    let terms = &grant.terms;
    let grantee = terms.operations.contains(GrantOperation::RetireGrant).then_some(&terms.grantee);
    let named = terms.retiring.iter().chain(grantee).map(|party| means(party, caller)).max();
    named.unwrap_or(About::Nobody).max(account(&grant.issuing_account, caller))
}

fn means(party: &Party, caller: &Caller<'_>) -> About {
    match party {
        Party::Principal(id) if id == caller.id => About::Caller,
        Party::Principal(_) => About::Nobody,
        Party::Account(number) => account(number, caller),
    }
}

fn account(number: &str, caller: &Caller<'_>) -> About {
    match () {
        () if number != caller.account => About::Nobody,
        () if caller.is_root() => About::Caller,
        () => About::ItsAccount,
    }
}
