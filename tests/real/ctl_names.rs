//! keystorectl: aliases, tags, filters, and what is made from its own definition.

use std::fs;
use std::process::Command;

use serde_json::{Value, json};

use crate::harness::{Daemon, shared, tool};

fn told(daemon: &Daemon, arguments: &[&str]) -> Value {
    let arguments = [arguments, &["--json"]].concat();
    serde_json::from_str(&daemon.keystorectl(&arguments).ok()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_named_tagged_and_found() {
    let daemon = shared().await;
    let made = told(&daemon, &["key", "create", "--tag", "team=payroll", "--tag", "stage="]);
    let (id, arn) = (made["key_id"].as_str().unwrap(), made["arn"].as_str().unwrap());
    assert_eq!(made["tags"], json!({ "team": "payroll", "stage": "" }));
    let alias = told(&daemon, &["alias", "create", "ctl/payroll", id]);
    assert_eq!(alias, json!({ "alias_name": "alias/ctl/payroll", "target_key_id": id }));
    let refused = daemon.keystorectl(&["alias", "create", "alias/ctl/payroll", id]);
    assert_eq!(refused.code, Some(1));
    assert!(refused.err.contains("AlreadyExistsException") && refused.err.contains("alias update"), "{}", refused.err);
    let shown = told(&daemon, &["key", "describe", "alias/ctl/payroll"]);
    assert_eq!((&shown["key_id"], &shown["aliases"]), (&json!(id), &json!(["alias/ctl/payroll"])));
    let text = daemon.keystorectl(&["key", "describe", id]).ok();
    assert!(text.contains("Aliases") && text.contains("stage=, team=payroll"), "{text}");

    // By alias where the service takes none too.
    let by_alias = "alias/ctl/payroll";
    assert_eq!(told(&daemon, &["key", "disable", by_alias])["key_id"], arn);
    let disabled = told(&daemon, &["key", "list", "--state", "disabled", "--alias", "ctl/*"]);
    assert_eq!(disabled["keys"][0]["key_id"], id);
    assert_eq!(told(&daemon, &["key", "enable", by_alias])["enabled"], true);
    told(&daemon, &["key", "rotation", "status", by_alias]);
    told(&daemon, &["key", "last-usage", by_alias]);
    told(&daemon, &["key", "update-description", by_alias, "for payroll"]);
    let tags = told(&daemon, &["key", "tag", by_alias, "team=audit", "cost=7"]);
    assert_eq!(tags["tags"], json!({ "cost": "7", "stage": "", "team": "audit" }));
    assert_eq!(
        told(&daemon, &["key", "untag", by_alias, "cost", "none"])["tags"],
        json!({ "stage": "", "team": "audit" })
    );
    assert!(daemon.keystorectl(&["key", "tags", by_alias]).ok().contains("team   audit"));
    told(&daemon, &["cluster", "resync", daemon.site().cluster(), "--key", by_alias]);

    let other = told(&daemon, &["key", "create"])["key_id"].as_str().unwrap().to_owned();
    told(&daemon, &["alias", "update", "ctl/payroll", &other]);
    let aliases = told(&daemon, &["alias", "list", "--key", by_alias]);
    assert_eq!(aliases["aliases"].as_array().unwrap().len(), 1);
    assert_eq!(aliases["aliases"][0]["target_key_id"], json!(other));
    assert!(daemon.keystorectl(&["alias", "list"]).ok().contains(by_alias));
    told(&daemon, &["alias", "update", "ctl/payroll", arn]);

    let found = |filters: &[&str]| {
        let listed = told(&daemon, &[&["key", "list"], filters].concat());
        let keys = listed["keys"].as_array().unwrap().clone();
        keys.iter().map(|key| key["key_id"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for filters in
        [&["--tag", "team=audit"][..], &["--alias", "alias/ctl/payroll"], &["--alias", "*roll", "--tag", "stage"]]
    {
        assert_eq!(found(filters), [id], "{filters:?}");
    }
    for filters in [&["--tag", "team=payroll"][..], &["--alias", "ctl"], &["--tag", "stage", "--state", "Creating"]] {
        assert!(found(filters).is_empty(), "{filters:?}");
    }
    let text = daemon.keystorectl(&["key", "list", "--tag", "stage"]).ok();
    let [head, line] = text.lines().collect::<Vec<_>>()[..] else { panic!("{text}") };
    assert_eq!(
        head.split_whitespace().collect::<Vec<_>>(),
        ["KEY", "ID", "ALIAS", "STATE", "KEY", "STORE", "AGE", "LAST", "USE"]
    );
    assert!([id, by_alias, "Enabled", "cks-"].iter().all(|part| line.contains(part)), "{line}");
    let none = daemon.keystorectl(&["key", "list", "--tag", "nobody=has this"]).ok();
    assert!(none.contains("no such keys"), "{none}");
    assert_eq!(told(&daemon, &["alias", "delete", "ctl/payroll"]), json!({ "alias_name": by_alias }));
    let gone = daemon.keystorectl(&["key", "disable", by_alias]);
    assert_eq!(gone.code, Some(1));
    assert!(gone.err.contains("is not found") && gone.err.contains("alias list"), "{}", gone.err);
    for wrong in [&["alias", "create", "a b", id][..], &["key", "tag", id, "team"], &["key", "list", "--state", "odd"]]
    {
        assert_eq!(daemon.keystorectl(wrong).code, Some(2), "{wrong:?}");
    }
    told(&daemon, &["key", "untag", id, "stage", "team"]);
}

fn keystorectl(arguments: &[&str]) -> tool::Ran {
    tool::run(Command::new(env!("CARGO_BIN_EXE_keystorectl")).args(arguments))
}

/// Neither needs a service.
#[test]
fn completions_and_man_pages_are_of_all_commands() {
    let folder = tempfile::tempdir().unwrap();
    for (shell, says) in [("bash", "complete -F"), ("zsh", "#compdef keystorectl"), ("fish", "complete -c keystorectl")]
    {
        let script = keystorectl(&["completions", shell]).ok();
        assert!(script.contains(says), "{shell}");
        for command in ["update-description", "schedule-deletion", "client-token", "completions"] {
            assert!(script.contains(command), "{shell} does not know {command}");
        }
        fs::write(folder.path().join(shell), script).unwrap();
    }
    let asked = "source \"$1\"; COMP_WORDS=(keystorectl alias cr); COMP_CWORD=2; _keystorectl keystorectl cr alias; \
                 echo \"${COMPREPLY[@]}\"";
    let bash = tool::run(Command::new("bash").args(["-c", asked, "bash"]).arg(folder.path().join("bash")));
    assert_eq!(bash.ok().trim(), "create");

    let pages = folder.path().join("man");
    let dir = pages.to_str().unwrap();
    let written: Value = serde_json::from_str(&keystorectl(&["man", "--dir", dir, "--json"]).ok()).unwrap();
    let files: Vec<_> = fs::read_dir(&pages).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(written["pages"], files.len());
    for (page, says) in [
        ("keystorectl.1", "Exit codes"),
        ("keystorectl-key-list.1", "PendingDeletion"),
        ("keystorectl-alias-update.1", "still decrypts"),
    ] {
        let text = fs::read_to_string(pages.join(page)).unwrap();
        assert!(text.starts_with(".ie") || text.contains(".TH"), "{page}");
        assert!(text.replace("\\-", "-").contains(says), "{page}: {text}");
    }
    let file = folder.path().join("bash");
    let taken = keystorectl(&["man", "--dir", file.to_str().unwrap()]);
    assert_eq!(taken.code, Some(5), "{}", taken.err);
    assert_eq!(keystorectl(&["completions", "powershell"]).code, Some(2));
}
