//! Whether a key's policy can be changed again once it is put, as far as that does not depend on who asks, and when.

use super::actions::Asked;
use super::compiled::Statement;
use super::condition::{Condition, Effect};
use super::finding::Problem;
use super::resource::Resources;

/// Who may call this may change the policy.
const PUT: &str = "kms:PutKeyPolicy";

/// Why nobody could whom policies bind. The key's ARN and account say more where they are known.
pub(super) fn lock_out(statements: &[Statement], arn: Option<&str>, account: Option<&str>) -> Option<Problem> {
    let asked = Asked::of(PUT);
    let of_put = |effect| statements.iter().filter(move |one| one.effect == effect && one.is_about_action(&asked));
    let fit = |one: &Statement| one.resources.as_ref().and_then(|resources| resources.always_fit(arn));
    let lets = |one: &Statement| {
        let is_met = !one.conditions.iter().any(Condition::is_never_met);
        one.whom.may_be_somebody() && is_met && fit(one) != Some(false)
    };
    let shuts =
        |one: &Statement| one.whom.denies_everybody_of(account) && one.conditions.is_empty() && fit(one) == Some(true);
    match () {
        () if !of_put(Effect::Allow).any(lets) => Some(Problem::LockOut),
        () if of_put(Effect::Deny).any(shuts) => Some(Problem::AllLockedOut),
        () => None,
    }
}

impl Resources {
    /// Whether a key fits whatever the request is, by its ARN where that is known; nothing where that depends on either.
    fn always_fit(&self, arn: Option<&str>) -> Option<bool> {
        let mut all = Some(false);
        for one in self.each() {
            match arn.map_or_else(|| one.is_any().then_some(true), |arn| one.always_fits(arn)) {
                Some(true) => return Some(!self.leave_out()),
                Some(false) => {}
                None => all = None,
            }
        }
        all.map(|fits| fits != self.leave_out())
    }
}
