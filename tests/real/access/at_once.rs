//! What is taken away is taken away at once: while thousands of calls are under way, a change is made, and no call that
//! began after its answer is given a result.

use proto::v1::{CreateGrantRequest, GetKeyPolicyRequest, PutKeyPolicyRequest, RevokeGrantRequest};

use super::{delete_user, make_user, user};
use crate::harness::clients::address_of;
use crate::harness::daemon::Site;
use crate::harness::history::Callers;
use crate::harness::{Caller, Daemon, wait};

const CONNECTIONS: usize = 4;
/// Calls under way at once over each connection.
const AT_ONCE: usize = 250;
/// Results that are given before each change.
const RESULTS: usize = 3_000;

const DENIED: &[&str] = &["AccessDeniedException"];

async fn connections(daemon: &Daemon, name: &str) -> Vec<Caller> {
    let (address, mut all) = (address_of(daemon, name), Vec::new());
    for _ in 0..CONNECTIONS {
        all.push(address.connect().await.unwrap().with_deadline(wait::LONG));
    }
    all
}

/// The policy that every key begins with, and a statement that denies a user everything.
async fn with_denial(admin: &Caller, key: &str, name: &str) -> String {
    let request = GetKeyPolicyRequest { key_id: key.to_owned(), ..Default::default() };
    let policy = admin.keys.clone().get_key_policy(admin.request(request)).await.unwrap().into_inner().policy;
    let mut policy: serde_json::Value = serde_json::from_str(&policy).unwrap();
    let denial = serde_json::json!({
        "Effect": "Deny", "Principal": { "AWS": user(name) }, "Action": "kms:*", "Resource": "*",
    });
    policy["Statement"].as_array_mut().unwrap().push(denial);
    policy.to_string()
}

async fn put_key_policy(admin: &Caller, key: &str, policy: String) {
    let request = PutKeyPolicyRequest { key_id: key.to_owned(), policy, ..Default::default() };
    admin.keys.clone().put_key_policy(admin.request(request)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_result_is_given_to_a_call_that_began_after_the_change() {
    let site = Site::prepare().await;
    // A thousand calls at once on these processors must not have workers taken for dead.
    site.kill_after(30_000);
    let daemon = site.start().await;
    let admin = daemon.caller().await;

    make_user(&admin, "anna", Some("KeyUser")).await;
    let anna = connections(&daemon, "anna").await;
    let key = admin.create_key("disabled").await;
    let callers = Callers::start(&anna, &key, AT_ONCE).await;
    let change = async || admin.switch_key(&key, false).await.unwrap();
    callers.meet("DisableKey", RESULTS, &["DisabledException"], change()).await;

    let key = admin.create_key("with another policy").await;
    let policy = with_denial(&admin, &key, "anna").await;
    let callers = Callers::start(&anna, &key, AT_ONCE).await;
    callers.meet("PutKeyPolicy", RESULTS, DENIED, put_key_policy(&admin, &key, policy)).await;

    let key = admin.create_key("of anna").await;
    let callers = Callers::start(&anna, &key, AT_ONCE).await;
    callers.meet("DeletePrincipal", RESULTS, DENIED, delete_user(&admin, "anna")).await;

    make_user(&admin, "bert", None).await;
    let bert = connections(&daemon, "bert").await;
    let request = CreateGrantRequest {
        key_id: key.clone(),
        grantee_principal: user("bert"),
        operations: ["Encrypt", "Decrypt", "GenerateDataKey"].map(str::to_owned).into(),
        ..Default::default()
    };
    let grant = admin.keys.clone().create_grant(admin.request(request)).await.unwrap().into_inner();
    let callers = Callers::start(&bert, &key, AT_ONCE).await;
    let change = async || {
        let request =
            RevokeGrantRequest { key_id: key.clone(), grant_id: grant.grant_id.clone(), ..Default::default() };
        admin.keys.clone().revoke_grant(admin.request(request)).await.unwrap();
    };
    callers.meet("RevokeGrant", RESULTS, DENIED, change()).await;

    make_user(&admin, "carla", Some("KeyUser")).await;
    let carla = connections(&daemon, "carla").await;
    let store = admin.key_stores().await.remove(0).key_store_id;
    let callers = Callers::start(&carla, &key, AT_ONCE).await;
    let change = async || admin.begin_disconnect(&store).await.unwrap();
    callers.meet("DisconnectKeyStore", RESULTS, &["KMSInvalidStateException"], change()).await;
}
