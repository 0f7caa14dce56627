//! keystorectl: principals, groups, policies, grants, and why somebody may do something.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::access::user;
use crate::harness::clients::environment_of;
use crate::harness::tool::{self, Ran};
use crate::harness::{Daemon, shared};

const ANNA: &str = "arn:aws:iam::000000000000:user/ctl-anna";

fn told(daemon: &Daemon, arguments: &[&str]) -> Value {
    let arguments = [arguments, &["--json"]].concat();
    serde_json::from_str(&daemon.keystorectl(&arguments).ok()).unwrap()
}

fn said(daemon: &Daemon, arguments: &[&str]) -> String {
    daemon.keystorectl(arguments).ok()
}

/// A file with this content; its path.
fn file(folder: &Path, name: &str, content: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, content).unwrap();
    path.to_str().unwrap().to_owned()
}

fn refused(ran: &Ran, words: &[&str]) {
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(words.iter().all(|word| ran.err.contains(word)), "{words:?}: {ran:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn principals_and_groups_are_managed() {
    let daemon = shared().await;
    let folder = tempfile::tempdir().unwrap();
    let nobody = environment_of(&daemon, folder.path(), "ctl-anna");
    let me = tool::keystorectl(nobody.clone(), &["whoami"]).ok();
    assert!(me.contains("cn:ctl-anna") && me.contains("No principal"), "{me}");
    refused(&tool::keystorectl(nobody.clone(), &["key", "list"]), &["is mapped to no principal", "whoami"]);
    let mine = told(&daemon, &["whoami"]);
    assert_eq!((&mine["identity"], &mine["administrator"]), (&json!("cn:dev-client"), &json!(true)));

    let made = told(&daemon, &["principal", "create", ANNA, "--identity", "cn:ctl-anna", "--tag", "team=payroll"]);
    assert_eq!((&made["arn"], &made["identities"]), (&json!(ANNA), &json!(["cn:ctl-anna"])));
    refused(&daemon.keystorectl(&["principal", "create", ANNA]), &["AlreadyExistsException", "principal list"]);
    assert_eq!(daemon.keystorectl(&["principal", "create", ANNA, "--identity", "anna"]).code, Some(2));
    said(&daemon, &["principal", "add-identity", ANNA, "dns:anna.example"]);
    said(&daemon, &["principal", "remove-identity", ANNA, "dns:anna.example"]);
    said(&daemon, &["principal", "tag", ANNA, "stage=test"]);
    said(&daemon, &["principal", "untag", ANNA, "team"]);
    let shown = told(&daemon, &["principal", "describe", ANNA]);
    assert_eq!((&shown["tags"], &shown["identities"]), (&json!({ "stage": "test" }), &json!(["cn:ctl-anna"])));

    said(&daemon, &["group", "create", "ctl-users"]);
    said(&daemon, &["group", "add-member", "ctl-users", ANNA]);
    said(&daemon, &["policy", "attach", "KeyUser", "--group", "ctl-users"]);
    assert_eq!(told(&daemon, &["group", "members", "ctl-users"])["principals"], json!([ANNA]));
    let groups = told(&daemon, &["group", "list"])["groups"].as_array().unwrap().clone();
    let users = groups.iter().find(|group| group["name"] == "ctl-users").unwrap();
    assert_eq!(users["policies"], json!(["KeyUser"]));
    let anna: Value = serde_json::from_str(&tool::keystorectl(nobody.clone(), &["whoami", "--json"]).ok()).unwrap();
    assert_eq!(anna["principal"]["groups"], json!(["ctl-users"]));
    tool::keystorectl(nobody.clone(), &["key", "list"]).ok();
    let text = said(&daemon, &["principal", "list"]);
    assert!(text.lines().any(|line| line.contains(ANNA) && line.contains("ctl-users")), "{text}");
    said(&daemon, &["group", "remove-member", "ctl-users", ANNA]);
    refused(&tool::keystorectl(nobody, &["key", "list"]), &["because nothing allows it", "access explain"]);
    said(&daemon, &["group", "delete", "ctl-users"]);
    refused(&daemon.keystorectl(&["group", "members", "ctl-users"]), &["NotFoundException", "group list"]);
    assert_eq!(daemon.keystorectl(&["principal", "delete", ANNA]).code, Some(2), "nobody can be asked");
    said(&daemon, &["principal", "delete", ANNA, "--yes"]);
    refused(&daemon.keystorectl(&["principal", "describe", ANNA]), &["NotFoundException", "principal list"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_are_checked_put_and_explained() {
    let daemon = shared().await;
    let folder = tempfile::tempdir().unwrap();
    let app = user("ctl-app");
    told(&daemon, &["principal", "create", &app, "--identity", "cn:ctl-app"]);
    let environment = environment_of(&daemon, folder.path(), "ctl-app");
    let document = r#"{
	"Version": "2012-10-17",
	"Statement": [{ "Sid": "Open", "Effect": "Allow", "Action": "kms:Decrypt", "Resource": "*",
		"Condition": { "StringEquals": { "kms:EncryptionContext:tenant": "7" } } }]
}
"#;
    let good = file(folder.path(), "good.json", document);
    let wrong = file(folder.path(), "wrong.json", &document.replace("StringEquals", "StringEqual"));
    assert!(said(&daemon, &["access", "check", &good]).contains("Nothing is wrong"));
    let found = daemon.keystorectl(&["access", "check", &wrong]);
    assert!(found.code == Some(1) && found.out.contains("error") && found.out.contains("StringEqual"), "{found:?}");
    let found = daemon.keystorectl(&["access", "check", &wrong, "--json"]);
    let findings: Value = serde_json::from_str(&found.out).unwrap();
    assert_eq!((&findings["findings"][0]["error"], &findings["findings"][0]["line"]), (&json!(true), &json!(4)));
    refused(
        &daemon.keystorectl(&["policy", "put", "ctl-tenant", &wrong]),
        &["MalformedPolicyDocumentException", "access check"],
    );
    let put = told(&daemon, &["policy", "put", "ctl-tenant", &good, "--description", "tenant 7"]);
    assert_eq!(put, json!({ "policy": "ctl-tenant", "warnings": [] }));
    let shown = said(&daemon, &["policy", "get", "ctl-tenant"]);
    let parsed = |text: &str| serde_json::from_str::<Value>(text).unwrap();
    assert_eq!(parsed(&shown), parsed(document), "what is shown can be put again");
    assert!(said(&daemon, &["policy", "list"]).contains("tenant 7"));
    said(&daemon, &["policy", "put", "ctl-tenant", &good]);
    assert!(said(&daemon, &["policy", "list"]).contains("tenant 7"), "it keeps its description");
    said(&daemon, &["policy", "attach", "ctl-tenant", "--principal", &app]);

    let key = told(&daemon, &["key", "create"])["key_id"].as_str().unwrap().to_owned();
    let explain =
        |context: &str| told(&daemon, &["access", "explain", &app, "kms:Decrypt", "--key", &key, "--context", context]);
    assert_eq!(explain("tenant=7")["allowed"], true);
    assert!(explain("tenant=7")["reason"].as_str().unwrap().contains("ctl-tenant"));
    assert_eq!(explain("tenant=8")["allowed"], false);
    let text = said(&daemon, &["access", "explain", &app, "kms:Encrypt", "--key", &key, "--context", "tenant=7"]);
    assert!(text.contains("denied") && text.contains("Otherwise, if"), "{text}");
    assert!(text.contains("identity policy ctl-tenant, statement 0 (Open)"), "{text}");
    let nearest = &explain("tenant=8")["nearest"];
    assert_eq!((&nearest[0]["policy"], &nearest[0]["element"]), (&json!("ctl-tenant"), &json!("Condition")));
    assert!(nearest[0]["why"].as_str().unwrap().contains("the request has \"8\""), "{nearest}");

    let plaintext = file(folder.path(), "plaintext", "hello");
    let sealed = |context| {
        let ciphertext = said(&daemon, &["encrypt", &key, "--plaintext-file", &plaintext, "--context", context]);
        file(folder.path(), context, &ciphertext)
    };
    for (tenant, code) in [("tenant=7", 0), ("tenant=8", 1)] {
        let arguments = ["decrypt", "--ciphertext-file", &sealed(tenant), "--context", tenant, "--raw"];
        let ran = tool::keystorectl(environment.clone(), &arguments);
        assert_eq!(ran.code, Some(code), "{tenant}: {ran:?}");
    }

    // A key's own policy: put, read, and refused where nobody but administrators could change it again.
    let own = said(&daemon, &["key", "policy", "get", &key]);
    let denial = json!({ "Effect": "Deny", "Principal": { "AWS": app }, "Action": "kms:Decrypt", "Resource": "*" });
    let mut policy = parsed(&own);
    policy["Statement"].as_array_mut().unwrap().push(denial);
    let policy_file = file(folder.path(), "key.json", &policy.to_string());
    said(&daemon, &["key", "policy", "put", &key, &policy_file]);
    assert_eq!(parsed(&said(&daemon, &["key", "policy", "get", &key])), policy);
    assert_eq!(explain("tenant=7")["allowed"], false);
    said(&daemon, &["key", "policy", "reset", &key]);
    assert_eq!(said(&daemon, &["key", "policy", "get", &key]), own, "the default one is back");
    said(&daemon, &["key", "policy", "put", &key, &policy_file]);
    let other = told(&daemon, &["key", "create"])["arn"].as_str().unwrap().to_owned();
    let of_other = file(folder.path(), "other.json", &own.replace("\"*\"", &format!("\"{other}\"")));
    assert!(said(&daemon, &["access", "check", &of_other, "--key", &key]).contains("cannot be this key"));
    assert!(!said(&daemon, &["access", "check", &of_other, "--key", &other]).contains("cannot be this key"));
    let empty =
        daemon.keystorectl(&["grant", "create", &key, "--grantee", &app, "--operation", "Decrypt", "--retiring", ""]);
    assert!(empty.code == Some(2), "nobody is not the same as not to say it: {empty:?}");
    let with = told(&daemon, &["key", "create", "--policy", &policy_file, "--bypass-lockout-check"]);
    let shown = told(&daemon, &["key", "policy", "get", with["key_id"].as_str().unwrap()]);
    assert_eq!(parsed(shown["policy"].as_str().unwrap()), policy);
    said(&daemon, &["policy", "detach", "ctl-tenant", "--principal", &app]);
    said(&daemon, &["policy", "delete", "ctl-tenant"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn grants_are_made_listed_and_ended() {
    let daemon = shared().await;
    let folder = tempfile::tempdir().unwrap();
    let (app, owner) = (user("ctl-grantee"), user("ctl-retiring"));
    told(&daemon, &["principal", "create", &app, "--identity", "cn:ctl-grantee"]);
    told(&daemon, &["principal", "create", &owner, "--identity", "cn:ctl-retiring"]);
    let [grantee, retiring] = ["ctl-grantee", "ctl-retiring"].map(|name| environment_of(&daemon, folder.path(), name));
    let key = told(&daemon, &["key", "create"])["arn"].as_str().unwrap().to_owned();
    let create = |name: &str| {
        let arguments = [
            "grant",
            "create",
            &key,
            "--grantee",
            &app,
            "--retiring",
            &owner,
            "--operation",
            "Encrypt",
            "--operation",
            "DescribeKey",
            "--context-subset",
            "tenant=7",
            "--name",
            name,
        ];
        told(&daemon, &arguments)
    };
    let plaintext = file(folder.path(), "plaintext", "hello");
    let encrypt = || {
        let arguments = ["encrypt", &key, "--plaintext-file", &plaintext, "--context", "tenant=7"];
        tool::keystorectl(grantee.clone(), &arguments).code
    };
    assert_eq!(encrypt(), Some(1));
    let made = create("first");
    let (id, token) = (made["grant_id"].as_str().unwrap(), made["grant_token"].as_str().unwrap());
    assert!(!token.is_empty());
    assert_eq!(encrypt(), Some(0));
    assert_eq!(create("first")["grant_id"], made["grant_id"], "the same name, the same grant");
    let listed = told(&daemon, &["grant", "list", &key, "--grantee", &app]);
    let grants = listed["grants"].as_array().unwrap();
    assert_eq!((grants.len(), &grants[0]["encryption_context_subset"]), (1, &json!({ "tenant": "7" })));
    let text = said(&daemon, &["grant", "list", &key, "--grant-id", id]);
    assert!(text.contains("with tenant=7") && !text.contains(token), "{text}");
    let retirable = told(&daemon, &["grant", "list-retirable", &owner]);
    assert_eq!(retirable["grants"].as_array().unwrap().len(), 1);

    // By its token, out of a file and out of the environment; and by its key and id.
    assert_eq!(daemon.keystorectl(&["grant", "retire"]).code, Some(2));
    let token_file = file(folder.path(), "token", &format!("{token}\n"));
    tool::keystorectl(retiring.clone(), &["grant", "retire", "--token-file", &token_file]).ok();
    assert_eq!(encrypt(), Some(1));
    let mut with_token = retiring.clone();
    with_token.insert("KEYSTORED_GRANT_TOKEN".to_owned(), create("second")["grant_token"].as_str().unwrap().to_owned());
    tool::keystorectl(with_token, &["grant", "retire"]).ok();
    assert_eq!(encrypt(), Some(1));
    let third = create("third")["grant_id"].as_str().unwrap().to_owned();
    tool::keystorectl(retiring, &["grant", "retire", &key, &third]).ok();
    let fourth = create("fourth")["grant_id"].as_str().unwrap().to_owned();
    assert_eq!(encrypt(), Some(0));
    assert_eq!(told(&daemon, &["grant", "revoke", &key, &fourth]), json!({ "grant_id": fourth }));
    assert_eq!(encrypt(), Some(1));
    refused(&daemon.keystorectl(&["grant", "revoke", &key, &fourth]), &["NotFoundException", "grant list"]);
    assert!(!daemon.log().contains(token), "tokens are not logged");
}

#[tokio::test(flavor = "multi_thread")]
async fn access_keys_are_made_listed_and_taken_away() {
    let daemon = shared().await;
    let folder = tempfile::tempdir().unwrap();
    let app = user("ctl-signs");
    told(&daemon, &["principal", "create", &app, "--identity", "cn:ctl-signs"]);
    assert!(said(&daemon, &["access-key", "list", &app]).contains("no access keys"));
    let ran = daemon.keystorectl(&["access-key", "create", &app, "--env"]);
    assert!(ran.err.contains("is not shown again"), "{ran:?}");
    let lines = ran.ok();
    let (id, secret) = lines.trim().split_once('\n').unwrap();
    let id = id.strip_prefix("AWS_ACCESS_KEY_ID=").unwrap();
    let secret = secret.strip_prefix("AWS_SECRET_ACCESS_KEY=").unwrap();
    assert!(id.starts_with("AKKS") && (id.len(), secret.len()) == (20, 40), "{lines}");
    let made = told(&daemon, &["access-key", "create", &app]);
    assert_eq!((&made["principal"], made["secret_access_key"].as_str().unwrap().len()), (&json!(app), 40));
    refused(&daemon.keystorectl(&["access-key", "create", &app]), &["LimitExceededException", "at most two"]);

    let status = |id: &str| {
        let listed = told(&daemon, &["access-key", "list", &app])["access_keys"].as_array().unwrap().clone();
        listed.into_iter().find(|key| key["access_key_id"] == id).map(|key| key["status"].as_str().unwrap().to_owned())
    };
    assert_eq!(status(id).as_deref(), Some("Active"));
    said(&daemon, &["access-key", "disable", &app, id]);
    assert_eq!(status(id).as_deref(), Some("Inactive"));
    let text = said(&daemon, &["access-key", "list", &app]);
    assert!(text.contains("Inactive") && text.contains("never") && !text.contains(secret), "{text}");
    assert_eq!(told(&daemon, &["access-key", "enable", &app, id]), json!({ "access_key_id": id }));
    assert_eq!(status(id).as_deref(), Some("Active"));
    // Its own principal may do none of that unless it is let.
    let environment = environment_of(&daemon, folder.path(), "ctl-signs");
    refused(&tool::keystorectl(environment, &["access-key", "list", &app]), &["AccessDeniedException"]);
    said(&daemon, &["access-key", "delete", &app, id]);
    assert_eq!(status(id), None);
    refused(&daemon.keystorectl(&["access-key", "disable", &app, id]), &["NotFoundException", "access-key list"]);
    let left = told(&daemon, &["access-key", "list", &app])["access_keys"].as_array().unwrap().len();
    assert_eq!(left, 1);
    said(&daemon, &["principal", "delete", &app, "--yes"]);
    refused(&daemon.keystorectl(&["access-key", "list", &app]), &["NotFoundException", "principal list"]);
    assert!(!daemon.log().contains(secret) && daemon.log().contains(id), "the log tells of the key, not of its secret");
}
