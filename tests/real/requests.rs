//! What the configuration says of single requests, taken over by SIGHUP: how many a second there may be, and which calls
//! others have to approve.

use proto::v1::{BatchEncryptRequest, DisableKeyRequest, EncryptRequest};
use serde_json::{Value, json};
use tonic::Code;

use crate::harness::clients::environment_of;
use crate::harness::daemon::{Daemon, Site};
use crate::harness::{Caller, Failure, tool, wait};

fn reconfigured(daemon: &Daemon, section: &str, settings: toml::Table) {
    daemon.site().configure(|config| {
        config.insert(section.to_owned(), settings.into());
    });
    daemon.hang_up("the configuration was read again");
}

async fn batch(caller: &Caller, key: &str, items: usize) -> Result<usize, Failure> {
    let item = EncryptRequest { key_id: key.to_owned(), plaintext: b"x".to_vec(), ..Default::default() };
    let request = caller.request(BatchEncryptRequest { items: vec![item; items] });
    Ok(caller.crypto.clone().batch_encrypt(request).await?.into_inner().results.len())
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_and_approvals_are_taken_over_and_seen() {
    let daemon = Site::prepare().await.start().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("some requests").await;

    // More than there may be at once is refused however long ago the last request was.
    reconfigured(&daemon, "rate_limits", toml::toml! { requests_per_second_per_principal = 50 });
    let refused = batch(&caller, &key, 51).await.unwrap_err();
    assert_eq!((refused.code, refused.reason.as_str()), (Code::ResourceExhausted, "ThrottlingException"));
    assert!(refused.message.contains("at most 50 fit into one call"), "{refused:?}");
    let (_, metrics) = daemon.ops("/metrics").unwrap();
    assert!(metrics.contains("keystored_requests_throttled_total{limit=\"principal\"} 51"), "{metrics}");
    reconfigured(&daemon, "rate_limits", toml::Table::new());
    assert_eq!(batch(&caller, &key, 51).await.unwrap(), 51);

    reconfigured(&daemon, "approvals", toml::toml! { operations = ["DisableKey"] });
    let disable =
        async || caller.keys.clone().disable_key(caller.request(DisableKeyRequest { key_id: key.clone() })).await;
    let refused = Failure::from(disable().await.unwrap_err());
    assert_eq!((refused.code, refused.reason.as_str()), (Code::PermissionDenied, "AccessDeniedException"));
    assert!(refused.message.contains("approv"), "{refused:?}");
    assert_eq!(batch(&caller, &key, 1).await.unwrap(), 1, "it was not disabled");
    daemon.keystorectl(&["approval", "list"]).ok();
    let none = daemon.keystorectl(&["approval", "show", "apr-1"]);
    assert_eq!(none.code, Some(1));
    assert!(none.err.contains("there is no approval apr-1"), "{}", none.err);
    let unseen = daemon.keystorectl(&["approval", "approve", "apr-1"]);
    assert_eq!(unseen.code, Some(2), "{}", unseen.err);

    // What cannot need approval changes nothing.
    daemon.site().configure(|config| {
        config.insert("approvals".to_owned(), toml::toml! { operations = ["Encrypt"] }.into());
    });
    daemon.hang_up("only calls that change something can need the approval of others");
    assert!(disable().await.is_err());
    reconfigured(&daemon, "approvals", toml::Table::new());
    disable().await.unwrap();
    daemon.terminate();
}

/// Items that HSMs were asked for so far.
fn asked_for(daemon: &Daemon) -> u64 {
    let (_, metrics) = daemon.ops("/metrics").unwrap();
    let counts = metrics.lines().filter_map(|line| line.strip_prefix("keystored_hsm_items_total{")?.split_once("} "));
    counts.map(|(_, count)| count.parse::<u64>().unwrap()).sum()
}

/// Every item of a batch is opened once more, or none, as the file says now.
#[tokio::test(flavor = "multi_thread")]
async fn how_results_are_verified_is_taken_over_without_a_connect() {
    let daemon = Site::prepare().await.start().await;
    let caller = daemon.caller().await;
    let key = caller.create_key("looked at").await;
    for (verify, wanted) in [("all", 200..u64::MAX), ("none", 100..150), ("all", 200..u64::MAX)] {
        daemon.site().configure(|config| {
            config["cluster"][0].as_table_mut().unwrap().insert("verify_wraps".to_owned(), verify.into());
        });
        daemon.hang_up("the configuration was read again");
        wait::until_async(&format!("HSMs are asked as with verify_wraps = {verify:?}"), wait::LONG, async || {
            let before = asked_for(&daemon);
            assert_eq!(batch(&caller, &key, 100).await.unwrap(), 100);
            wanted.contains(&(asked_for(&daemon) - before)).then_some(())
        })
        .await;
    }
}

/// Two others see a call that waits and approve it; then it is carried out once, and the same again asks anew.
#[tokio::test(flavor = "multi_thread")]
async fn two_others_approve_a_call_that_is_carried_out_once() {
    let daemon = Site::prepare().await.start().await;
    let folder = tempfile::tempdir().unwrap();
    let caller = daemon.caller().await;
    let key = caller.create_key("kept by three").await;
    reconfigured(&daemon, "approvals", toml::toml! { operations = ["DisableKey"] });
    let told = |name: &str, arguments: &[&str]| -> Value {
        let environment = environment_of(&daemon, folder.path(), name);
        serde_json::from_str(&tool::keystorectl(environment, &[arguments, &["--json"]].concat()).ok()).unwrap()
    };
    let disable = || daemon.keystorectl(&["key", "disable", &key]);
    let refused = disable();
    assert!(refused.code == Some(1) && refused.err.contains("has 0 of 2"), "{refused:?}");
    let waiting = told("tester", &["approval", "list"])["approvals"].as_array().unwrap().clone();
    let [approval] = &waiting[..] else { panic!("one call waits: {waiting:?}") };
    let [id, digest] = ["approval_id", "digest"].map(|field| approval[field].as_str().unwrap());
    assert!(
        refused.err.contains(&format!("hint: others look at it with `keystorectl approval show {id}`")),
        "{refused:?}"
    );
    let refused = daemon.keystorectl(&["key", "disable", &key, "--json"]);
    let error: Value = serde_json::from_str(&refused.err).unwrap();
    assert_eq!(error["error"]["approval_id"], json!(id));
    let could = told("tester", &["approval", "show", id])["could_approve"].as_u64();
    assert!(could >= Some(2), "{could:?}");
    assert_eq!((&approval["requester"], &approval["operation"]), (&json!("cn:dev-client"), &json!("DisableKey")));
    let own = daemon.keystorectl(&["approval", "approve", id, "--digest", digest]);
    assert!(own.code == Some(1) && own.err.contains("asked for by the same principal"), "{own:?}");
    for (name, state) in [("tester", "waiting"), ("guest", "approved")] {
        let shown = told(name, &["approval", "approve", id, "--digest", digest]);
        assert_eq!(shown["state"], json!(state), "{name}: {shown}");
        assert_eq!(batch(&caller, &key, 1).await.unwrap(), 1, "nothing is done before the call is made again");
    }
    // Another call is not the one that was approved.
    let other = caller.create_key("another").await;
    let refused = daemon.keystorectl(&["key", "disable", &other]);
    assert!(refused.code == Some(1) && !refused.err.contains(id), "{refused:?}");
    disable().ok();
    assert_eq!(told("tester", &["approval", "show", id])["state"], json!("used"));
    // Whoever has not got the answer asks once more: that changes nothing, and needs nobody.
    disable().ok();
    daemon.keystorectl(&["key", "enable", &key]).ok();
    let again = disable();
    assert!(again.code == Some(1) && !again.err.contains(id), "{again:?}");
    daemon.terminate();
}

/// An answer that is lost costs no second approval of a key, by its client token. Each making of a key store needs one: by
/// others' PINs nobody is to find out which is right.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_approved_and_made_is_given_again() {
    let daemon = Site::prepare().await.launch();
    daemon.wait_until_ready();
    let folder = tempfile::tempdir().unwrap();
    let caller = daemon.caller().await;
    let approvals = toml::toml! { operations = ["CreateKeyStore", "CreateKey"] required = 1 };
    reconfigured(&daemon, "approvals", approvals);
    let tester = |arguments: &[&str]| -> Value {
        let environment = environment_of(&daemon, folder.path(), "tester");
        serde_json::from_str(&tool::keystorectl(environment, &[arguments, &["--json"]].concat()).ok()).unwrap()
    };
    let waiting = || tester(&["approval", "list"])["approvals"].as_array().unwrap().clone();
    let approve = || {
        let all = waiting();
        let [approval] = &all[..] else { panic!("one call waits: {all:?}") };
        let [id, digest] = ["approval_id", "digest"].map(|field| approval[field].as_str().unwrap().to_owned());
        tester(&["approval", "approve", &id, "--digest", &digest]);
    };
    let refused = caller.create_key_store("main", daemon.site()).await.unwrap_err();
    assert_eq!(refused.reason, "AccessDeniedException", "{refused:?}");
    approve();
    let store = caller.create_key_store("main", daemon.site()).await.unwrap();
    let again = caller.create_key_store("main", daemon.site()).await.unwrap_err();
    assert_eq!(again.reason, "AccessDeniedException", "{again:?}");
    let (cluster, anchor) = (daemon.site().cluster(), daemon.site().trust_anchor());
    let other = caller.create_key_store_with("main", cluster, &anchor, "another-pin").await.unwrap_err();
    assert_eq!(other.reason, "AccessDeniedException", "{other:?}");
    for approval in waiting() {
        tester(&["approval", "refuse", approval["approval_id"].as_str().unwrap()]);
    }
    caller.connect(&store).await.unwrap();
    daemon.wait_until_healthy_for(&caller).await;

    let refused = caller.try_create_key("lost", "token").await.unwrap_err();
    assert_eq!(refused.reason, "AccessDeniedException", "{refused:?}");
    approve();
    let key = caller.try_create_key("lost", "token").await.unwrap().key_id;
    assert_eq!(caller.try_create_key("lost", "token").await.unwrap().key_id, key);
    assert!(waiting().is_empty(), "{:?}", waiting());
    assert!(caller.try_create_key("lost", "another").await.is_err());
    daemon.terminate();
}
