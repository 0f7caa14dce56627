//! What a grant allows to whom.

use super::principal::About;
use super::request::{Caller, Request};
use crate::grant::{Grant, GrantOperation, Party};

/// The permission on which grants decide, and policies do not.
pub(super) const RETIRE: &str = "kms:RetireGrant";

/// Whom a grant lets do what a request asks.
pub(super) fn allows(grant: &Grant, request: &Request<'_>) -> About {
    let Some(operation) = GrantOperation::of_permission(request.action) else { return About::Nobody };
    let (terms, parameters) = (&grant.terms, &request.parameters);
    let constraint = terms.constraint.as_ref().filter(|_| operation.has_context());
    let fits = match operation {
        // Which grant is to be made decides, so who does not say it may make none.
        GrantOperation::CreateGrant => {
            parameters.grant.as_ref().is_some_and(|new| grant.may_delegate(new.terms).is_ok())
        }
        GrantOperation::RetireGrant => false,
        _ => constraint.is_none_or(|constraint| constraint.holds(parameters.encryption_context)),
    };
    if fits && terms.operations.contains(operation) { means(&terms.grantee, &request.caller) } else { About::Nobody }
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
