//! How many could approve calls: too few are found by waiting otherwise.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::Core;
use super::approval::{Votes, faces};
use crate::RequestContext;
use auth::peer::Principal;
use auth::request::{Interface, NO_RESOURCE};
use model::id::PrincipalId;
use store::access::Approval;

impl Votes<'_> {
    /// How many could still approve it: persons other than who asked and than those whose votes count.
    pub(crate) fn left(&self, approval: &Approval, counting: &BTreeSet<PrincipalId>) -> usize {
        let catalogue = &self.keyring.catalogue;
        let out = counting.iter().chain([&approval.request.requester]);
        let out: BTreeSet<PrincipalId> = out.flat_map(|one| faces(catalogue, approval, one)).collect();
        self.approvers_but(&out, &approval.request.resource)
    }

    /// Principals, and administrators who are none, who may approve what is about this ARN.
    fn approvers_but(&self, out: &BTreeSet<PrincipalId>, resource: &str) -> usize {
        let catalogue = &self.keyring.catalogue;
        let is_out = |name: &str| out.contains(&PrincipalId::from(name));
        let principals = catalogue.principals_after(None).filter(|principal| {
            let known_as_one = principal.identities.iter().any(|one| is_out(&one.name));
            !out.contains(&principal.id) && !known_as_one && self.may_approve(&principal.id, resource)
        });
        let administrators = self
            .authority
            .administrators
            .iter()
            .filter(|name| !is_out(name.as_str()) && catalogue.principal_known_as(name.as_str()).is_none());
        principals.count() + administrators.count()
    }
}

impl Core {
    /// How many may approve calls whatever these are about. Policies that allow it for some ARNs only are not counted.
    pub(crate) fn approvers(&self) -> usize {
        let (keyring, authority) = (self.keyring(), self.authority());
        // Nobody calls: it is looked at when the daemon begins, and when the configuration is read again.
        let call = RequestContext {
            principal: Principal::new(""),
            source: None,
            user_agent: None,
            tls: None,
            interface: Interface::Grpc,
            request_id: "".into(),
            deadline: self.clock().now(),
            charge: None,
            trace: Arc::default(),
        };
        Votes::new(self, &keyring, &authority, &call).approvers_but(&BTreeSet::new(), NO_RESOURCE)
    }
}
