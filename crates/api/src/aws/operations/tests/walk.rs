//! Every operation of the model is handled, by name.

use serde_json::Value;

use super::Bench;
use super::facts::{conforms, least, operations, takes};
use crate::aws::model;

/// What any operation may be refused with, whatever the model says of it.
const COMMON: &[&str] = &["ValidationException", "AccessDeniedException", "ThrottlingException"];

fn request(operation: &str, bench: &Bench, key_id: &str) -> Value {
    let known = [
        ("KeyId", key_id),
        ("SourceKeyId", key_id),
        ("DestinationKeyId", key_id),
        ("TargetKeyId", key_id),
        ("AliasName", "alias/a"),
        ("CustomKeyStoreId", &bench.key_store),
        ("CloudHsmClusterId", "cluster-2222222222b"),
        ("TrustAnchorCertificate", "PEM"),
        ("KeyStorePassword", "kmsPswd1"),
        ("GranteePrincipal", super::bench::ANNA),
        ("RetiringPrincipal", super::bench::ANNA),
        ("GrantId", "00"),
        ("ReplicaRegion", "eu-west-1"),
        ("PrimaryRegion", "eu-west-1"),
        ("KeySpec", if operation == "CreateKey" { "SYMMETRIC_DEFAULT" } else { "AES_256" }),
    ];
    least(operation, &known)
}

#[tokio::test]
async fn all_operations_of_the_model_are_known() {
    assert_eq!(operations().len(), 56);
    let bench = Bench::new().await;
    let mut answered = 0;
    for operation in operations() {
        let asked = request(operation, &bench, &bench.keys[0]);
        match bench.ask_as("cn:anna", operation, &asked).await {
            Ok(answer) => {
                conforms(operation, &answer);
                answered += 1;
            }
            Err(failure) => {
                let known = model::operation(operation).unwrap().knows_exception(failure.name);
                assert!(known || COMMON.contains(&failure.name), "{operation}: {failure:?}");
                assert!([400, 500].contains(&failure.status), "{operation}: {failure:?}");
            }
        }
    }
    // Of the others, some need an HSM, some are refused always, and some come after what was in their way.
    assert!(answered > 15, "{answered}");
}

/// InvalidMarkerException where the model has it among the operation's own, and the common one for parameters elsewhere.
#[tokio::test]
async fn a_marker_that_no_list_gave_is_refused_by_the_name_that_the_model_has() {
    let bench = Bench::new().await;
    let mut refused = Vec::new();
    for operation in operations().into_iter().filter(|operation| takes(operation, "Marker")) {
        let known = model::operation(operation).unwrap().knows_exception("InvalidMarkerException");
        let mut asked = match operation {
            // A key store that is named, and a grant, are on no further page.
            "DescribeCustomKeyStores" => serde_json::json!({}),
            _ => request(operation, &bench, &bench.keys[0]),
        };
        for marker in ["nonsense", "k1", "q2ZGVmYXVsdA", "\u{e9}"] {
            asked["Marker"] = marker.into();
            let failure = bench.refused(operation, asked.clone()).await;
            let expected = if known { "InvalidMarkerException" } else { "ValidationException" };
            assert_eq!((failure.name, failure.status), (expected, 400), "{operation} {marker}: {failure:?}");
        }
        refused.push((operation, known));
    }
    let without: Vec<_> = refused.iter().filter(|(_, known)| !known).map(|(operation, _)| *operation).collect();
    assert_eq!((refused.len(), &without[..]), (8, &["ListKeyPolicies"][..]), "{refused:?}");
}

#[tokio::test]
async fn others_are_not() {
    let bench = Bench::new().await;
    for operation in ["", "encrypt", "Encrypt2", "DestroyKeyMaterial"] {
        let input = super::input("ListKeys", &serde_json::json!({}));
        let call = bench.call_of("cn:anna");
        let extras = crate::aws::operations::CallExtras::default();
        let failure =
            crate::aws::operations::answer(&bench.service, &call, operation, input, &extras).await.unwrap_err();
        assert_eq!((failure.name, failure.status), ("UnknownOperationException", 400), "{operation}");
        assert!(!call.trace.is_taken(), "the listener records it");
    }
}

/// Whoever may do nothing is told the same of a key that is there and of one that is not.
#[tokio::test]
async fn strangers_learn_nothing_of_keys() {
    let bench = Bench::new().await;
    let absent = "00000000-0000-4000-8000-000000000000";
    let mut asked_for = 0;
    for operation in operations() {
        let there = request(operation, &bench, &bench.keys[0]);
        let names_key = ["KeyId", "TargetKeyId", "DestinationKeyId"].iter().any(|name| there.get(name).is_some());
        // What Decrypt and ReEncrypt say of ciphertexts is the same for each that is none.
        if !names_key || matches!(operation, "Decrypt" | "ReEncrypt") {
            continue;
        }
        let not_there = request(operation, &bench, absent);
        let mut said = Vec::new();
        for (asked, key_id) in [(there, bench.keys[0].as_str()), (not_there, absent)] {
            let failure = bench.ask_as("cn:stranger", operation, &asked).await.unwrap_err();
            said.push((failure.name, failure.message.replace(key_id, "KEY")));
        }
        assert_eq!(said[0], said[1], "{operation}");
        assert!(["AccessDeniedException", "NotFoundException"].contains(&said[0].0), "{operation}: {said:?}");
        asked_for += 1;
    }
    assert!(asked_for > 30, "{asked_for}");
}
