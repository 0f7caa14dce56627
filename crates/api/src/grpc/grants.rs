//! What grants look like on the wire.

use super::{error, timestamp};
use auth::grant::ConstraintKind;
use proto::v1;
use service::{CreateGrantInput, Error, GrantView};

pub(super) fn input(request: v1::CreateGrantRequest) -> Result<CreateGrantInput, Error> {
    let v1::CreateGrantRequest {
        key_id,
        grantee_principal,
        retiring_principal,
        operations,
        constraints,
        name,
        dry_run,
        grant_tokens,
    } = request;
    let v1::GrantConstraints { encryption_context_subset, encryption_context_equals } = constraints.unwrap_or_default();
    let constraint = match (encryption_context_subset.is_empty(), encryption_context_equals.is_empty()) {
        (true, true) => None,
        (false, true) => Some((ConstraintKind::Subset, encryption_context_subset)),
        (true, false) => Some((ConstraintKind::Equals, encryption_context_equals)),
        (false, false) => {
            let what = "constraints: give encryption_context_subset or encryption_context_equals, not both";
            return Err(error::validation(what));
        }
    };
    let (grantee, retiring) = (grantee_principal, retiring_principal);
    Ok(CreateGrantInput {
        key_id,
        grantee,
        retiring,
        operations,
        constraint,
        name,
        grant_tokens: grant_tokens.into(),
        dry_run,
    })
}

pub(super) fn shown(grant: GrantView) -> v1::Grant {
    let constraints = grant.constraint.map(|(kind, pairs)| match kind {
        ConstraintKind::Subset => {
            v1::GrantConstraints { encryption_context_subset: pairs, ..v1::GrantConstraints::default() }
        }
        ConstraintKind::Equals => {
            v1::GrantConstraints { encryption_context_equals: pairs, ..v1::GrantConstraints::default() }
        }
    });
    v1::Grant {
        key_id: grant.key_arn,
        grant_id: grant.id.to_string(),
        name: grant.name,
        creation_date: Some(timestamp(grant.created_at)),
        grantee_principal: grant.grantee,
        retiring_principal: grant.retiring.unwrap_or_default(),
        issuing_account: grant.issuing_account,
        operations: grant.operations,
        constraints,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::exception::Exception;
    use std::collections::BTreeMap;

    #[test]
    fn a_constraint_is_of_one_kind_on_its_way_in_and_out() {
        let pairs = BTreeMap::from([("a".to_owned(), "b".to_owned())]);
        let of = |subset: bool, equals: bool| {
            let some = |wanted: bool| if wanted { pairs.clone() } else { BTreeMap::new() };
            let constraints = v1::GrantConstraints {
                encryption_context_subset: some(subset),
                encryption_context_equals: some(equals),
            };
            input(v1::CreateGrantRequest { constraints: Some(constraints), ..Default::default() })
        };
        assert_eq!(of(false, false).unwrap().constraint, None);
        assert_eq!(input(v1::CreateGrantRequest::default()).unwrap().constraint, None);
        assert_eq!(of(true, true).unwrap_err().exception, Exception::Validation);
        for kind in [ConstraintKind::Subset, ConstraintKind::Equals] {
            let subset = kind == ConstraintKind::Subset;
            let constraint = of(subset, !subset).unwrap().constraint;
            assert_eq!(constraint, Some((kind, pairs.clone())));
            let shown = shown(GrantView {
                key_arn: "arn:aws:kms:local:000000000000:key/x".to_owned(),
                id: "ab".into(),
                name: String::new(),
                grantee: "arn:aws:iam::000000000000:user/app".to_owned(),
                retiring: None,
                issuing_account: "arn:aws:iam::000000000000:root".to_owned(),
                operations: vec!["Decrypt".to_owned()],
                constraint,
                created_at: 1_000,
            });
            let constraints = shown.constraints.unwrap();
            let (full, empty) = match subset {
                true => (constraints.encryption_context_subset, constraints.encryption_context_equals),
                false => (constraints.encryption_context_equals, constraints.encryption_context_subset),
            };
            assert_eq!((full, empty), (pairs.clone(), BTreeMap::new()));
        }
    }
}
