//! What the configuration says of requests: which calls others have to approve, and how many there may be a second. What
//! changes about either is told to the log.

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use model::operation::Operation;
use service::{Approvals, RateLimits, Service};

/// Has these calls need the approval of others, and no others.
pub(super) fn take_approvals(service: &Service, approvals: Approvals) {
    let before = service.approvals();
    service.set_approvals(approvals.clone());
    if before == approvals {
        return;
    }
    let names = |of: &Approvals| -> BTreeSet<&'static str> { of.operations.iter().map(|one| one.name()).collect() };
    let (old, new) = (names(&before), names(&approvals));
    let listed = |names: Vec<&&'static str>| names.into_iter().copied().collect::<Vec<_>>().join(", ");
    tracing::info!(
        added = listed(new.difference(&old).collect()),
        removed = listed(old.difference(&new).collect()),
        required = approvals.required,
        expires_after_s = approvals.expires_after.as_secs(),
        "calls that others have to approve, of the configuration"
    );
}

/// Warns where calls wait for more approvals than anybody is there to give. Policies and administrators are to be known
/// by then.
pub(super) fn look_for_approvers(service: &Service) {
    let Approvals { operations, required, .. } = service.approvals();
    if let Some(sentence) = too_few(&operations, required, service.approvers()) {
        tracing::warn!("{sentence}");
    }
}

/// What is to be said where so many cannot approve a call.
pub(super) fn too_few(operations: &[Operation], required: NonZeroU32, approvers: usize) -> Option<String> {
    let required = required.get();
    let short = !operations.is_empty() && usize::try_from(required).is_ok_and(|required| approvers < required);
    short.then(|| {
        format!(
            "[approvals] has {} operations wait for {required} others, and {approvers} may approve whatever it is: attach the \
             policy Approver to more principals, or lower `required` (whom a policy lets approve some calls only is not \
             counted here)",
            operations.len()
        )
    })
}

/// Has so many requests a second be let in.
pub(super) fn take_rate_limits(service: &Service, limits: RateLimits) {
    let before = service.rate_limits();
    service.set_rate_limits(limits);
    if before == limits {
        return;
    }
    let shown = |rate: Option<NonZeroU32>| rate.map_or_else(|| "none".to_owned(), |rate| rate.to_string());
    tracing::info!(
        per_principal = shown(limits.per_principal),
        per_key_store = shown(limits.per_key_store),
        burst_s = limits.burst_s,
        "limits on requests a second, of the configuration"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_few_approvers_are_told_of() {
        let two = NonZeroU32::new(2).unwrap();
        let of = |operations: &[Operation], approvers| too_few(operations, two, approvers);
        assert_eq!(of(&[], 0), None, "nobody waits for them");
        assert_eq!(of(&[Operation::AddHsm], 2), None);
        let sentence = of(&[Operation::AddHsm], 1).unwrap();
        assert!(sentence.contains("1 operations wait for 2 others, and 1 may approve"), "{sentence}");
    }
}
