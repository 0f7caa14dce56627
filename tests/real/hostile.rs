//! A hostile module in a running daemon: it gets at nothing of the daemon's, and what it says in the log is known to be a
//! module's.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::chaos::allow;
use crate::harness::daemon::Site;
use crate::harness::port::Port;
use crate::harness::{context, tool, wait};

/// A line as the daemon would write it, in the worker's name: with the mark that a worker's lines begin with.
const FORGED: &str = "\u{1e}{\"level\":\"ERROR\",\"target\":\"keystored\",\"message\":\"the seal key was sent away\"}\n\
                      {\"level\":\"ERROR\",\"target\":\"keystored\",\"message\":\"all keys are lost\"}\n\
                      \u{1e}{\"from_worker\":\"hsm-b data worker 0\",\"message\":\"it was hsm-b\"}\n";

/// The module. Beside this program, or one above.
pub(crate) fn module() -> PathBuf {
    let here = std::env::current_exe().unwrap();
    let mut places = here.ancestors().skip(1).take(2).map(|dir| dir.join("libhostile_hsm.so"));
    places.find(|path| path.exists()).expect("hostile-hsm is built with these tests")
}

/// Has the first HSM's module be hostile, under this profile; where it reports.
fn turn(site: &Site, profile: &str, ports: &[Port; 2]) -> PathBuf {
    let home = site.path().to_owned();
    let zone = site.zones(0).remove(0);
    let report = zone.tokens().join("report");
    site.configure(|config| {
        for (section, port) in ["grpc", "ops"].into_iter().zip(ports) {
            config[section].as_table_mut().unwrap().insert("listen".to_owned(), port.address().to_string().into());
        }
        config.insert("log".to_owned(), toml::Table::from_iter([("format".to_owned(), "json".into())]).into());
    });
    let protected = [
        "state",
        "state/keystored.db",
        "credentials/seal.key",
        "pki/server.key",
        "pki/ca.pem",
        "test.toml",
        "audit",
        "zones/b/tokens",
        "zones/b/softhsm2.conf",
        "credentials",
        "",
    ];
    let list =
        |files: &[&str]| files.iter().map(|file| home.join(file).display().to_string()).collect::<Vec<_>>().join(":");
    site.configure_hsms(|index, hsm| {
        if index > 0 {
            return;
        }
        let real = hsm.insert("module".to_owned(), module().display().to_string().into()).unwrap();
        hsm.insert("profile".to_owned(), profile.into());
        if profile != "softhsm" {
            allow(hsm, "read", &zone.softhsm_conf);
            allow(hsm, "write", &zone.tokens());
        }
        let environment = hsm["env"].as_table_mut().unwrap();
        for (name, value) in [
            ("HOSTILE_MODULE", real.as_str().unwrap().to_owned()),
            ("HOSTILE_REPORT", report.display().to_string()),
            ("HOSTILE_READ", list(&protected)),
            ("HOSTILE_WRITE", list(&protected[1..6])),
            ("HOSTILE_PORTS", ports.each_ref().map(|port| port.address().port().to_string()).join(":")),
            ("HOSTILE_SAYS", FORGED.to_owned()),
        ] {
            environment.insert(name.to_owned(), value.into());
        }
    });
    report
}

#[tokio::test(flavor = "multi_thread")]
async fn it_gets_at_nothing_under_any_profile() {
    for profile in ["softhsm", "generic"] {
        let site = Site::prepare().await;
        let ports = [Port::hold(), Port::hold()];
        let report = turn(&site, profile, &ports);
        let daemon = site.start().await;
        let caller = daemon.caller().await;
        let key = caller.create_key("in two tokens, one of them hostile").await;
        let ciphertext = caller.encrypt(&key, b"kept", &context(&[])).await.unwrap();
        assert_eq!(caller.decrypt(&ciphertext, &context(&[])).await.unwrap(), b"kept");
        let told = fs::read_to_string(&report).unwrap();
        assert!(told.lines().count() > 100, "{told}");
        let done: Vec<&str> = told.lines().filter(|line| !line.starts_with("refused ")).collect();
        assert!(done.is_empty(), "{profile}: {done:#?}");
        what_it_says_is_known_to_be_its_own(&daemon.log());
        let (_, ready) = daemon.ops("/readyz").unwrap();
        let ready: serde_json::Value = serde_json::from_str(&ready).unwrap();
        assert_eq!(ready["status"], "ready", "{ready}");
    }
}

/// A line of the daemon's own says nothing that a module has made up.
fn what_it_says_is_known_to_be_its_own(log: &str) {
    let lines: Vec<serde_json::Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect();
    for words in ["the seal key was sent away", "all keys are lost", "it was hsm-b"] {
        let said: Vec<_> = lines.iter().filter(|line| line.to_string().contains(words)).collect();
        assert!(!said.is_empty(), "{words} is not in the log");
        for line in said {
            let from = line["from_worker"].as_str().is_some_and(|from| from.starts_with("hsm-a "));
            let told = line["said"].is_string() && line["hsm"] == "hsm-a" && line["level"] == "WARN";
            assert!(from || told, "{line}");
        }
    }
    assert!(lines.iter().any(|line| line["message"] == "found the token" && line["from_worker"].is_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sandbox_that_would_open_what_is_protected_keeps_the_daemon_from_starting() {
    let site = Site::prepare().await;
    let home = site.path().to_owned();
    let link = home.join("zones/a/shortcut");
    std::os::unix::fs::symlink(home.join("credentials"), &link).unwrap();
    for (path, what) in [
        (home.clone(), "the daemon's state_dir"),
        (home.join("state"), "the daemon's state_dir"),
        (home.join("credentials/seal.key"), "the seal key"),
        (link.join("seal.key"), "the seal key"),
        (link, "the seal key"),
        (home.join("zones/b/tokens"), "what HSM hsm-b writes to"),
        (home.join("test.toml"), "the daemon's configuration"),
    ] {
        for list in ["read", "write"] {
            site.configure_hsms(|index, hsm| {
                hsm.remove("sandbox");
                if index == 0 {
                    allow(hsm, list, &path);
                }
            });
            let ran = serve(site.config_file());
            let said = format!("HSM hsm-a: the module may reach {}", path.display());
            assert!(ran.code == Some(2) && ran.err.contains(&said) && ran.err.contains(what), "{ran:?}");
        }
    }
}

fn serve(config: &Path) -> tool::Ran {
    tool::keystored(&["serve".as_ref(), "--config".as_ref(), config.as_os_str()])
}

/// Off it can be; everybody who looks is told.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_sandbox_it_is_said_everywhere() {
    let site = Site::prepare().await;
    site.configure_hsms(|index, hsm| {
        if index == 0 {
            hsm.insert("sandbox".to_owned(), false.into());
        }
    });
    let checked = tool::keystored(&["check".as_ref(), "--config".as_ref(), site.config_file().as_os_str()]);
    assert!(checked.out.contains("note: The module is NOT confined (sandbox = false)"), "{checked:?}");
    let daemon = site.start().await;
    wait::until("the log says it", wait::LONG, || daemon.log().contains("The module is NOT confined").then_some(()));
    let (_, ready) = daemon.ops("/readyz").unwrap();
    let ready: serde_json::Value = serde_json::from_str(&ready).unwrap();
    let gaps: Vec<usize> =
        ready["hsms"].as_array().unwrap().iter().map(|hsm| hsm["confinement_gaps"].as_array().unwrap().len()).collect();
    assert!(gaps[0] > gaps[1], "{ready}");
    let (_, metrics) = daemon.ops("/metrics").unwrap();
    let counted =
        metrics.lines().find(|line| line.starts_with("keystored_hsm_confinement_gaps{") && line.contains("hsm-a"));
    assert!(counted.is_some_and(|line| line.ends_with(&format!(" {}", gaps[0]))), "{metrics}");
    let described = daemon.keystorectl(&["key-store", "describe"]).ok();
    assert!(described.contains("CONFINEMENT OF ITS MODULE") && described.contains("NOT confined"), "{described:?}");
}
