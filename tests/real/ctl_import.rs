//! keystorectl import-settings: the files as docs/import-settings.md has them made, the plan, and what comes of it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::access::user;
use crate::harness::clients::environment_of;
use crate::harness::tool::{self, Ran};
use crate::harness::{Daemon, shared};

const OLD: &str = "111122223333";
const FIRST: &str = "1a4f2c9e-0000-4000-8000-000000000001";
const SECOND: &str = "2b4f2c9e-0000-4000-8000-000000000002";
const RSA: &str = "3c4f2c9e-0000-4000-8000-000000000003";
const OF_S3: &str = "4d4f2c9e-0000-4000-8000-000000000004";

fn old_arn(id: &str) -> String {
    format!("arn:aws:kms:us-east-1:{OLD}:key/{id}")
}

/// Stands for the AWS CLI: prints what lies in a folder, one file for each call.
const AWS: &str = r#"#!/bin/bash
[ "$1" = kms ] || exit 252
case " $* " in *" --query "*) exec cat "$CLOUD/ids";; esac
operation=$2; key=
while [ $# -gt 0 ]; do [ "$1" = --key-id ] && key=$2; shift; done
exec cat "$CLOUD/$operation${key:+.$key}"
"#;

/// An account: a key in use, a disabled one, one that is asymmetric and one of AWS.
fn cloud(folder: &Path) {
    let put = |name: &str, content: &Value| fs::write(folder.join(name), format!("{content:#}\n")).unwrap();
    let alias = |name: &str, id: &str| {
        json!({
            "AliasName": name, "AliasArn": format!("arn:aws:kms:us-east-1:{OLD}:{name}"), "TargetKeyId": id,
            "CreationDate": "2023-05-04T10:00:00.123000+00:00", "LastUpdatedDate": "2023-05-04T10:00:00.123000+00:00",
        })
    };
    let aliases =
        [alias("alias/aws/s3", OF_S3), alias("alias/import/payroll", FIRST), alias("alias/import/old", SECOND)];
    put("list-aliases", &json!({ "Aliases": aliases }));
    let ids = [FIRST, SECOND, RSA, OF_S3];
    put("list-keys", &json!({ "Keys": ids.map(|id| json!({ "KeyId": id, "KeyArn": old_arn(id) })) }));
    fs::write(folder.join("ids"), ids.join("\t")).unwrap();
    let key = |id: &str, spec: &str, state: &str, manager: &str| {
        let metadata = json!({
            "AWSAccountId": OLD, "KeyId": id, "Arn": old_arn(id), "CreationDate": "2023-05-04T10:00:00.123000+00:00",
            "Enabled": state == "Enabled", "Description": format!("imported {state}"), "KeyState": state,
            "KeyUsage": "ENCRYPT_DECRYPT", "Origin": "AWS_KMS", "KeyManager": manager, "MultiRegion": false,
            "CustomerMasterKeySpec": spec, "KeySpec": spec, "EncryptionAlgorithms": [spec],
        });
        put(&format!("describe-key.{id}"), &json!({ "KeyMetadata": metadata }));
    };
    key(FIRST, "SYMMETRIC_DEFAULT", "Enabled", "CUSTOMER");
    key(SECOND, "SYMMETRIC_DEFAULT", "Disabled", "CUSTOMER");
    key(RSA, "RSA_2048", "Enabled", "CUSTOMER");
    key(OF_S3, "SYMMETRIC_DEFAULT", "Enabled", "AWS");
    let root = json!({
        "Sid": "Enable IAM User Permissions", "Effect": "Allow", "Action": "kms:*", "Resource": "*",
        "Principal": { "AWS": format!("arn:aws:iam::{OLD}:root") },
    });
    let uses = json!({
        "Sid": "Payroll", "Effect": "Allow", "Action": ["kms:Encrypt", "kms:Decrypt"], "Resource": old_arn(FIRST),
        "Principal": { "AWS": format!("arn:aws:iam::{OLD}:role/payroll") },
        "Condition": { "StringEquals": { "kms:EncryptionContext:account": OLD, "kms:CallerAccount": OLD } },
    });
    // Whoever imports this could not change it again.
    let locks_out = json!({
        "Sid": "Locked", "Effect": "Deny", "Action": "kms:PutKeyPolicy", "Resource": "*",
        "Principal": { "AWS": format!("arn:aws:iam::{OLD}:user/import-importer") },
    });
    let policy = |id: &str, statements: &[&Value]| {
        let document =
            format!("{:#}", json!({ "Version": "2012-10-17", "Id": "key-default-1", "Statement": statements }));
        put(&format!("get-key-policy.{id}"), &json!({ "Policy": document, "PolicyName": "default" }));
    };
    policy(FIRST, &[&root, &uses]);
    policy(SECOND, &[&root, &locks_out]);
    policy(RSA, &[&root]);
    let grant = json!({
        "KeyId": old_arn(FIRST), "GrantId": "0c237476b39f8bc44e45212e08498fbe3151305030726c0590dd8d3e9f3d6a60",
        "Name": "nightly", "CreationDate": "2023-05-04T10:00:00+00:00", "RetiringPrincipal": format!("arn:aws:iam::{OLD}:root"),
        "GranteePrincipal": format!("arn:aws:iam::{OLD}:role/payroll"), "IssuingAccount": format!("arn:aws:iam::{OLD}:root"),
        "Operations": ["GenerateDataKey", "Decrypt"],
        "Constraints": { "EncryptionContextSubset": { "Department": "IT" } },
    });
    for (id, grants) in [(FIRST, json!([grant])), (SECOND, json!([])), (RSA, json!([]))] {
        put(&format!("list-grants.{id}"), &json!({ "Grants": grants }));
        let tags = json!([{ "TagKey": "team", "TagValue": "pay, roll" }, { "TagKey": "aws:stack", "TagValue": "s" }]);
        put(&format!("list-resource-tags.{id}"), &json!({ "Tags": tags, "Truncated": false }));
    }
}

/// Runs the loop of the document with that in the place of the AWS CLI.
fn exported(folder: &Path) -> String {
    let document = include_str!("../../docs/import-settings.md");
    let script = document.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    let [bin, source, account] = ["bin", "cloud", "account"].map(|name| folder.join(name));
    for made in [&bin, &source, &account] {
        fs::create_dir(made).unwrap();
    }
    cloud(&source);
    fs::write(bin.join("aws"), AWS).unwrap();
    fs::set_permissions(bin.join("aws"), fs::Permissions::from_mode(0o755)).unwrap();
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap());
    // Of the key of AWS it may not ask everything, as it is with AWS: what fails leaves empty files.
    let mut shell = Command::new("sh");
    let ran = tool::run(shell.args(["-c", script]).current_dir(&account).env("PATH", path).env("CLOUD", &source));
    for (key, name, empty) in
        [(FIRST, "list-grants", false), (OF_S3, "describe-key", false), (OF_S3, "list-grants", true)]
    {
        let written = fs::metadata(account.join(key).join(name).with_extension("json")).unwrap().len();
        assert_eq!(written == 0, empty, "{key}/{name}: {ran:?}");
    }
    account.to_str().unwrap().to_owned()
}

fn told(daemon: &Daemon, arguments: &[&str]) -> Value {
    let arguments = [arguments, &["--json"]].concat();
    serde_json::from_str(&daemon.keystorectl(&arguments).ok()).unwrap()
}

#[track_caller]
fn refused(ran: &Ran, words: &[&str]) {
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(words.iter().all(|word| ran.err.contains(word) || ran.out.contains(word)), "{words:?}: {ran:?}");
}

fn steps(plan: &Value, key: usize) -> Vec<&str> {
    plan["keys"][key]["steps"].as_array().unwrap().iter().map(|step| step["step"].as_str().unwrap()).collect()
}

fn imported(daemon: &Daemon) -> usize {
    told(daemon, &["key", "list", "--tag", "keystored:imported-from"])["keys"].as_array().unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_of_an_account_are_imported() {
    let daemon = shared().await;
    let folder = tempfile::tempdir().unwrap();
    let account = exported(folder.path());
    let app = user("import-app");
    let names = folder.path().join("names");
    fs::write(&names, format!("# here\n{OLD}=000000000000\narn:aws:iam::{OLD}:role/payroll={app}\n")).unwrap();
    let importing = ["import-settings", &account, "--map-file", names.to_str().unwrap()];
    let with = |more: &[&'static str]| [&importing[..], more].concat();

    // Whom nobody has made here yet, or nobody has mapped.
    refused(&daemon.keystorectl(&with(&[])), &["names no principal that there is", &app, "cannot be done"]);
    let unmapped = daemon.keystorectl(&["import-settings", &account]);
    refused(&unmapped, &[&format!("--map {OLD}=000000000000"), "role/payroll"]);
    // Who can be nobody here, since it is of another partition.
    let foreign = "arn:aws-cn:iam::000000000000:user/payroll";
    let pair = format!("arn:aws:iam::{OLD}:role/payroll={foreign}");
    let maps = ["--map", &format!("{OLD}=000000000000"), "--map", &pair];
    let mapped = daemon.keystorectl(&[&["import-settings", account.as_str()][..], &maps].concat());
    refused(&mapped, &[&format!("its grants name {foreign}, and there is no such principal"), "cannot be done"]);
    for arn in [&app, &user("import-importer")] {
        let identity = format!("cn:{}", arn.rsplit('/').next().unwrap());
        told(&daemon, &["principal", "create", arn, "--identity", &identity]);
    }
    told(&daemon, &["policy", "attach", "Administrator", "--principal", &user("import-importer")]);

    // An alias that is another key's: nothing is done, whatever was asked for.
    let other = told(&daemon, &["key", "create"])["key_id"].as_str().unwrap().to_owned();
    told(&daemon, &["alias", "create", "import/payroll", &other]);
    for more in [&[][..], &["--apply"]] {
        refused(&daemon.keystorectl(&with(more)), &["problem: alias/import/payroll is the key", &other]);
    }
    assert_eq!(imported(&daemon), 0);
    told(&daemon, &["alias", "delete", "import/payroll"]);

    // The plan.
    let plan = told(&daemon, &with(&[]));
    assert_eq!(steps(&plan, 0), ["create_key", "create_grant", "create_alias"], "{plan:#}");
    assert_eq!(steps(&plan, 1), ["create_key", "create_alias", "disable_key"]);
    let left: Vec<&str> = plan["left_out"].as_array().unwrap().iter().map(|one| one["key"].as_str().unwrap()).collect();
    assert_eq!(left, [old_arn(RSA), old_arn(OF_S3)]);
    let text = daemon.keystorectl(&with(&[])).ok();
    for part in ["asymmetric (RSA_2048)", "AWS manages it", "- make the key", "aws:stack", "without who may retire it"]
    {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert_eq!(imported(&daemon), 0);

    // It breaks off at a policy that is refused to who imports.
    let importer = environment_of(&daemon, folder.path(), "import-importer");
    let out = folder.path().join("arns");
    let (first_plan, out_text) = (plan["digest"].as_str().unwrap(), out.to_str().unwrap());
    let apply = [&with(&["--apply"])[..], &["--plan", first_plan, "--out", out_text]].concat();
    let broken = tool::keystorectl(importer, &apply);
    refused(
        &broken,
        &["MalformedPolicyDocumentException", SECOND, "Not done:", "give it alias/import/payroll", "5 are left"],
    );
    assert_eq!(imported(&daemon), 1);
    let arns = fs::read_to_string(&out).unwrap();
    assert!(arns.starts_with(&format!("{}=arn:aws:kms:", old_arn(FIRST))) && arns.lines().count() == 1, "{arns}");

    // It goes on by another plan, and an administrator may do what the importer could not.
    refused(&daemon.keystorectl(&[&apply[..], &["--force"]].concat()), &["the plan is not", "nothing was done"]);
    // Who names no plan is asked, and where nobody can be asked nothing is done.
    let unasked = daemon.keystorectl(&with(&["--apply"]));
    assert!(unasked.code == Some(2) && unasked.err.contains("--plan") && unasked.err.contains("--yes"), "{unasked:?}");
    assert_eq!(imported(&daemon), 1);
    let rest = told(&daemon, &with(&[]));
    assert_eq!(steps(&rest, 0), ["create_grant", "create_alias"]);
    let taken = daemon.keystorectl(&[&with(&["--apply", "--yes", "--out"])[..], &[out_text]].concat());
    assert!(taken.code == Some(5) && taken.err.contains("--force") && imported(&daemon) == 1, "{taken:?}");
    let second_plan = rest["digest"].as_str().unwrap();
    let apply = [&with(&["--apply", "--force"])[..], &["--plan", second_plan, "--out", out_text]].concat();
    let applied = told(&daemon, &apply);
    assert_eq!((applied["done"].as_array().unwrap().len(), applied["left"].as_array().unwrap().len()), (5, 0));
    assert_eq!(imported(&daemon), 2);

    // What is here now.
    let first = told(&daemon, &["key", "describe", "alias/import/payroll"]);
    let (arn, key) = (first["arn"].as_str().unwrap(), first["key_id"].as_str().unwrap());
    assert_eq!(first["description"], "imported Enabled");
    assert_eq!(first["tags"], json!({ "team": "pay, roll", "keystored:imported-from": old_arn(FIRST) }));
    assert_eq!(told(&daemon, &["key", "describe", "alias/import/old"])["key_state"], "Disabled");
    assert_eq!(applied["mapping"][old_arn(FIRST)], arn);
    let alias = format!(
        "arn:aws:kms:us-east-1:{OLD}:alias/import/payroll={}:alias/import/payroll",
        arn.rsplit_once(':').unwrap().0
    );
    let arns = fs::read_to_string(&out).unwrap();
    assert!(arns.lines().any(|line| line == alias) && arns.lines().count() == 4, "{arns}");
    let policy: Value = serde_json::from_str(&daemon.keystorectl(&["key", "policy", "get", key]).ok()).unwrap();
    let uses = &policy["Statement"][1];
    assert_eq!((&uses["Principal"]["AWS"], &uses["Resource"]), (&json!(app), &json!("*")));
    let condition = json!({ "kms:EncryptionContext:account": OLD, "kms:CallerAccount": "000000000000" });
    assert_eq!(uses["Condition"]["StringEquals"], condition);
    let grants = told(&daemon, &["grant", "list", key])["grants"].as_array().unwrap().clone();
    let [grant] = &grants[..] else { panic!("{grants:?}") };
    assert_eq!((&grant["grantee_principal"], &grant["name"]), (&json!(app), &json!("nightly")));
    assert_eq!(grant["encryption_context_subset"], json!({ "Department": "IT" }));
    assert_eq!(grant["operations"].as_array().unwrap().len(), 2);

    // Once more: nothing is to be done, nor is anything done.
    let again = daemon.keystorectl(&with(&[])).ok();
    assert!(again.contains("Nothing is to be done.") && again.contains(arn), "{again}");
    assert!(daemon.keystorectl(&with(&["--apply"])).ok().contains("Nothing was to be done."));
    assert_eq!(told(&daemon, &["grant", "list", key])["grants"].as_array().unwrap().len(), 1);
    assert_eq!(imported(&daemon), 2);

    // A file that is damaged.
    fs::write(Path::new(&account).join(FIRST).join("list-grants.json"), "{\n").unwrap();
    let damaged = daemon.keystorectl(&with(&["--apply"]));
    assert!(damaged.code == Some(5) && damaged.err.contains("list-grants.json: EOF"), "{damaged:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn at_a_terminal_the_plan_is_shown_and_then_asked_about() {
    let daemon = Daemon::start().await;
    let folder = tempfile::tempdir().unwrap();
    let (account, names, screen) = (exported(folder.path()), folder.path().join("names"), folder.path().join("screen"));
    let app = user("import-app");
    fs::write(&names, format!("{OLD}=000000000000\narn:aws:iam::{OLD}:role/payroll={app}\n")).unwrap();
    for arn in [&app, &user("import-importer")] {
        told(&daemon, &["principal", "create", arn]);
    }
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/real/terminal.py");
    // No, nothing, the end of the input, Ctrl-C; and yes.
    for (answer, code, made) in [("n\n", 130, 0), ("\n", 130, 0), ("\u{4}", 130, 0), ("\u{3}", 130, 0), ("yes\n", 0, 2)]
    {
        let mut command = Command::new("python3");
        command.args([script, "Do it? [y/N]", answer, env!("CARGO_BIN_EXE_keystorectl"), "import-settings", &account]);
        command.args(["--apply", "--map-file"]).arg(&names).envs(daemon.environment().unwrap()).env("SEEN", &screen);
        let ran = tool::run(&mut command).ok();
        let seen = String::from_utf8_lossy(&fs::read(&screen).unwrap()).into_owned();
        let expected = format!("exit code {code}\ntext was seen: True\nsettings are as before: True\n");
        assert!(ran.starts_with(&expected), "{answer:?}: {ran}\n{seen}");
        let (plan, rest) = seen.split_once("Do it?").unwrap();
        for part in ["- make the key", "alias/import/payroll", "alias/import/old"] {
            assert!(plan.contains(part), "{part} is above the question: {seen}");
        }
        assert_eq!(rest.contains("nothing was done"), code == 130, "{answer:?}: {seen}");
        assert_eq!(imported(&daemon), made, "{answer:?}: {seen}");
    }
}
