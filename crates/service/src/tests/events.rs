//! Records of calls as events of the log: whatever is asked for, by whom, and whatever comes of it.

use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::{Ready, ready};

use super::access::{HERE, arn, attach, attach_as_it_is, bench, by, created, principal, statement};
use super::bench::{Bench, Manner, context, exception, plain};
use super::event_reader::{Read, taken};
use super::walk::{SECRET, asked, named};
use crate::core::audit_recorder::{AuditRecorder, Journal};
use crate::core::recorder::{Phase, Recorder};
use crate::{
    CreateGrantInput, CreateKeyInput, DataKeyInput, EncryptInput, Extras, GrantTokens, Interface, RequestContext,
    RetireGrantInput,
};
use audit::event::{Fields, Value};
use audit::log::{Class, Leaves, NotAccepted, Position};
use model::exception::Exception;
use model::key::{DataKeySpec, KeyState};
use model::operation::{Effect, Operation};

/// The parameters that the records of an operation's calls in [`asked`] have. Empty: none at all.
fn parameters(operation: Operation) -> &'static [&'static str] {
    use Operation as O;
    match operation {
        O::Encrypt => &["keyId", "encryptionAlgorithm"],
        O::Decrypt => &["encryptionAlgorithm"],
        O::GenerateDataKey | O::GenerateDataKeyWithoutPlaintext => &["keyId", "numberOfBytes"],
        O::ReEncrypt => &["destinationKeyId", "sourceEncryptionAlgorithm", "destinationEncryptionAlgorithm"],
        O::GenerateRandom | O::ListKeys | O::ResealPins | O::WhoAmI | O::RetireGrant => &[],
        O::ListAliases => &["keyId"],
        O::CreateKey => {
            &["customKeyStoreId", "keyUsage", "keySpec", "origin", "multiRegion", "bypassPolicyLockoutSafetyCheck"]
        }
        O::UpdateKeyDescription => &["keyId", "description"],
        O::TagResource => &["keyId", "tags.0.tagKey", "tags.0.tagValue"],
        O::UntagResource => &["keyId", "tagKeys.0"],
        O::CreateAlias | O::UpdateAlias => &["aliasName", "targetKeyId"],
        O::DeleteAlias => &["aliasName"],
        O::ScheduleKeyDeletion => &["keyId", "pendingWindowInDays"],
        O::DestroyKeyMaterial => &["keyId", "confirmKeyArn"],
        O::EnableKeyRotation => &["keyId", "rotationPeriodInDays"],
        O::PutKeyPolicy => &["keyId", "policy", "bypassPolicyLockoutSafetyCheck"],
        O::CreateGrant => &["keyId", "granteePrincipal", "operations.0"],
        O::ListRetirableGrants => &["retiringPrincipal"],
        O::RevokeGrant => &["keyId", "grantId"],
        O::CreateKeyStore => &["customKeyStoreName", "clusterId"],
        O::UpdateKeyStore => &["customKeyStoreId", "newCustomKeyStoreName"],
        O::DescribeKeyStores | O::ConnectKeyStore | O::DisconnectKeyStore | O::DeleteKeyStore => &["customKeyStoreId"],
        O::DescribeClusters | O::GetStatistics => &["clusterId"],
        O::AddHsm => &["clusterId", "hsmId", "memberHsmId", "wrapOnly"],
        O::ResyncKeys => &["clusterId", "keyId"],
        O::DiagnoseHsm => &["clusterId", "hsmId"],
        O::CreatePrincipal | O::DeletePrincipal | O::DescribePrincipal | O::CreateAccessKey | O::ListAccessKeys => {
            &["principalArn"]
        }
        O::ListPrincipals | O::ListGroups | O::ListPolicies => &[],
        O::AddPrincipalIdentity | O::RemovePrincipalIdentity => &["principalArn", "identity"],
        O::TagPrincipal => &["principalArn", "tags.0.tagKey"],
        O::UntagPrincipal => &["principalArn", "tagKeys.0"],
        O::EnableAccessKey | O::DisableAccessKey | O::DeleteAccessKey => &["principalArn", "accessKeyId"],
        O::CreateGroup | O::DeleteGroup | O::ListGroupMembers => &["groupName"],
        O::AddGroupMember | O::RemoveGroupMember => &["groupName", "principalArn"],
        O::PutPolicy => &["policyName", "policyDocument"],
        O::DeletePolicy | O::GetPolicy => &["policyName"],
        O::AttachPolicy | O::DetachPolicy => &["policyName", "principalArn"],
        O::ExplainAccess => &["principal", "action"],
        O::CheckPolicy => &["policyDocument", "kind"],
        O::ListApprovals => &["all"],
        O::DescribeApproval | O::RefuseApproval => &["approvalId"],
        O::Approve => &["approvalId", "digest"],
        O::GetAuditKeys | O::GetAuditHead => &[],
        O::ListAuditRecords => &["operation"],
        O::FollowAuditRecords => &["from"],
        O::GetAuditProof => &["number"],
        O::GetAuditConsistency => &["since"],
        _ => &["keyId"],
    }
}

#[tokio::test]
async fn every_operation_leaves_its_record_whatever_comes_of_it() {
    let mut walked = 0;
    for name in ["idle", "admin"] {
        let bench = bench().await;
        principal(&bench, HERE, "idle").await;
        let [there, _] = named(&bench).await;
        for operation in Operation::ALL {
            bench.recorder.taken();
            let outcome = asked(&bench, &by(&bench, name), &there, *operation).await;
            let (records, what) = (taken(&bench), format!("{name} {operation:?}"));
            let spec = operation.spec();
            let (phase, record) = records.last().unwrap_or_else(|| panic!("{what} left no record"));
            assert_eq!(*phase, Phase::Ended, "{what}");
            // One event, and for changes that are carried out one before it.
            assert!(records.len() <= 2 && records.len() <= 1 + usize::from(spec.effect == Effect::Changes), "{what}");
            if spec.effect == Effect::Changes && outcome.is_ok() {
                let (intent, before) = &records[0];
                assert_eq!((*intent, before.get("eventName")), (Phase::Intent, Some(spec.event)), "{what}");
                assert_eq!(before.get("additionalEventData.phase"), Some("intent"), "{what}");
                assert_eq!(before.get("eventID"), record.get("additionalEventData.intentEventID"), "{what}");
                assert_eq!(before.get("responseElements"), Some("null"), "{what}");
            }
            let source = if spec.permission.starts_with("kms:") { "kms.amazonaws.com" } else { "keystored" };
            for (member, expected) in [
                ("eventName", spec.event),
                ("eventSource", source),
                ("eventType", "AwsApiCall"),
                ("readOnly", if spec.effect == Effect::Changes { "false" } else { "true" }),
                ("requestID", "r-1"),
                ("recipientAccountId", HERE),
                ("additionalEventData.interface", "grpc"),
            ] {
                assert_eq!(record.get(member), Some(expected), "{what}");
            }
            let failed = outcome.as_ref().err().map(|error| error.exception.name());
            assert_eq!(record.get("errorCode"), failed, "{what}");
            let expected = parameters(*operation);
            assert_eq!(record.get("requestParameters").is_some(), expected.is_empty(), "{what}: {}", record.text);
            for parameter in expected {
                assert!(
                    record.has(&format!("requestParameters.{parameter}")),
                    "{what}: {parameter} in {}",
                    record.text
                );
            }
            let identity = record.get("userIdentity.arn").or(record.get("userIdentity.principalId"));
            let caller = if name == "idle" { arn(HERE, "idle") } else { "cn:admin".to_owned() };
            assert_eq!(identity, Some(caller.as_str()), "{what}");
            for (_, record) in &records {
                assert!(!record.text.contains(SECRET), "{what}: {}", record.text);
                assert!(!record.text.contains(&STANDARD.encode(SECRET)), "{what}");
                assert!(!record.text.contains(&STANDARD.encode(&there.blob)), "{what}");
            }
            walked += 1;
        }
    }
    assert_eq!(walked, 2 * Operation::ALL.len());
}

#[tokio::test]
async fn a_batch_is_one_event_with_what_became_of_each_item() {
    let bench = Bench::new().await;
    let (one, other) = (bench.create().await, bench.create().await);
    bench.service.disable_key(&bench.call(), &other.arn).await.unwrap();
    bench.recorder.taken();
    let with = |key: &str, tenant: &str| EncryptInput { context: context(&[("tenant", tenant)]), ..plain(key, b"x") };
    let id = one.id.to_string();
    let items = (0..200).map(|_| with(&one.arn, "7")).chain([with(&other.arn, "7"), with(&id, "8"), with(&id, "8")]);
    bench.service.encrypt(&bench.call(), items.collect()).await.unwrap();
    let records = taken(&bench);
    let [(_, record)] = &records[..] else { panic!("a batch has one record") };
    assert!(record.text.len() < 3_000, "runs are one row: {}", record.text);
    let of = |path: &str| record.get(&format!("additionalEventData.items.{path}")).map(str::to_owned);
    assert_eq!(of("count").as_deref(), Some("203"));
    let columns: Vec<String> = (0..9).map_while(|at| of(&format!("columns.{at}"))).collect();
    let cell = |row: usize, name: &str| {
        let column = columns.iter().position(|known| known == name).unwrap();
        of(&format!("rows.{row}.{column}")).unwrap()
    };
    // Read back by the tables.
    let told = |row: usize| {
        let entry = |name: &str, table: &str, member: &str| of(&format!("{table}.{}{member}", cell(row, name)));
        (
            (cell(row, "first"), cell(row, "count")),
            entry("keyId", "keyIds", ""),
            entry("key", "keys", ".arn"),
            entry("encryptionContext", "encryptionContexts", ".tenant"),
            entry("servedBy", "servedBy", ".hsm"),
            entry("failure", "failures", ".errorCode"),
        )
    };
    let some = |text: &str| Some(text.to_owned());
    let place = |first: &str, count: &str| (first.to_owned(), count.to_owned());
    let (arn, hsm) = (some(&one.arn), some("hsm-0"));
    assert_eq!(told(0), (place("0", "200"), arn.clone(), arn.clone(), some("7"), hsm.clone(), None));
    assert_eq!(
        told(1),
        (place("200", "1"), some(&other.arn), None, some("7"), None, some("DisabledException")),
        "{}",
        record.text
    );
    assert_eq!(told(2), (place("201", "2"), some(&id), arn, some("8"), hsm, None));
    assert_eq!(of("rows.3.0"), None);
    // What all have in common alone stands with the parameters, and what some of them met is no error of all.
    assert!(!record.has("requestParameters.keyId") && record.get("errorCode").is_none());
    assert!(record.has("resources.1.ARN"));
}

#[tokio::test]
async fn what_one_item_asked_for_stands_as_cloudtrail_has_it() {
    let bench = Bench::new().await;
    let key = bench.create().await;
    bench.recorder.taken();
    let extras = Extras { dry_run: true, ..Extras::default() };
    let input = || DataKeyInput {
        key_id: key.arn.clone(),
        key_spec: Some(crate::RequestedSpec::Known(DataKeySpec::Aes256)),
        context: context(&[("tenant", "7")]),
        ..DataKeyInput::default()
    };
    bench.service.generate_data_keys(&bench.call(), vec![input()], false).await.unwrap().remove(0).unwrap();
    let dry = DataKeyInput { extras, ..input() };
    bench.service.generate_data_keys(&bench.call(), vec![dry], false).await.unwrap().remove(0).unwrap_err();
    let records = taken(&bench);
    let (done, dry) = (&records[0].1, &records[1].1);
    for record in [done, dry] {
        assert_eq!(record.get("requestParameters.keyId"), Some(key.arn.as_str()));
        assert_eq!(record.get("requestParameters.keySpec"), Some("AES_256"));
        assert_eq!(record.get("requestParameters.encryptionContext.tenant"), Some("7"));
        assert_eq!(record.get("responseElements"), Some("null"));
        assert_eq!(record.get("resources.0.ARN"), Some(key.arn.as_str()));
    }
    assert_eq!(
        (dry.get("requestParameters.dryRun"), dry.get("errorCode")),
        (Some("true"), Some("DryRunOperationException"))
    );
    assert_eq!((done.get("requestParameters.dryRun"), done.get("errorCode")), (None, None));
    for (member, expected) in [
        ("keyMaterialId", key.current_material_id.as_str()),
        ("keyVersion", "1"),
        ("customKeyStoreId", bench.key_store.as_str()),
        ("servedBy.hsm", "hsm-0"),
        ("servedBy.zone", "zone-a"),
        ("decidedBy", "allowed: an administrator of the configuration"),
    ] {
        assert_eq!(done.get(&format!("additionalEventData.{member}")), Some(expected), "{}", done.text);
    }
    assert_eq!(dry.get("additionalEventData.servedBy.hsm"), None);
    // Random bytes have no parameters there.
    bench.service.generate_random(&bench.call(), Some(16), "", Extras::default()).await.unwrap();
    let records = taken(&bench);
    let random = &records[0].1;
    assert_eq!((random.get("requestParameters"), random.get("resources")), (Some("null"), Some("[]")));
    assert_eq!(random.get("additionalEventData.servedBy.zone"), Some("zone-a"));
}

#[tokio::test]
async fn what_changes_answer_stands_as_cloudtrail_has_it() {
    let bench = bench().await;
    let (service, admin) = (&bench.service, by(&bench, "admin"));
    principal(&bench, HERE, "anna").await;
    let input = CreateKeyInput { description: "for \"tests\"".into(), ..CreateKeyInput::default() };
    bench.recorder.taken();
    let key = service.create_key(&admin, input).await.unwrap();
    let (key_id, grantee) = (key.arn.clone(), arn(HERE, "anna"));
    let constraint = Some((auth::grant::ConstraintKind::Equals, context(&[("a", "b")])));
    let grant =
        CreateGrantInput { key_id, grantee, constraint, operations: vec!["Decrypt".into()], ..Default::default() };
    let grant = service.create_grant(&admin, grant).await.unwrap();
    let retire = RetireGrantInput { token: grant.token.clone(), ..RetireGrantInput::default() };
    service.retire_grant(&by(&bench, "admin"), retire).await.unwrap();
    service.schedule_key_deletion(&admin, &key.arn, Some(7)).await.unwrap();
    let alias =
        crate::CreateAliasInput { alias_name: "alias/a".into(), target_key_id: key.arn.clone(), ..Default::default() };
    service.cancel_key_deletion(&admin, &key.arn).await.unwrap();
    service.create_alias(&admin, alias).await.unwrap();
    service.disconnect_key_store(&admin, bench.key_store.as_str()).await.unwrap();
    let records = taken(&bench);
    let ended: Vec<&Read> = records.iter().filter(|(phase, _)| *phase == Phase::Ended).map(|(_, read)| read).collect();
    let [made, granted, retired, scheduled, _, named, left] = &ended[..] else { panic!("{}", ended.len()) };
    assert_eq!(made.get("responseElements.keyMetadata.arn"), Some(key.arn.as_str()));
    assert_eq!(made.get("responseElements.keyMetadata.keyState"), Some("Enabled"));
    assert_eq!(made.get("resources.0.ARN"), Some(key.arn.as_str()));
    let backing = made.get("additionalEventData.backingKey").unwrap();
    assert!(backing.contains(&key.current_material_id) && backing.contains("keyHandle"), "{backing}");
    assert_eq!(granted.get("responseElements.grantId"), Some(grant.id.as_str()));
    assert_eq!(granted.get("requestParameters.constraints.encryptionContextEquals.a"), Some("b"));
    assert_eq!((retired.get("requestParameters"), retired.get("responseElements")), (Some("null"), Some("null")));
    assert_eq!(retired.get("additionalEventData.grantId"), Some(grant.id.as_str()));
    assert!(ended.iter().all(|record| !record.text.contains(&grant.token)), "a grant token is a secret");
    assert_eq!(scheduled.get("responseElements.keyId"), Some(key.arn.as_str()));
    assert_eq!(scheduled.get("responseElements.keyState"), Some("PendingDeletion"));
    assert_eq!(scheduled.get("responseElements.pendingWindowInDays"), Some("7"));
    assert!(scheduled.has("responseElements.deletionDate") && scheduled.has("additionalEventData.backingKeys"));
    let kinds = [named.get("resources.0.type"), named.get("resources.1.type")];
    assert_eq!(kinds, [Some("AWS::KMS::Alias"), Some("AWS::KMS::Key")]);
    assert_eq!((left.get("eventName"), left.get("resources")), (Some("DisconnectCustomKeyStore"), Some("[]")));
    assert_eq!(left.get("additionalEventData.customKeyStoreName"), Some("main"));
    assert_eq!(left.get("additionalEventData.clusterId"), Some(bench.fake.id.as_str()));
}

#[tokio::test]
async fn nothing_is_changed_before_it_is_on_record_that_it_will_be() {
    let bench = Bench::new().await;
    let key = bench.create().await;
    let state = || bench.store.catalogue().key(key.id).unwrap().state;
    bench.recorder.is(Manner::Fails);
    let refused = bench.service.disable_key(&bench.call(), &key.arn).await.unwrap_err();
    assert_eq!((refused.exception, refused.retryable, state()), (Exception::KmsInternal, true, KeyState::Enabled));
    // The intent is accepted before anything is done, and the outcome before anything is answered.
    bench.recorder.is(Manner::Slow);
    let call = bench.call();
    let disabled = bench.service.disable_key(&call, &key.arn);
    tokio::pin!(disabled);
    tokio::select! {
        biased;
        answered = &mut disabled => panic!("answered before the intent: {answered:?}"),
        () = bench.recorder.given(1) => {}
    }
    assert!(futures_util::poll!(&mut disabled).is_pending() && state() == KeyState::Enabled);
    bench.recorder.accepts.send_replace(1);
    tokio::select! {
        biased;
        answered = &mut disabled => panic!("answered before the outcome: {answered:?}"),
        () = bench.recorder.given(2) => {}
    }
    assert_eq!(state(), KeyState::Disabled);
    bench.recorder.accepts.send_replace(2);
    disabled.await.unwrap();
    // What is refused has no intent, and what is only tried neither.
    bench.recorder.is(Manner::Quick);
    bench.recorder.taken();
    let tried = bench.service.revoke_grant(&bench.call(), &key.arn, &"0".repeat(64), true).await;
    assert_eq!(exception(tried), Exception::NotFound);
    assert_eq!(bench.recorder.taken().iter().map(|record| record.phase).collect::<Vec<_>>(), [Phase::Ended]);
    bench.may_nothing();
    assert_eq!(exception(bench.service.enable_key(&bench.call(), &key.arn).await), Exception::AccessDenied);
    assert_eq!(bench.recorder.taken().iter().map(|record| record.phase).collect::<Vec<_>>(), [Phase::Ended]);
}

#[tokio::test]
async fn why_it_was_allowed_or_not_is_on_record_at_the_first_look_and_later() {
    let bench = bench().await;
    let key = created(&bench).await;
    let anna = principal(&bench, HERE, "anna").await;
    let statements = [statement("Allow", "kms:Encrypt", &key.arn), statement("Deny", "kms:Decrypt", "*")];
    attach(&bench, &anna, "only-this", &statements.join(",")).await;
    bench.recorder.taken();
    for _ in 0..2 {
        super::access::encrypt(&bench, "anna", &key.arn, None).await.unwrap();
    }
    let service = &bench.service;
    service.describe_key_with(&by(&bench, "anna"), &key.arn, GrantTokens::default()).await.unwrap_err();
    service.decrypt(&by(&bench, "anna"), vec![super::bench::sealed(&[0; 64])]).await.unwrap().remove(0).unwrap_err();
    let records = taken(&bench);
    let reasons: Vec<&str> =
        records.iter().map(|(_, record)| record.get("additionalEventData.decidedBy").unwrap_or_default()).collect();
    assert!(reasons[0].starts_with("allowed by ") && reasons[0].contains("only-this"), "{reasons:?}");
    assert_eq!(reasons[0], reasons[1]);
    assert!(reasons[2].starts_with("denied"), "{reasons:?}");
    attach_as_it_is(&bench, &anna, "KeyUser", true).await;
    super::access::encrypt(&bench, "anna", &key.arn, None).await.unwrap();
    assert_eq!(taken(&bench).len(), 1);
}

/// A journal in memory.
#[derive(Default)]
struct Memory(Mutex<Vec<(Class, u32)>>);

impl Journal for Memory {
    type Appending = Ready<Result<Position, NotAccepted>>;

    fn append(&self, leaves: Leaves, class: Class) -> Self::Appending {
        let mut all = self.0.lock().unwrap();
        let first = all.iter().map(|(_, count)| u64::from(*count)).sum();
        all.push((class, leaves.count()));
        ready(Ok(Position { first, count: leaves.count() }))
    }

    fn origin(&self) -> Option<Arc<str>> {
        Some("example.com/memory".into())
    }
}

#[tokio::test]
async fn records_go_to_the_log_by_what_depends_on_them_and_say_where_they_stand() {
    let bench = Bench::new().await;
    let key = bench.create().await;
    bench.recorder.taken();
    bench.encrypt(plain(&key.arn, b"x")).await.unwrap();
    bench.service.disable_key(&bench.call(), &key.arn).await.unwrap();
    bench.service.enable_key(&bench.call(), &key.arn).await.unwrap();
    bench.service.get_key_last_usage(&bench.call(), &key.arn).await.unwrap();
    // Whoever may not do it uses nothing up of what is kept for those who may.
    bench.may_nothing();
    bench.service.disable_key(&bench.call(), &key.arn).await.unwrap_err();
    let journal = Arc::new(Memory::default());
    let recorder = Arc::new(AuditRecorder::new(Arc::clone(&journal), bench.service.core.scope().clone()));
    let mut places = Vec::new();
    for mut record in bench.recorder.taken() {
        if record.operation == Some(Operation::GetKeyLastUsage) {
            // Longer than one leaf.
            record.additional = Fields::new().with("long", Value::from("x".repeat(150_000).as_str()));
        }
        places.push(Arc::clone(&recorder).record(record).await.unwrap().map(|at| (at.first, at.count)));
    }
    let classes: Vec<Class> = journal.0.lock().unwrap().iter().map(|(class, _)| *class).collect();
    use Class::{Control, Data, Restricting};
    assert_eq!(classes, [Data, Restricting, Restricting, Control, Control, Control, Control]);
    assert_eq!(places, [(0, 1), (1, 1), (2, 1), (3, 1), (4, 1), (5, 3), (8, 1)].map(Some));
}

/// What reads CloudTrail looks for it under the name and the source that AWS has for it.
#[tokio::test]
async fn over_aws_s_interface_who_am_i_is_what_sts_calls_it() {
    let bench = bench().await;
    principal(&bench, HERE, "anna").await;
    let grpc = by(&bench, "anna");
    let aws = RequestContext { interface: Interface::AwsJson, ..grpc.clone() };
    for (call, name, source) in [(&grpc, "WhoAmI", "keystored"), (&aws, "GetCallerIdentity", "sts.amazonaws.com")] {
        bench.recorder.taken();
        bench.service.who_am_i(call).await.unwrap();
        let records = taken(&bench);
        let [(_, record)] = &records[..] else { panic!("{} records", records.len()) };
        let says = ["eventName", "eventSource", "readOnly", "requestParameters"].map(|member| record.get(member));
        assert_eq!(says, [Some(name), Some(source), Some("true"), Some("null")], "{}", record.text);
    }
}
