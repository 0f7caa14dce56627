//! A call of each operation that changes something.

use super::approvals::{approvals, arn, asked, bench, by, created, put, shown};
use super::bench::{Bench, FREE, anchor};
use crate::core::directory::default_document;
use crate::{
    AddHsmInput, Attached, CreateAliasInput, CreateGrantInput, CreateKeyInput, CreateKeyStoreInput,
    CreatePrincipalInput, Error, PutKeyPolicyInput, PutPolicyInput, RequestContext, ResyncInput, RetireGrantInput,
    UpdateKeyStoreInput,
};
use model::operation::Operation;
use model::secret::Secret;

const ARN: &str = "arn:aws:iam::111122223333:user/bert";

/// Each operation that changes something waits where it is configured, and tells what it asks for.
#[tokio::test]
async fn no_operation_that_changes_something_gets_past() {
    let bench = bench().await;
    let key = created(&bench).await;
    let (grant, admin) = (granted(&bench, &key, &arn("bert")).await, by(&bench, "admin"));
    let there = CreateAliasInput { alias_name: "alias/there".into(), target_key_id: key.clone(), ..Default::default() };
    bench.service.create_alias(&admin, there).await.unwrap();
    // What could not be carried out is asked of nobody.
    put(&bench, "mine", "{\"Effect\":\"Allow\",\"Action\":\"kms:Encrypt\",\"Resource\":\"*\"}").await;
    bench.service.create_group(&admin, "red").await.unwrap();
    bench.service.add_group_member(&admin, "red", ARN).await.unwrap();
    bench.service.create_group(&admin, "green").await.unwrap();
    // Nor is what would change nothing.
    bench.service.tag_resource(&admin, &key, vec![("old".into(), "1".into())]).await.unwrap();
    bench.service.create_access_key(&admin, ARN).await.unwrap();
    let operations: Vec<_> = Operation::ALL.iter().copied().filter(|one| one.can_need_approval()).collect();
    bench.service.set_approvals(approvals(&operations, 1));
    for operation in operations {
        let refused = carried_out(&bench, &admin, operation, (&key, &grant)).await;
        let view = shown(&bench, &asked(refused)).await;
        assert_eq!(view.operation, operation.name());
        bench.service.refuse_approval(&admin, view.id.as_str()).await.unwrap();
    }
}

fn grant(key: &str, grantee: &str) -> CreateGrantInput {
    CreateGrantInput {
        key_id: key.to_owned(),
        grantee: grantee.to_owned(),
        operations: vec!["Encrypt".into()],
        ..CreateGrantInput::default()
    }
}

/// A grant's id.
async fn granted(bench: &Bench, key: &str, grantee: &str) -> String {
    let admin = bench.call_of("cn:admin", std::time::Duration::from_secs(30));
    bench.service.create_grant(&admin, grant(key, grantee)).await.unwrap().id.to_string()
}

/// What comes of an operation, with the key and its grant.
async fn carried_out(
    bench: &Bench,
    call: &RequestContext,
    operation: Operation,
    (key, grant_id): (&str, &str),
) -> Result<(), Error> {
    let (service, store, cluster) = (&bench.service, bench.key_store.to_string(), bench.fake.id.to_string());
    let tags = || vec![("team".to_owned(), "red".to_owned())];
    let names = || vec!["team".to_owned()];
    let bert = || Attached::Principal(ARN.to_owned());
    let secret = || Secret::new(b"90713582".to_vec());
    match operation {
        Operation::CreateKey => service.create_key(call, CreateKeyInput::default()).await.map(drop),
        Operation::UpdateKeyDescription => service.update_key_description(call, key, "new".into()).await,
        Operation::TagResource => service.tag_resource(call, key, tags()).await,
        Operation::UntagResource => service.untag_resource(call, key, vec!["old".into()]).await,
        Operation::CreateAlias => {
            let (alias_name, target_key_id) = ("alias/a".into(), key.to_owned());
            service.create_alias(call, CreateAliasInput { alias_name, target_key_id, ..Default::default() }).await
        }
        Operation::UpdateAlias => {
            let other = off(bench, Operation::DisableKey).await;
            service.update_alias(call, "alias/there", &other).await
        }
        Operation::DeleteAlias => service.delete_alias(call, "alias/there").await,
        Operation::EnableKey => {
            let other = off(bench, Operation::DisableKey).await;
            service.enable_key(call, &other).await
        }
        Operation::DisableKey => service.disable_key(call, key).await,
        Operation::ScheduleKeyDeletion => service.schedule_key_deletion(call, key, None).await.map(drop),
        // What these need is a state that the key does not have: it is looked at first.
        Operation::CancelKeyDeletion => {
            let other = off(bench, Operation::ScheduleKeyDeletion).await;
            service.cancel_key_deletion(call, &other).await.map(drop)
        }
        Operation::DestroyKeyMaterial => {
            let other = off(bench, Operation::DisableKey).await;
            service.destroy_key_material(call, &other, &other).await.map(drop)
        }
        Operation::RotateKeyOnDemand => service.rotate_key_on_demand(call, key).await.map(drop),
        Operation::EnableKeyRotation => service.enable_key_rotation(call, key, None).await,
        Operation::DisableKeyRotation => service.disable_key_rotation(call, key).await,
        Operation::PutKeyPolicy => {
            let policy = default_document(service.core.scope()).replace("\"Sid\"", " \"Sid\"");
            let input = PutKeyPolicyInput { key_id: key.to_owned(), policy, ..Default::default() };
            service.put_key_policy(call, input).await.map(drop)
        }
        Operation::CreateGrant => service.create_grant(call, grant(key, ARN)).await.map(drop),
        Operation::RetireGrant => {
            let (key_arn, grant_id) = (key.to_owned(), grant_id.to_owned());
            service.retire_grant(call, RetireGrantInput { key_arn, grant_id, ..Default::default() }).await
        }
        Operation::RevokeGrant => service.revoke_grant(call, key, grant_id, false).await,
        Operation::CreateKeyStore => {
            let (name, cluster_id, trust_anchor, password) = ("new".into(), FREE.into(), anchor(), secret());
            let input = CreateKeyStoreInput { name, cluster_id, trust_anchor, password };
            service.create_key_store(call, input).await.map(drop)
        }
        Operation::UpdateKeyStore => {
            let key_store_id = spare(bench).await;
            let input = UpdateKeyStoreInput { key_store_id, password: Some(secret()), ..Default::default() };
            service.update_key_store(call, input).await
        }
        Operation::ConnectKeyStore => service.connect_key_store(call, &spare(bench).await).await,
        Operation::DisconnectKeyStore => service.disconnect_key_store(call, &store).await,
        Operation::DeleteKeyStore => service.delete_key_store(call, &spare(bench).await).await,
        Operation::AddHsm => {
            bench.configure(&[supervisor::Settings::of_a_test("hsm-c", "zone-c")]);
            let input = AddHsmInput {
                cluster_id: cluster,
                hsm_id: "hsm-c".into(),
                identity_certificate: "PEM".into(),
                transport_certificate: "PEM".into(),
                member_hsm_id: "hsm-0".into(),
                member_wrapped_key: vec![1; 256].into(),
                password: secret(),
                wrapped_key: bytes::Bytes::new(),
                wrap_only: true,
            };
            service.add_hsm(call, input).await.map(drop)
        }
        Operation::ResealPins => service.reseal_pins(call).await.map(drop),
        Operation::ResyncKeys => {
            service.resync_keys(call, ResyncInput { cluster_id: cluster, ..Default::default() }).await.map(drop)
        }
        Operation::CreatePrincipal => {
            let input = CreatePrincipalInput { arn: ARN.replace("bert", "new"), ..Default::default() };
            service.create_principal(call, input).await.map(drop)
        }
        Operation::DeletePrincipal => service.delete_principal(call, ARN).await,
        Operation::AddPrincipalIdentity => service.add_principal_identity(call, ARN, "cn:new").await,
        Operation::RemovePrincipalIdentity => service.remove_principal_identity(call, ARN, "cn:bert").await,
        Operation::TagPrincipal => service.tag_principal(call, ARN, tags()).await,
        Operation::UntagPrincipal => service.untag_principal(call, ARN, names()).await,
        Operation::CreateAccessKey => service.create_access_key(call, ARN).await.map(drop),
        Operation::EnableAccessKey => service.enable_access_key(call, ARN, &access_key(bench)).await,
        Operation::DisableAccessKey => service.disable_access_key(call, ARN, &access_key(bench)).await,
        Operation::DeleteAccessKey => service.delete_access_key(call, ARN, &access_key(bench)).await,
        Operation::CreateGroup => service.create_group(call, "blue").await,
        Operation::DeleteGroup => service.delete_group(call, "red").await,
        Operation::AddGroupMember => service.add_group_member(call, "green", ARN).await,
        Operation::RemoveGroupMember => service.remove_group_member(call, "red", ARN).await,
        Operation::PutPolicy => {
            let document = "{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Deny\",\"Action\":\"*\",\"Resource\":\"*\"}]}";
            let (name, document) = ("mine".into(), document.into());
            service.put_policy(call, PutPolicyInput { name, document, ..Default::default() }).await.map(drop)
        }
        Operation::DeletePolicy => service.delete_policy(call, "mine").await,
        Operation::AttachPolicy => service.attach_policy(call, "Auditor", bert()).await,
        Operation::DetachPolicy => service.detach_policy(call, "Approver", bert()).await,
        other => panic!("{other:?} changes something; have it called here, with all of its parameters in its proposal"),
    }
}

/// A key store without keys.
async fn spare(bench: &Bench) -> String {
    let known = bench.store.catalogue().key_store_named("spare").map(|store| store.id.to_string());
    match known {
        Some(id) => id,
        None => bench.spare_key_store().await.to_string(),
    }
}

/// The id of the access key.
fn access_key(bench: &Bench) -> String {
    let principal = bench.service.core.principal(ARN).unwrap();
    principal.access_keys[0].id.to_string()
}

/// Another key in the state that a call leaves.
async fn off(bench: &Bench, by: Operation) -> String {
    let (of, call) = (&bench.service, bench.call_of("cn:admin", std::time::Duration::from_secs(30)));
    let rule = of.core.approvals();
    of.set_approvals(crate::Approvals::default());
    let key = of.create_key(&call, CreateKeyInput::default()).await.unwrap().arn;
    match by {
        Operation::DisableKey => of.disable_key(&call, &key).await.unwrap(),
        _ => drop(of.schedule_key_deletion(&call, &key, None).await.unwrap()),
    }
    of.set_approvals((*rule).clone());
    key
}

/// The digest of a call has its operation by the name of its record: no two have one.
#[test]
fn no_two_operations_that_may_need_approval_have_one_name() {
    let operations = || Operation::ALL.iter().filter(|one| one.can_need_approval());
    let events: std::collections::BTreeSet<&str> = operations().map(|one| one.spec().event).collect();
    assert_eq!(events.len(), operations().count());
}
