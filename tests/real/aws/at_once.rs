//! What is taken away over one interface is taken away on the other: while signed calls are under way, a change is made,
//! and none that began after its answer is given a result. `access::at_once` has the same over gRPC.

use serde_json::{Value, json};

use crate::access::{delete_user, make_user};
use crate::harness::aws::{AccessKey, Ask, Endpoint, Scope, another_key, principal};
use crate::harness::clients::address_of;
use crate::harness::daemon::Site;
use crate::harness::history::Callers;
use crate::harness::wait;

/// Connections of callers who sign, each of which has one call at a time.
const SIGNED: usize = 64;
/// Connections of others who call over gRPC, and calls under way at once over each.
const OTHERS: (usize, usize) = (2, 16);
/// Results that are given before each change.
const RESULTS: usize = 2_000;

/// What AWS says of an access key that there is not, or not any more.
const UNKNOWN_KEY: &[&str] = &["UnrecognizedClientException"];

async fn done(aws: &Endpoint, signer: &AccessKey, operation: &str, body: Value) {
    let answer = aws.ask(&Ask::kms(operation, &body).sign(signer, &Scope::of("kms"))).await;
    assert_eq!(answer.status, 200, "{operation}: {}", answer.text());
}

#[tokio::test(flavor = "multi_thread")]
async fn no_result_is_given_to_a_signed_call_that_began_after_the_change() {
    let site = Site::prepare().await;
    site.kill_after(30_000);
    // Signed calls bring no deadline of their own, and a machine with much else to do answers them late.
    site.answer_within(60_000);
    let daemon = site.start().await;
    let (admin, aws) = (daemon.caller().await, Endpoint::of(&daemon));
    let boss = principal(&admin, "boss", "Administrator").await;
    let key = admin.create_key("used by signed calls").await;
    let random = json!({ "NumberOfBytes": 1 });

    for (change, verb) in [("DisableAccessKey", "disable"), ("DeleteAccessKey", "delete")] {
        let first = principal(&admin, verb, "KeyUser").await;
        let second = another_key(&admin, &first.principal).await;
        let callers = Callers::none().and_signed(&aws, &first, &key, SIGNED).await;
        let change_it = async { drop(daemon.keystorectl(&["access-key", verb, &first.principal, &first.id]).ok()) };
        callers.meet(change, RESULTS, UNKNOWN_KEY, change_it).await;
        // The principal is who it was.
        done(&aws, &second, "Encrypt", json!({ "KeyId": key, "Plaintext": "eA==" })).await;
    }

    let anna = principal(&admin, "anna", "KeyUser").await;
    let callers = Callers::none().and_signed(&aws, &anna, &key, SIGNED).await;
    callers.meet("DeletePrincipal", RESULTS, UNKNOWN_KEY, delete_user(&admin, "anna")).await;

    // Over AWS's interface, for callers of both.
    make_user(&admin, "bert", Some("KeyUser")).await;
    let mut bert = Vec::new();
    for _ in 0..OTHERS.0 {
        bert.push(address_of(&daemon, "bert").connect().await.unwrap().with_deadline(wait::LONG));
    }
    let signer = principal(&admin, "carla", "KeyUser").await;
    let disabled = admin.create_key("disabled").await;
    let callers = Callers::start(&bert, &disabled, OTHERS.1).await.and_signed(&aws, &signer, &disabled, SIGNED).await;
    let change = done(&aws, &boss, "DisableKey", json!({ "KeyId": disabled }));
    callers.meet("DisableKey over AWS", RESULTS, &["DisabledException"], change).await;

    let store = admin.key_stores().await.remove(0).key_store_id;
    let callers = Callers::start(&bert, &key, OTHERS.1).await.and_signed(&aws, &signer, &key, SIGNED).await;
    let change = done(&aws, &boss, "DisconnectCustomKeyStore", json!({ "CustomKeyStoreId": store }));
    callers.meet("DisconnectCustomKeyStore", RESULTS, &["KMSInvalidStateException"], change).await;
    // The listener itself is as it was.
    let refused = aws.ask(&Ask::kms("GenerateRandom", &random).sign(&signer, &Scope::of("kms"))).await;
    assert_eq!(refused.error(), (400, "CustomKeyStoreInvalidStateException".to_owned()));
}
