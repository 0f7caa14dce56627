//! Rules of ARCHITECTURE.md that Cargo and the compiler cannot keep.
//!
//! Cargo keeps most of them: a crate reaches what its manifest names, and there are no circles. Here it is what a manifest
//! may name, and what no manifest shows.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Crates from the top down. A crate may use those on lower layers, and only those.
const LAYERS: &[(u8, &[&str])] = &[
    (6, &["keystored"]),
    (5, &["api", "cli"]),
    (4, &["service", "provision"]),
    (3, &["cluster", "ceremony"]),
    (2, &["supervisor", "worker", "store", "auth", "audit", "client"]),
    (1, &["protocol", "proto", "pki", "telemetry", "config", "pkcs11-extra"]),
    (0, &["model"]),
];

/// Crates that may use less than their layer would let them: of layers 2 and up, only these.
const ONLY: &[(&str, &[&str], &str)] = &[
    (
        "cli",
        &["client", "ceremony", "audit"],
        "verbs talk to a daemon and never to an HSM or the metadata themselves; but the ceremony is carried out here, \
         because the daemon must never see the CA's key or an SO PIN, and so is the checking of an audit log, which needs \
         no daemon's word",
    ),
    (
        "api",
        &["service", "auth", "cluster"],
        "an interface shows what the service gives out, and reaches no HSM past it",
    ),
    ("provision", &["client", "ceremony", "supervisor"], "development tokens are made as production's are"),
];

/// Foreign crates that only some of ours may name.
const PINS: &[(&str, &[&str], &str)] = &[
    ("cryptoki", &["worker", "pkcs11-extra"], "a PKCS#11 module never runs in the process that talks to the network"),
    ("cryptoki-sys", &["worker", "pkcs11-extra"], "as cryptoki"),
    ("sqlx", &["store"], "metadata has one door"),
    ("tonic", &["api", "client", "proto", "keystored"], "gRPC is an interface, not a way to think"),
    ("rustls", &["client", "keystored"], "who is trusted is decided in one place on each side"),
    ("tokio-rustls", &["client", "keystored"], "as rustls"),
    ("axum", &["keystored"], "the ops port"),
    ("prometheus-client", &["telemetry", "keystored"], "metrics are registered where the daemon is built"),
    ("clap", &["cli", "keystored"], "arguments end where the programs begin"),
    ("ratatui", &["cli"], "views are an operator's; the daemon draws nothing"),
    ("rcgen", &["pki"], "certificates are made in one place"),
    ("x509-parser", &["pki"], "certificates are read in one place"),
    ("aws-sigv4", &["api"], "callers' signatures are judged in one place; nothing here signs for AWS"),
    ("tlog_tiles", &["audit"], "one crate knows how a log is laid out"),
    ("signed_note", &["audit"], "as tlog_tiles"),
    ("aws-credential-types", &["api"], "as aws-sigv4"),
    ("sd-notify", &["keystored"], "systemd is told by whoever knows how the daemon is"),
];

/// Foreign crates that one of ours must not name, though others do.
const BANS: &[(&str, &[&str], &str)] = &[
    ("worker", &["tokio", "tokio-stream", "futures-util", "tonic"], "calls into a module block; threads own them"),
    ("model", &["tokio", "tonic", "sqlx", "cryptoki"], "says what things are"),
    ("pkcs11-extra", &["tokio"], "as worker"),
];

/// The operators' command must not carry the daemon: it reaches keys over the network, as everybody does.
const OPERATORS_COMMAND: (&str, &[&str]) = ("src/bin/keystorectl.rs", &["cli", "model", "worker"]);

/// Serves without the audit log, for the benchmark, and where that is. Nothing that is installed may do so.
const UNRECORDED: (&str, &str) = ("serve_recorded_by", "src/server/mod.rs");

/// Longest file, in lines.
const LONGEST: usize = 450;

/// Where a database engine's library may be named. Above it nobody knows which engine there is.
const ENGINES: (&str, &str) = ("sqlx::", "crates/store/src/engine/");

/// The only place in the tests that may pause, between two looks at a condition.
const PAUSE: &str = "tests/real/harness/wait.rs";

/// Where a spawn says what follows when its task panics: nobody else would notice.
const ON_PANIC: &str = "On panic: ";
/// In so many lines before it.
const BESIDE: usize = 6;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// What a manifest names: everything for use, without what only tests need.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let manifest: toml::Table = toml::from_str(manifest).unwrap();
    let named = manifest.get("dependencies").and_then(toml::Value::as_table);
    named.into_iter().flat_map(toml::Table::keys).cloned().collect()
}

fn layer(name: &str) -> Option<u8> {
    LAYERS.iter().find(|(_, crates)| crates.contains(&name)).map(|(layer, _)| *layer)
}

/// What is wrong with what a crate names.
fn judge_manifest(name: &str, manifest: &str) -> Vec<String> {
    let mut found = Vec::new();
    let Some(mine) = layer(name) else {
        return vec![format!("{name} is on no layer; add it to LAYERS and to ARCHITECTURE.md")];
    };
    for dependency in dependencies(manifest) {
        if let Some(its) = layer(&dependency) {
            if its >= mine {
                found.push(format!("{name} uses {dependency}: layer {mine} must not use layer {its}"));
            }
            if let Some((_, allowed, reason)) = ONLY.iter().find(|(one, ..)| *one == name)
                && its >= 2
                && !allowed.contains(&dependency.as_str())
            {
                found.push(format!("{name} uses {dependency}: {reason}; of layers 2 and up only {allowed:?}"));
            }
        }
        let pin = PINS.iter().find(|(pinned, crates, _)| *pinned == dependency && !crates.contains(&name));
        if let Some((_, crates, reason)) = pin {
            found.push(format!("{name} names {dependency}, which belongs to {crates:?}: {reason}"));
        }
        let banned = |(one, banned, _): &&(&str, &[&str], &str)| *one == name && banned.contains(&&*dependency);
        if let Some((_, _, reason)) = BANS.iter().find(banned) {
            found.push(format!("{name} names {dependency}: {reason}"));
        }
    }
    found
}

/// Code of a file line by line, without comments at lines' ends. Strings stay; no rule here looks for what they hold.
fn code(text: &str) -> impl Iterator<Item = &str> {
    text.lines().map(|line| line.split("//").next().unwrap_or_default())
}

/// What is wrong with a file.
fn judge_file(path: &str, text: &str) -> Vec<String> {
    let mut found = silent_spawns(path, text);
    let lines = text.lines().count();
    if lines > LONGEST {
        found.push(format!("{path}: {lines} lines, at most {LONGEST} can be read in one sitting"));
    }
    if code(text).any(|line| line.trim_start().starts_with("#[ignore")) {
        found.push(format!("{path}: a test that does not run is no test"));
    }
    // A module that plays an HSM has to take its time.
    let of_tests = ["tests/", "benches/"].iter().any(|folder| path.starts_with(folder));
    if of_tests && path != PAUSE && !path.starts_with("tests/chaos-hsm/src/") && path != file!() {
        for pause in ["sleep(", "sleep_until("] {
            if code(text).any(|line| line.contains(pause)) {
                found.push(format!("{path}: waits for a time; wait for a condition with a deadline ({PAUSE})"));
            }
        }
    }
    if !of_tests && path.ends_with("/lib.rs") && path != "crates/pkcs11-extra/src/lib.rs" {
        let rule = "#![forbid(unsafe_code)]";
        if !text.contains(rule) {
            found.push(format!(
                "{path}: {rule} is missing: unsafe code lives in crates/pkcs11-extra, each block with its reason"
            ));
        }
    }
    let (library, engines) = ENGINES;
    if !path.starts_with(engines) && path != file!() && code(text).any(|line| line.contains(library)) {
        found.push(format!("{path}: names {library}, which belongs to {engines}: the store works with any engine"));
    }
    let (unrecorded, home) = UNRECORDED;
    if !of_tests && path != home && code(text).any(|line| line.contains(unrecorded)) {
        found.push(format!("{path}: names {unrecorded}: nothing is given out without its record but in a benchmark"));
    }
    let (command, allowed) = OPERATORS_COMMAND;
    if path == command {
        let ours = LAYERS.iter().flat_map(|(_, crates)| *crates).filter(|name| !allowed.contains(name));
        for name in ours {
            if code(text).any(|line| line.contains(&format!("{name}::"))) {
                found.push(format!("{path}: names {name}; it must not carry the daemon, and needs only {allowed:?}"));
            }
        }
    }
    found
}

/// Spawns of the product's own code without a word on their panics. What starts processes takes no argument, or has a
/// name of its own.
fn silent_spawns(path: &str, text: &str) -> Vec<String> {
    let of_a_test = ["/tests/", "/tests.rs", "/fake.rs", "/simulation/"].iter().any(|part| path.contains(part));
    if of_a_test || !["src/", "crates/"].iter().any(|folder| path.starts_with(folder)) {
        return Vec::new();
    }
    let product = text.split_once("#[cfg(test)]\nmod tests {").map_or(text, |(product, _)| product);
    let lines: Vec<&str> = product.lines().collect();
    let spawns = |line: &str| {
        let code = line.split("//").next().unwrap_or_default();
        let with_argument = |call: &str| code.split(call).skip(1).any(|after| !after.starts_with(')'));
        let other = ["fn ", "process::spawn(", "WorkerProcess::spawn("].iter().any(|other| code.contains(other));
        (with_argument("spawn(") || with_argument("spawn_blocking(")) && !other
    };
    let silent = (0..lines.len()).filter(|at| {
        spawns(lines[*at]) && !lines[at.saturating_sub(BESIDE)..=*at].iter().any(|line| line.contains(ON_PANIC))
    });
    silent.map(|at| format!("{path}:{}: a spawn without {ON_PANIC:?} and what follows beside it", at + 1)).collect()
}

/// Our crates with their manifests.
fn manifests() -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(root().join("crates")).unwrap().map(Result::unwrap) {
        let name = entry.file_name().to_string_lossy().into_owned();
        found.insert(name, fs::read_to_string(entry.path().join("Cargo.toml")).unwrap());
    }
    found.insert("keystored".to_owned(), fs::read_to_string(root().join("Cargo.toml")).unwrap());
    found
}

fn files(under: &str, out: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(root().join(under)) else { return };
    for entry in entries.map(Result::unwrap) {
        let name = format!("{under}/{}", entry.file_name().to_string_lossy());
        if entry.file_type().unwrap().is_dir() {
            files(&name, out);
        } else if name.ends_with(".rs") {
            out.push(PathBuf::from(name));
        }
    }
}

#[test]
fn every_crate_names_only_what_it_may() {
    let manifests = manifests();
    assert!(manifests.len() > 15, "only {} crates found; is this the repository?", manifests.len());
    let found: Vec<String> = manifests.iter().flat_map(|(name, manifest)| judge_manifest(name, manifest)).collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn every_file_keeps_the_rules() {
    let mut paths = Vec::new();
    for folder in ["src", "crates", "tests", "benches", "fuzz/fuzz_targets"] {
        files(folder, &mut paths);
    }
    paths.retain(|path| !path.to_string_lossy().contains("/target/"));
    assert!(paths.len() > 300, "only {} files found; is this the repository?", paths.len());
    let judge = |path: &PathBuf| judge_file(&path.to_string_lossy(), &fs::read_to_string(root().join(path)).unwrap());
    let found: Vec<String> = paths.iter().flat_map(judge).collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn the_map_shows_every_crate() {
    let map = fs::read_to_string(root().join("ARCHITECTURE.md")).unwrap();
    let crates = manifests().into_keys().filter(|name| name != "keystored");
    let missing: Vec<String> = crates.filter(|name| !map.contains(&format!("crates/{name}"))).collect();
    assert!(missing.is_empty(), "ARCHITECTURE.md does not mention {missing:?}");
}

/// A checker that finds nothing in planted faults would find nothing anywhere.
#[test]
fn planted_faults_are_found() {
    for (name, named, what) in [
        ("model", "store.workspace = true", "layer 0 must not use layer 2"),
        ("cluster", "ceremony.workspace = true", "layer 3 must not use layer 3"),
        ("cluster", "store.workspace = true\ncryptoki = \"1\"", "names cryptoki"),
        ("service", "api.workspace = true", "layer 4 must not use layer 5"),
        ("cli", "cluster.workspace = true", "never to an HSM"),
        ("cli", "supervisor = { workspace = true }", "never to an HSM"),
        ("worker", "tokio.workspace = true", "names tokio"),
        ("service", "tonic.workspace = true", "names tonic"),
        ("jobs", "model.workspace = true", "on no layer"),
    ] {
        let found = judge_manifest(name, &format!("[dependencies]\n{named}\n")).join("\n");
        assert!(found.contains(what), "planted in {name}: {named:?}\nfound: {found:?}");
    }
    for (path, text, what) in [
        ("src/bin/keystorectl.rs", "fn main() { keystored::server::serve() }", "must not carry the daemon"),
        ("src/bin/keystored.rs", "fn run() { server::serve_recorded_by(config) }", "without its record"),
        ("crates/store/src/lib.rs", "//! The store.", "is missing"),
        ("crates/store/src/keys.rs", "fn f(database: &mut sqlx::SqliteConnection) {}", "works with any engine"),
        ("tests/real/x.rs", "#[test]\n#[ignore = \"slow\"]\nfn f() {}", "does not run"),
        ("tests/real/x.rs", "fn f() { std::thread::sleep(SECOND); }", "waits for a time"),
        (
            "crates/store/src/change.rs",
            "fn f() {\n    tokio::spawn(async move { work().await });\n}",
            "a spawn without",
        ),
        ("src/server/change.rs", "// On panic: said too early.\n\n\n\n\n\n\n\nset.spawn(work);", "a spawn without"),
        ("crates/model/src/long.rs", &"\n".repeat(451), "451 lines"),
    ] {
        let found = judge_file(path, text).join("\n");
        assert!(found.contains(what), "planted in {path}: {text:?}\nfound: {found:?}");
    }
}

#[test]
fn what_is_allowed_is_not_reported() {
    for (name, named) in [
        ("cli", "client.workspace = true\nceremony.workspace = true\nmodel.workspace = true\nclap.workspace = true"),
        ("worker", "cryptoki.workspace = true\npkcs11-extra.workspace = true\n[dev-dependencies]\ntokio = \"1\""),
    ] {
        assert_eq!(judge_manifest(name, &format!("[dependencies]\n{named}\n")), Vec::<String>::new(), "in {name}");
    }
    for (path, text) in [
        ("tests/real/x.rs", "fn f() { wait::until(\"ready\", || true); } // no sleep(here)"),
        ("benches/report/x.rs", "fn f() { server::serve_recorded_by(config) }"),
        (PAUSE, "fn f() { std::thread::sleep(PAUSE); }"),
        ("crates/store/src/change.rs", "// On panic: the caller gets an error.\ntokio::spawn(work);"),
        ("src/server/change.rs", "fn spawn(x: X) {}\nlet child = command.spawn();\nprocess::spawn(settings, lock);"),
        ("crates/store/src/engine/sqlite/session.rs", "use sqlx::Connection;"),
        ("crates/store/src/change.rs", "#[cfg(test)]\nmod tests {\n    fn f() { tokio::spawn(work); }\n}"),
    ] {
        assert_eq!(judge_file(path, text), Vec::<String>::new(), "in {path}: {text:?}");
    }
}
