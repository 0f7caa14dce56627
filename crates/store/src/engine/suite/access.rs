//! What a store is asked to do about access.

use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::time::Duration;

use super::subject::{ADMITS, Change, Subject};
use crate::access::{
    Constraint, ConstraintKind, Holder, NewAccessKey, NewApproval, NewAttachment, NewGrant, NewKeyPolicy, NewPolicy,
    NewPrincipal, Request, Requested, Vote,
};
use crate::{GiveUp, Store};
use model::id::{AccessKeyId, ApprovalId, GroupName, KeyId, PolicyName, PrincipalId};
use model::key::KeyState;

/// Everything that changes who may do what.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AccessAct {
    CreatePrincipal,
    DeletePrincipal,
    AddIdentity,
    RemoveIdentity,
    CreateAccessKey,
    DisableAccessKey,
    DeleteAccessKey,
    ResealAccessKeys,
    Tag,
    Untag,
    CreateGroup,
    DeleteGroup,
    AddMember,
    RemoveMember,
    PutPolicy,
    PutPolicyAgain,
    DeletePolicy,
    Attach,
    Detach,
    PutKeyPolicy,
    CreateGrant,
    RemoveGrant,
    DeleteKeyWithGrants,
    RequestApproval,
    Vote,
    UseApproval,
    RefuseApproval,
}

impl AccessAct {
    pub(super) const ALL: [Self; 27] = [
        Self::CreatePrincipal,
        Self::DeletePrincipal,
        Self::AddIdentity,
        Self::RemoveIdentity,
        Self::CreateAccessKey,
        Self::DisableAccessKey,
        Self::DeleteAccessKey,
        Self::ResealAccessKeys,
        Self::Tag,
        Self::Untag,
        Self::CreateGroup,
        Self::DeleteGroup,
        Self::AddMember,
        Self::RemoveMember,
        Self::PutPolicy,
        Self::PutPolicyAgain,
        Self::DeletePolicy,
        Self::Attach,
        Self::Detach,
        Self::PutKeyPolicy,
        Self::CreateGrant,
        Self::RemoveGrant,
        Self::DeleteKeyWithGrants,
        Self::RequestApproval,
        Self::Vote,
        Self::UseApproval,
        Self::RefuseApproval,
    ];
}

/// Most of whatever there is.
const MANY: usize = usize::MAX;

/// Names that nobody else has.
struct Names {
    number: u32,
}

impl Names {
    fn principal(&self, what: &str) -> NewPrincipal {
        let name = format!("{what}-{}", self.number);
        NewPrincipal {
            description: "words".into(),
            identities: [format!("cn:{name}")].into(),
            tags: [("team".to_owned(), "payroll".to_owned())].into(),
            ..NewPrincipal::new(&format!("arn:aws:iam::111122223333:user/{name}"))
        }
    }

    fn group(&self) -> GroupName {
        GroupName::from(format!("group-{}", self.number).as_str())
    }

    fn policy(&self, named: &(String, PrincipalId)) -> NewPolicy {
        let name = PolicyName::from(format!("policy-{}", self.number).as_str());
        NewPolicy { names: [named.clone()].into(), ..NewPolicy::new(&name, "{}") }
    }

    fn request(&self, requester: &PrincipalId) -> Request {
        Request {
            requester: requester.clone(),
            operation: "ScheduleKeyDeletion".into(),
            resource: format!("arn:aws:kms:eu-central-1:111122223333:key/{}", self.number),
            parameters: [7; 32],
        }
    }
}

fn access_key(of: &PrincipalId) -> NewAccessKey {
    let sealed = b"sealed".as_slice().into();
    NewAccessKey { id: AccessKeyId::random(), principal: of.clone(), sealed, most: MANY }
}

fn grant(key: KeyId, of: &PrincipalId) -> NewGrant {
    let pairs = [("purpose".to_owned(), "payroll".to_owned())].into();
    NewGrant {
        key,
        name: "again".into(),
        grantee: of.clone(),
        retiring: Some(of.clone()),
        issuing_account: "111122223333".into(),
        issuer: of.clone(),
        operations: vec!["Encrypt".into(), "Decrypt".into()],
        constraint: Some(Constraint { kind: ConstraintKind::Subset, pairs }),
        parameters: [7; 32],
    }
}

async fn approval(store: &Store, request: &Request) -> ApprovalId {
    let new = NewApproval {
        request: request.clone(),
        description: "please".into(),
        life: Duration::from_secs(60),
        needed: NonZeroU32::MIN,
        most: MANY,
        most_in_all: MANY,
    };
    let (Requested::New(id) | Requested::Existing(id)) = store.request_approval(new).await.unwrap();
    id
}

impl Subject {
    /// Does what an act needs, and gives the act.
    pub(super) async fn of_access(&self, act: AccessAct, number: u32) -> Change<'static> {
        let (store, names) = (self.store.clone(), Names { number });
        let new = names.principal("app");
        if act == AccessAct::CreatePrincipal {
            return Box::pin(async move { store.create_principal(new).await.map(drop) });
        }
        let (arn, identity) = (new.arn.clone(), format!("cn:app-{number}"));
        let id = store.create_principal(new).await.unwrap();
        match act {
            AccessAct::AddIdentity => {
                Box::pin(async move { store.add_identity(&id, &format!("{identity}2"), 9).await })
            }
            AccessAct::RemoveIdentity => Box::pin(async move { store.remove_identity(&id, &identity).await }),
            AccessAct::Tag => {
                let tags = [("a".to_owned(), "b".to_owned())].into();
                Box::pin(async move { store.tag_principal(&id, &tags, 50).await })
            }
            AccessAct::Untag => {
                let tags = BTreeSet::from(["team".to_owned()]);
                Box::pin(async move { store.untag_principal(&id, &tags).await })
            }
            AccessAct::CreateAccessKey
            | AccessAct::DisableAccessKey
            | AccessAct::DeleteAccessKey
            | AccessAct::ResealAccessKeys => self.of_access_key(act, id).await,
            AccessAct::CreateGroup | AccessAct::DeleteGroup | AccessAct::AddMember | AccessAct::RemoveMember => {
                self.of_group(act, names.group(), id).await
            }
            AccessAct::PutKeyPolicy
            | AccessAct::CreateGrant
            | AccessAct::RemoveGrant
            | AccessAct::DeleteKeyWithGrants => self.of_key_access(act, (arn, id)).await,
            AccessAct::RequestApproval | AccessAct::Vote | AccessAct::UseApproval | AccessAct::RefuseApproval => {
                self.of_approval(act, names, id).await
            }
            _ => self.of_policy(act, names, (arn, id)).await,
        }
    }

    async fn of_access_key(&self, act: AccessAct, of: PrincipalId) -> Change<'static> {
        let (store, new) = (self.store.clone(), access_key(&of));
        if act == AccessAct::CreateAccessKey {
            return Box::pin(async move { store.create_access_key(new).await });
        }
        if act == AccessAct::ResealAccessKeys {
            // It has as many statements as there are access keys, of whatever act before.
            let catalogue = store.catalogue();
            for principal in catalogue.principals_after(None) {
                for key in &principal.access_keys {
                    store.delete_access_key(&principal.id, &key.id).await.unwrap();
                }
            }
        }
        let id = new.id.clone();
        store.create_access_key(new).await.unwrap();
        match act {
            AccessAct::DisableAccessKey => Box::pin(async move { store.switch_access_key(&of, &id, false).await }),
            AccessAct::DeleteAccessKey => Box::pin(async move { store.delete_access_key(&of, &id).await }),
            _ => Box::pin(async move {
                let anew = store.reseal_access_keys(|id, of, _| Ok(format!("anew {id} {of}").into()));
                anew.await.map(drop)
            }),
        }
    }

    async fn of_group(&self, act: AccessAct, group: GroupName, id: PrincipalId) -> Change<'static> {
        let store = self.store.clone();
        if act == AccessAct::CreateGroup {
            return Box::pin(async move { store.create_group(&group, MANY).await });
        }
        store.create_group(&group, MANY).await.unwrap();
        if act == AccessAct::AddMember {
            return Box::pin(async move { store.add_member(&group, &id, MANY).await });
        }
        store.add_member(&group, &id, MANY).await.unwrap();
        match act {
            AccessAct::DeleteGroup => Box::pin(async move { store.delete_group(&group).await }),
            _ => Box::pin(async move { store.remove_member(&group, &id).await }),
        }
    }

    async fn of_policy(&self, act: AccessAct, names: Names, named: (String, PrincipalId)) -> Change<'static> {
        let (store, new, id) = (self.store.clone(), names.policy(&named), named.1);
        if act == AccessAct::PutPolicy {
            return Box::pin(async move { store.put_policy(new).await });
        }
        store.put_policy(new.clone()).await.unwrap();
        let (policy, holder) = (new.name.clone(), Holder::Principal(id.clone()));
        let attachment = NewAttachment { policy: policy.clone(), built_in: false, holder: holder.clone(), most: MANY };
        match act {
            AccessAct::PutPolicyAgain => {
                let again = NewPolicy { document: "[]".into(), ..new };
                return Box::pin(async move { store.put_policy(again).await });
            }
            AccessAct::DeletePolicy => return Box::pin(async move { store.delete_policy(&policy).await }),
            AccessAct::Attach => return Box::pin(async move { store.attach_policy(attachment).await }),
            _ => store.attach_policy(attachment).await.unwrap(),
        }
        if act == AccessAct::Detach {
            return Box::pin(async move { store.detach_policy(&policy, &holder).await });
        }
        // With everything that a principal can have.
        let group = names.group();
        store.create_access_key(access_key(&id)).await.unwrap();
        store.create_group(&group, MANY).await.unwrap();
        store.add_member(&group, &id, MANY).await.unwrap();
        let other = store.create_principal(names.principal("other")).await.unwrap();
        let asked = approval(&store, &names.request(&other)).await;
        store.vote(&asked, &id, Vote::Approve).await.unwrap();
        approval(&store, &names.request(&id)).await;
        Box::pin(async move { store.delete_principal(&id).await })
    }

    async fn of_key_access(&self, act: AccessAct, named: (String, PrincipalId)) -> Change<'static> {
        let (store, id) = (self.store.clone(), named.1.clone());
        let key = self.new_key().await;
        let policy = NewKeyPolicy { document: "{}".into(), names: [named].into() };
        if act == AccessAct::PutKeyPolicy {
            return Box::pin(async move { store.put_key_policy(key, policy, ADMITS.states).await });
        }
        if act == AccessAct::CreateGrant {
            return Box::pin(async move { store.create_grant(grant(key, &id), ADMITS).await.map(drop) });
        }
        store.put_key_policy(key, policy, ADMITS.states).await.unwrap();
        store.create_grant(grant(key, &id), ADMITS).await.unwrap();
        if act == AccessAct::RemoveGrant {
            let made = store.catalogue().grants_of(&id, key).next().unwrap().id.clone();
            return Box::pin(async move { store.remove_grant(key, &made).await });
        }
        store.force_state(key, KeyState::Disabled).await.unwrap();
        store.give_up_material(key, GiveUp::Asked { date: 1 }, &[]).await.unwrap();
        Box::pin(async move { store.delete_key(key).await })
    }

    async fn of_approval(&self, act: AccessAct, names: Names, id: PrincipalId) -> Change<'static> {
        let store = self.store.clone();
        let request = names.request(&id);
        if act == AccessAct::RequestApproval {
            // One that has expired is cleared by it.
            approval(&store, &Request { operation: "DisableKey".into(), ..request.clone() }).await;
            store.inner.clock.advance(Duration::from_secs(61));
            return Box::pin(async move {
                let new = NewApproval {
                    request,
                    description: String::new(),
                    life: Duration::from_secs(60),
                    needed: NonZeroU32::MIN,
                    most: 1,
                    most_in_all: 1,
                };
                store.request_approval(new).await.map(drop)
            });
        }
        let asked = approval(&store, &request).await;
        let other = store.create_principal(names.principal("other")).await.unwrap();
        match act {
            AccessAct::Vote => return Box::pin(async move { store.vote(&asked, &other, Vote::Approve).await }),
            AccessAct::RefuseApproval => return Box::pin(async move { store.refuse_approval(&asked).await }),
            _ => store.vote(&asked, &other, Vote::Approve).await.unwrap(),
        }
        Box::pin(async move { store.use_approval(&asked, &request).await })
    }
}
