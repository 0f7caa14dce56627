//! Every operation of the table, asked for by those who may do nothing, and about what there is and what there is not.

use std::collections::BTreeSet;

use super::access::{HERE, arn, attach, attach_as_it_is, bench, by, created, encrypt, principal, statement};
use super::audit_log::Kept;
use super::bench::{Bench, exception, plain, sealed};
use crate::GrantTokens;
use crate::{
    AddHsmInput, Approvals, Attached, AuditFilter, CreateAliasInput, CreateGrantInput, CreateKeyInput,
    CreateKeyStoreInput, CreatePrincipalInput, DataKeyInput, Error, ExplainInput, Extras, FollowAuditRecordsInput,
    KeyFilter, ListAuditRecordsInput, ListKeysInput, PutKeyPolicyInput, PutPolicyInput, ReEncryptInput, RequestContext,
    ResyncInput, RetireGrantInput, UpdateKeyStoreInput,
};
use model::exception::Exception;
use model::id::KeyId;
use model::operation::Operation;
use model::secret::Secret;

/// What calls name.
pub(super) struct Named {
    pub(super) key: String,
    alias: String,
    key_store: String,
    cluster: String,
    principal: String,
    access_key: String,
    group: String,
    policy: String,
    grant: String,
    approval: String,
    pub(super) blob: Vec<u8>,
}

/// What is secret in calls begins with this.
pub(super) const SECRET: &str = "PLANTED";

/// Asks for one operation as its callers do. There is no other way to write this than one operation after the other: one
/// that is missing does not compile.
pub(super) async fn asked(
    bench: &Bench,
    call: &RequestContext,
    named: &Named,
    operation: Operation,
) -> Result<(), Error> {
    fn item<T>(results: Result<Vec<Result<T, Error>>, Error>) -> Result<(), Error> {
        results?.remove(0).map(drop)
    }
    let Named { key, alias, key_store, cluster, principal, access_key, group, policy, grant, approval, blob } = named;
    let (service, of) = (&bench.service, |text: &str| text.to_owned());
    let data_key = || DataKeyInput { key_id: key.clone(), number_of_bytes: Some(8), ..DataKeyInput::default() };
    let (tags, names) = (vec![(of("team"), of("red"))], vec![of("team")]);
    let document = "{\"Version\":\"2012-10-17\",\"Statement\":[]}";
    match operation {
        Operation::Encrypt => item(service.encrypt(call, vec![plain(key, b"PLANTED-plaintext")]).await),
        Operation::Decrypt => item(service.decrypt(call, vec![sealed(blob)]).await),
        Operation::GenerateDataKey => item(service.generate_data_keys(call, vec![data_key()], false).await),
        Operation::GenerateDataKeyWithoutPlaintext => {
            item(service.generate_data_keys(call, vec![data_key()], true).await)
        }
        Operation::GenerateRandom => {
            service.generate_random(call, Some(8), key_store, Extras::default()).await.map(drop)
        }
        Operation::ReEncrypt => {
            let (ciphertext, destination_key_id) = (blob.clone().into(), key.clone());
            let input = ReEncryptInput { ciphertext, destination_key_id, ..ReEncryptInput::default() };
            item(service.re_encrypt(call, vec![input]).await)
        }
        Operation::CreateKey => {
            let input = CreateKeyInput { key_store_id: key_store.clone(), ..CreateKeyInput::default() };
            service.create_key(call, input).await.map(drop)
        }
        Operation::DescribeKey => service.describe_key_with(call, key, GrantTokens::default()).await.map(drop),
        Operation::ListKeys => service.list_keys(call, ListKeysInput::default()).await.map(drop),
        Operation::UpdateKeyDescription => service.update_key_description(call, key, of("x")).await,
        Operation::TagResource => service.tag_resource(call, key, tags).await,
        Operation::UntagResource => service.untag_resource(call, key, names).await,
        Operation::ListResourceTags => service.list_resource_tags(call, key, None, "").await.map(drop),
        Operation::CreateAlias => {
            let input =
                CreateAliasInput { alias_name: of("alias/new"), target_key_id: key.clone(), ..Default::default() };
            service.create_alias(call, input).await
        }
        Operation::UpdateAlias => service.update_alias(call, alias, key).await,
        Operation::DeleteAlias => service.delete_alias(call, alias).await,
        Operation::ListAliases => service.list_aliases(call, key, None, "").await.map(drop),
        Operation::EnableKey => service.enable_key(call, key).await,
        Operation::DisableKey => service.disable_key(call, key).await,
        Operation::ScheduleKeyDeletion => service.schedule_key_deletion(call, key, None).await.map(drop),
        Operation::CancelKeyDeletion => service.cancel_key_deletion(call, key).await.map(drop),
        Operation::DestroyKeyMaterial => service.destroy_key_material(call, key, key).await.map(drop),
        Operation::GetKeyLastUsage => service.get_key_last_usage(call, key).await.map(drop),
        Operation::RotateKeyOnDemand => service.rotate_key_on_demand(call, key).await.map(drop),
        Operation::EnableKeyRotation => service.enable_key_rotation(call, key, None).await,
        Operation::DisableKeyRotation => service.disable_key_rotation(call, key).await,
        Operation::GetKeyRotationStatus => service.get_key_rotation_status(call, key).await.map(drop),
        Operation::ListKeyRotations => service.list_key_rotations(call, key, false, None, "").await.map(drop),
        Operation::PutKeyPolicy => {
            let input = PutKeyPolicyInput { key_id: key.clone(), policy: of(document), ..PutKeyPolicyInput::default() };
            service.put_key_policy(call, input).await.map(drop)
        }
        Operation::GetKeyPolicy => service.get_key_policy(call, key, "").await.map(drop),
        Operation::ListKeyPolicies => service.list_key_policies(call, key, None, "").await.map(drop),
        Operation::CreateGrant => {
            let (key_id, grantee, operations) = (key.clone(), principal.clone(), vec![of("Encrypt")]);
            let input = CreateGrantInput { key_id, grantee, operations, ..CreateGrantInput::default() };
            service.create_grant(call, input).await.map(drop)
        }
        Operation::ListGrants => service.list_grants(call, key, "", "", None, "").await.map(drop),
        Operation::ListRetirableGrants => service.list_retirable_grants(call, principal, None, "").await.map(drop),
        Operation::RetireGrant => {
            let (key_arn, grant_id) = (key.clone(), grant.clone());
            service.retire_grant(call, RetireGrantInput { key_arn, grant_id, ..RetireGrantInput::default() }).await
        }
        Operation::RevokeGrant => service.revoke_grant(call, key, grant, false).await,
        Operation::CreateKeyStore => {
            let (name, cluster_id, password) = (of("new"), cluster.clone(), Secret::new(b"PLANTED1234567".to_vec()));
            let input = CreateKeyStoreInput { name, cluster_id, trust_anchor: of("PLANTED-anchor"), password };
            service.create_key_store(call, input).await.map(drop)
        }
        Operation::DescribeKeyStores => service.describe_key_stores(call, key_store, "", None, "").await.map(drop),
        Operation::UpdateKeyStore => {
            let (key_store_id, new_name) = (key_store.clone(), Some(of("new")));
            let input = UpdateKeyStoreInput { key_store_id, new_name, ..UpdateKeyStoreInput::default() };
            service.update_key_store(call, input).await
        }
        Operation::ConnectKeyStore => service.connect_key_store(call, key_store).await,
        Operation::DisconnectKeyStore => service.disconnect_key_store(call, key_store).await,
        Operation::DeleteKeyStore => service.delete_key_store(call, key_store).await,
        Operation::DescribeClusters => service.describe_clusters(call, cluster).await.map(drop),
        Operation::AddHsm => {
            let input = AddHsmInput {
                cluster_id: cluster.clone(),
                hsm_id: of("hsm-9"),
                identity_certificate: of("PLANTED-certificate"),
                transport_certificate: of("none"),
                member_hsm_id: of("hsm-0"),
                member_wrapped_key: bytes::Bytes::from_static(b"PLANTED-key"),
                password: Secret::new(b"PLANTED1234567".to_vec()),
                wrapped_key: bytes::Bytes::new(),
                wrap_only: true,
            };
            service.add_hsm(call, input).await.map(drop)
        }
        Operation::ResealPins => service.reseal_pins(call).await.map(drop),
        Operation::ResyncKeys => {
            let (cluster_id, key_id) = (cluster.clone(), key.clone());
            service.resync_keys(call, ResyncInput { cluster_id, key_id, ..ResyncInput::default() }).await.map(drop)
        }
        Operation::GetStatistics => service.get_statistics(call, cluster).await.map(drop),
        Operation::DiagnoseHsm => service.diagnose_hsm(call, cluster, "hsm-0").await.map(drop),
        Operation::WhoAmI => service.who_am_i(call).await.map(drop),
        Operation::CreatePrincipal => {
            let input = CreatePrincipalInput { arn: arn(HERE, "new"), ..CreatePrincipalInput::default() };
            service.create_principal(call, input).await.map(drop)
        }
        Operation::DeletePrincipal => service.delete_principal(call, principal).await,
        Operation::DescribePrincipal => service.describe_principal(call, principal).await.map(drop),
        Operation::ListPrincipals => service.list_principals(call, None, "").await.map(drop),
        Operation::AddPrincipalIdentity => service.add_principal_identity(call, principal, "cn:new").await,
        Operation::RemovePrincipalIdentity => service.remove_principal_identity(call, principal, "cn:gone").await,
        Operation::TagPrincipal => service.tag_principal(call, principal, tags).await,
        Operation::UntagPrincipal => service.untag_principal(call, principal, names).await,
        Operation::CreateAccessKey => service.create_access_key(call, principal).await.map(drop),
        Operation::ListAccessKeys => service.list_access_keys(call, principal, None, "").await.map(drop),
        Operation::EnableAccessKey => service.enable_access_key(call, principal, access_key).await,
        Operation::DisableAccessKey => service.disable_access_key(call, principal, access_key).await,
        Operation::DeleteAccessKey => service.delete_access_key(call, principal, access_key).await,
        Operation::CreateGroup => service.create_group(call, "new").await,
        Operation::DeleteGroup => service.delete_group(call, group).await,
        Operation::ListGroups => service.list_groups(call, None, "").await.map(drop),
        Operation::ListGroupMembers => service.list_group_members(call, group, None, "").await.map(drop),
        Operation::AddGroupMember => service.add_group_member(call, group, principal).await,
        Operation::RemoveGroupMember => service.remove_group_member(call, group, principal).await,
        Operation::PutPolicy => {
            let input = PutPolicyInput { name: of("new"), document: of(document), ..PutPolicyInput::default() };
            service.put_policy(call, input).await.map(drop)
        }
        Operation::DeletePolicy => service.delete_policy(call, policy).await,
        Operation::GetPolicy => service.get_policy(call, policy).await.map(drop),
        Operation::ListPolicies => service.list_policies(call, None, "").await.map(drop),
        Operation::AttachPolicy => service.attach_policy(call, policy, Attached::Principal(principal.clone())).await,
        Operation::DetachPolicy => service.detach_policy(call, policy, Attached::Principal(principal.clone())).await,
        Operation::ExplainAccess => {
            let (principal, action) = (principal.clone(), of("kms:Encrypt"));
            service.explain_access(call, ExplainInput { principal, action, ..ExplainInput::default() }).await.map(drop)
        }
        Operation::CheckPolicy => {
            service.check_policy(call, of(document), crate::CheckedPolicy::AnyKey).await.map(drop)
        }
        Operation::ListApprovals => service.list_approvals(call, true, None, "").await.map(drop),
        Operation::DescribeApproval => service.describe_approval(call, approval).await.map(drop),
        Operation::Approve => service.approve(call, approval, &"0".repeat(64)).await.map(drop),
        Operation::RefuseApproval => service.refuse_approval(call, approval).await,
        Operation::GetAuditKeys => service.get_audit_keys(call).await.map(drop),
        Operation::GetAuditHead => service.get_audit_head(call).await.map(drop),
        Operation::ListAuditRecords => {
            let filter = AuditFilter { operation: Some(of("Decrypt")), ..AuditFilter::default() };
            let input = ListAuditRecordsInput { filter, ..ListAuditRecordsInput::default() };
            service.list_audit_records(call, input).await.map(drop)
        }
        Operation::FollowAuditRecords => {
            let input = FollowAuditRecordsInput { from: Some(1), ..FollowAuditRecordsInput::default() };
            service.follow_audit_records(call, input).await.map(drop)
        }
        Operation::GetAuditProof => service.get_audit_proof(call, 1).await.map(drop),
        Operation::GetAuditConsistency => service.get_audit_consistency(call, 1).await.map(drop),
    }
}

/// Things that there are, and such as there are not.
pub(super) async fn named(bench: &Bench) -> [Named; 2] {
    let (service, admin, key) = (&bench.service, by(bench, "admin"), created(bench).await.arn);
    service.set_audit_reader(Kept::of(3));
    let target_key_id = key.clone();
    let alias = CreateAliasInput { alias_name: "alias/there".into(), target_key_id, ..CreateAliasInput::default() };
    service.create_alias(&admin, alias).await.unwrap();
    let there = arn(HERE, "is-there");
    let input = CreatePrincipalInput { arn: there.clone(), ..CreatePrincipalInput::default() };
    service.create_principal(&admin, input).await.unwrap();
    let access_key = service.create_access_key(&admin, &there).await.unwrap().key.id.to_string();
    service.create_group(&admin, "is-there").await.unwrap();
    let document = "{\"Version\":\"2012-10-17\",\"Statement\":[{\"Effect\":\"Allow\",\"Action\":\"kms:Encrypt\",\"Resource\":\"*\"}]}";
    let input = PutPolicyInput { name: "is-there".into(), document: document.into(), ..PutPolicyInput::default() };
    service.put_policy(&admin, input).await.unwrap();
    let (key_id, grantee) = (key.clone(), there.clone());
    let grant = CreateGrantInput { key_id, grantee, operations: vec!["Decrypt".into()], ..CreateGrantInput::default() };
    let grant = service.create_grant(&admin, grant).await.unwrap().id.to_string();
    let blob = encrypt(bench, "admin", &key, None).await.unwrap();
    // A call that waited for the approval of somebody else.
    service.set_approvals(Approvals { operations: vec![Operation::DeleteGroup], ..Approvals::default() });
    service.delete_group(&admin, "is-there").await.unwrap_err();
    let approval = service.list_approvals(&admin, true, None, "").await.unwrap().items.remove(0).id.to_string();
    service.set_approvals(Approvals::default());
    let none = KeyId::random();
    // The same of another key.
    let mut of_none = blob.clone();
    let at = blob.windows(16).position(|bytes| bytes == KeyId::parse(&key[key.len() - 36..]).unwrap().as_bytes());
    of_none[at.unwrap()..][..16].copy_from_slice(none.as_bytes());
    let not = Named {
        key: service.core.scope().key_arn(none),
        alias: "alias/not".into(),
        key_store: "cks-00000000000000000".into(),
        cluster: "cluster-bbbbbbbbbbb".into(),
        principal: arn(HERE, "is-not"),
        access_key: access_key.clone(),
        group: "is-not".into(),
        policy: "is-not".into(),
        grant: grant.clone(),
        approval: "0".repeat(approval.len()),
        blob: of_none,
    };
    let (alias, key_store, cluster) =
        ("alias/there".into(), bench.key_store.as_str().into(), bench.fake.id.as_str().into());
    let (group, policy) = ("is-there".into(), "is-there".into());
    let principal = there;
    [Named { key, alias, key_store, cluster, principal, access_key, group, policy, grant, approval, blob }, not]
}

#[tokio::test]
async fn nobody_may_do_anything_without_being_let() {
    let bench = bench().await;
    let named = named(&bench).await;
    principal(&bench, HERE, "idle").await;
    let revision = bench.store.revision();
    let mut walked = 0;
    for name in ["stranger", "idle"] {
        for operation in Operation::ALL {
            let [there, not] = [
                asked(&bench, &by(&bench, name), &named[0], *operation).await,
                asked(&bench, &by(&bench, name), &named[1], *operation).await,
            ];
            walked += 1;
            if *operation == Operation::WhoAmI {
                there.unwrap();
                continue;
            }
            let refused = there.expect_err(operation.name());
            assert_eq!(refused.exception, Exception::AccessDenied, "{name} {operation:?}: {refused}");
            // Which grant is to be retired says its own id, which nobody guesses.
            let not = not.expect_err(operation.name());
            if *operation != Operation::RetireGrant {
                assert_eq!(not.exception, Exception::AccessDenied, "{name} {operation:?}: {not}");
                let [there, not] = [&named[0], &named[1]].map(|of| {
                    let Named { key, alias, key_store, cluster, principal, group, policy, approval, .. } = of;
                    let words = [key, alias, key_store, cluster, principal, group, policy, approval];
                    words.into_iter().fold(
                        (if std::ptr::eq(of, &named[0]) { &refused } else { &not }).message.clone(),
                        |text, word| text.replace(word.as_str(), "…"),
                    )
                });
                assert_eq!(there, not, "{operation:?}");
            }
        }
    }
    assert_eq!(walked, 2 * Operation::ALL.len());
    assert_eq!(bench.store.revision(), revision, "nothing has changed");
}

#[tokio::test]
async fn an_administrator_is_refused_nothing() {
    // So that the walk above is refused because of who asks.
    let bench = bench().await;
    let named = named(&bench).await;
    let mut refused = BTreeSet::new();
    for operation in Operation::ALL {
        if let Err(error) = asked(&bench, &by(&bench, "admin"), &named[0], *operation).await {
            assert_ne!(error.exception, Exception::AccessDenied, "{operation:?}: {error}");
            refused.insert(operation.name());
        }
    }
    assert!(refused.len() < Operation::ALL.len() / 2, "{refused:?}");
}

#[tokio::test]
async fn whether_there_is_such_an_alias_is_told_to_who_may_use_keys() {
    let bench = bench().await;
    let [there, _] = named(&bench).await;
    let user = principal(&bench, HERE, "user").await;
    principal(&bench, HERE, "idle").await;
    attach_as_it_is(&bench, &user, "KeyUser", true).await;
    let (service, prefix) = (&bench.service, "arn:aws:kms:eu-central-1:111122223333:");
    for alias in ["alias/not", &format!("{prefix}alias/not")] {
        assert_eq!(exception(encrypt(&bench, "user", alias, None).await), Exception::NotFound);
        assert_eq!(
            exception(service.describe_key_with(&by(&bench, "user"), alias, GrantTokens::default()).await),
            Exception::NotFound
        );
        let shown = format!("{prefix}alias/not");
        for refused in [
            encrypt(&bench, "idle", alias, None).await.map(drop),
            service.describe_key_with(&by(&bench, "idle"), alias, GrantTokens::default()).await.map(drop),
            service
                .decrypt(&by(&bench, "idle"), vec![crate::DecryptInput { key_id: alias.into(), ..sealed(&there.blob) }])
                .await
                .unwrap()
                .remove(0)
                .map(drop),
        ] {
            let refused = refused.unwrap_err();
            assert!(refused.message.contains(&shown), "{refused}");
            // The same of an alias that there is: neither its being nor its key is told.
            assert_eq!(refused.exception, Exception::AccessDenied);
        }
    }
    let [one, other] =
        [encrypt(&bench, "idle", "alias/there", None).await, encrypt(&bench, "idle", "alias/not", None).await]
            .map(|refused| refused.unwrap_err().message);
    assert_eq!(one, other.replace("alias/not", "alias/there"));
    // The record names no key where there is none.
    bench.recorder.taken();
    drop(service.describe_key_with(&by(&bench, "idle"), "alias/not", GrantTokens::default()).await);
    assert!(bench.recorder.taken().iter().all(|record| record.resources.is_empty()));
}

#[tokio::test]
async fn lists_tell_of_a_key_what_may_be_known_of_it() {
    let bench = bench().await;
    let (one, other) = (created(&bench).await, created(&bench).await);
    let anna = principal(&bench, HERE, "anna").await;
    let looks = ["kms:DescribeKey", "kms:ListResourceTags"].map(|action| statement("Allow", action, &one.arn));
    let lists = ["kms:ListKeys", "kms:ListAliases"].map(|action| statement("Allow", action, "*"));
    attach(&bench, &anna, "looks", &[looks, lists].concat().join(",")).await;
    let list = async |filter: KeyFilter| {
        let input = ListKeysInput { detailed: true, filter, ..ListKeysInput::default() };
        let page = bench.service.list_keys(&by(&bench, "anna"), input).await.unwrap();
        page.items.into_iter().map(|entry| (entry.id, entry.details.is_some())).collect::<BTreeSet<_>>()
    };
    assert_eq!(list(KeyFilter::default()).await, BTreeSet::from([(one.id, true), (other.id, false)]));
    let states = vec![model::key::KeyState::Enabled];
    assert_eq!(list(KeyFilter { states, ..KeyFilter::default() }).await, BTreeSet::from([(one.id, true)]));
    let (anna, input) = (by(&bench, "anna"), ListKeysInput { detailed: true, ..ListKeysInput::default() });
    let page = bench.service.list_keys(&anna, input).await.unwrap();
    let used = page.items.into_iter().filter_map(|entry| entry.details?.last_used_at).count();
    assert_eq!(used, 0, "it may not ask GetKeyLastUsage");
}

#[tokio::test]
async fn a_resync_of_one_key_is_asked_about_that_key() {
    let bench = bench().await;
    let (key, none) = (created(&bench).await, KeyId::random());
    let anna = principal(&bench, HERE, "anna").await;
    let of_cluster = bench.service.core.scope().cluster_arn(bench.fake.id.as_str());
    attach(&bench, &anna, "cluster", &statement("Allow", "keystored:ResyncKeys", &of_cluster)).await;
    let resync = async |key_id: String| {
        let input = ResyncInput { cluster_id: bench.fake.id.to_string(), key_id, ..ResyncInput::default() };
        exception(bench.service.resync_keys(&by(&bench, "anna"), input).await)
    };
    // The bench's cluster is not in its configuration, which is all that is wrong with what is allowed.
    let allowed = Exception::CloudHsmClusterNotFound;
    assert_eq!(resync(String::new()).await, allowed);
    for id in [key.id, none] {
        assert_eq!(resync(id.to_string()).await, Exception::AccessDenied);
    }
    // Key policies have no say.
    attach(&bench, &anna, "key", &statement("Allow", "keystored:ResyncKeys", &key.arn)).await;
    assert_eq!([resync(key.id.to_string()).await, resync(none.to_string()).await], [allowed, Exception::AccessDenied]);
}
