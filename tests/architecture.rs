//! The order of the rooms, as a test.
//!
//! Reads every source file as tokens, resolves what each one imports or names by path, and holds that against the
//! floors of ARCHITECTURE.md. A path that is not written down here as allowed is an error.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "architecture/source.rs"]
mod source;

use std::fs;
use std::path::{Path, PathBuf};

use source::Source;

/// Rooms from the top down. A room may use those on lower floors, and only those.
const FLOORS: &[(u8, &[&str])] = &[
    (7, &["bin::keystored", "bin::keystorectl"]),
    (6, &["server"]),
    (5, &["api", "jobs", "cli"]),
    (4, &["service"]),
    (3, &["cluster", "provision"]),
    (2, &["hsm::supervisor", "hsm::worker", "store", "auth", "audit", "client"]),
    (1, &["hsm::protocol", "proto", "pki", "seal", "telemetry", "config"]),
    (0, &["model"]),
];

/// Rooms that may use less than the floors would let them: of floors 2 and up, only these rooms, or parts of rooms.
const ONLY: &[(&str, &[&str], &str)] = &[
    (
        "bin::keystorectl",
        &["cli", "hsm::worker"],
        "the operators' command must not carry the daemon: it reaches keys over the network, as everybody does",
    ),
    (
        "cli",
        &["client", "provision", "audit", "cluster::ceremony"],
        "verbs talk to a daemon and never to an HSM or the metadata themselves; but the ceremony is carried out here, \
         because the daemon must never see the CA's key or an SO PIN",
    ),
    (
        "api",
        &["service", "auth", "cluster", "store"],
        "an interface shows what the service gives out, and reaches no HSM past it",
    ),
];

/// Arrows within one floor, each with its reason.
const SIDEWAYS: &[(&str, &str, &str)] =
    &[("provision", "cluster::ceremony", "development tokens go through the ceremony that production uses")];

/// Crates that only some rooms may name.
const PINS: &[(&str, &[&str], &str)] = &[
    ("cryptoki", &["hsm::worker"], "a PKCS#11 module never runs in the process that talks to the network"),
    ("cryptoki_sys", &["hsm::worker"], "as cryptoki"),
    ("pkcs11_extra", &["hsm::worker"], "as cryptoki"),
    ("sqlx", &["store"], "metadata has one door"),
    ("tonic", &["api", "client", "proto", "server", "cli"], "gRPC is an interface, not a way to think"),
    ("rustls", &["server", "client"], "who is trusted is decided in one place on each side"),
    ("tokio_rustls", &["server", "client"], "as rustls"),
    ("axum", &["server"], "the ops port"),
    ("prometheus_client", &["server", "telemetry"], "metrics are registered where the daemon is built"),
    ("clap", &["cli", "bin::keystored", "bin::keystorectl"], "arguments end where the programs begin"),
    ("ratatui", &["cli"], "views are an operator's; the daemon draws nothing"),
    ("rcgen", &["pki"], "certificates are made in one place"),
    ("x509_parser", &["pki"], "certificates are read in one place"),
    ("sd_notify", &["server"], "systemd is told by whoever knows how the daemon is"),
];

/// Crates that a room must not name, though others do.
const BANS: &[(&str, &[&str], &str)] = &[
    ("hsm::worker", &["tokio", "tokio_stream", "futures_util", "tonic"], "calls into a module block; threads own them"),
    ("model", &["tokio", "tonic", "sqlx", "cryptoki", "std::fs", "std::net", "std::process"], "says what things are"),
];

/// What prints to a standard stream, and panics where that is gone or full.
const PRINTS: [&str; 4] = ["println!", "eprintln!", "print!", "eprint!"];

/// A simulation for tests, which shows its course to who asks for it.
const SHOWS: &str = "src/cluster/world/";

/// Longest file, in lines.
const LONGEST: usize = 450;

/// The only place in the tests that may pause, between two looks at a condition.
const PAUSE: &str = "tests/real/harness/wait.rs";

fn judge(path: &str, text: &str) -> Vec<String> {
    let source = Source::parse(path, text);
    let mut found = silent_spawns(path, text);
    let lines = text.lines().count();
    if lines > LONGEST {
        found.push(format!("{path}: {lines} lines, at most {LONGEST} can be read in one sitting"));
    }
    for needle in ["#[ignore", "#![ignore"] {
        if source.contains(needle) {
            found.push(format!("{path}: a test that does not run is no test ({needle}])"));
        }
    }
    match path.split('/').next() {
        Some("src") => judge_product(&source, &mut found),
        // A module that plays an HSM has to take its time.
        Some("tests" | "benches") if path != PAUSE && !path.starts_with("tests/chaos-hsm/src/") => {
            for pause in ["sleep(", "sleep_until("] {
                if source.contains(pause) {
                    found.push(format!("{path}: waits for a time; wait for a condition with a deadline ({PAUSE})"));
                }
            }
        }
        _ => {}
    }
    found
}

/// Where a spawn says what follows when its task panics: nobody else would notice.
const ON_PANIC: &str = "On panic: ";
/// In so many lines before it.
const BESIDE: usize = 6;

/// Spawns of the product's own code without a word on their panics. What starts processes takes no argument, or has a
/// name of its own.
fn silent_spawns(path: &str, text: &str) -> Vec<String> {
    let of_a_test = ["/tests/", "/tests.rs", "/fake.rs", "/world/"].iter().any(|part| path.contains(part));
    if !path.starts_with("src/") || of_a_test {
        return Vec::new();
    }
    let product = text.split_once("#[cfg(test)]\nmod tests {").map_or(text, |(product, _)| product);
    let lines: Vec<&str> = product.lines().collect();
    let spawns = |line: &str| {
        let code = line.split("//").next().unwrap_or_default();
        let with_argument = |call: &str| code.split(call).skip(1).any(|after| !after.starts_with(')'));
        let other = ["fn ", "process::spawn(", "Running::spawn("].iter().any(|other| code.contains(other));
        (with_argument("spawn(") || with_argument("spawn_blocking(")) && !other
    };
    let silent = (0..lines.len()).filter(|at| {
        spawns(lines[*at]) && !lines[at.saturating_sub(BESIDE)..=*at].iter().any(|line| line.contains(ON_PANIC))
    });
    silent.map(|at| format!("{path}:{}: a spawn without {ON_PANIC:?} and what follows beside it", at + 1)).collect()
}

fn judge_product(source: &Source, found: &mut Vec<String>) {
    let path = &source.path;
    if source.contains("unsafe") {
        found.push(format!("{path}: unsafe code lives in crates/pkcs11-extra, with a reason beside each block"));
    }
    for print in PRINTS {
        if source.contains(print) && !path.starts_with(SHOWS) {
            found.push(format!(
                "{path}: {print} panics where nobody reads; say it through telemetry::log, or cli's printer"
            ));
        }
    }
    let Some(here) = room(&source.module) else {
        // lib.rs and the mod.rs of a floor that is only a folder: they declare, and re-export nothing.
        if source.contains("pub use") {
            found.push(format!("{path}: a re-export hides an arrow; name the room in the path"));
        }
        return;
    };
    for name in &source.crate_paths {
        if let Some(there) = room(name)
            && let Some(reason) = forbidden(&here, &there, name)
        {
            found.push(format!("{path}: {here} uses {}: {reason}", name.join("::")));
        }
    }
    for name in &source.foreign_paths {
        for (foreign, rooms, reason) in PINS {
            if is_under(name, foreign) && !rooms.contains(&here.as_str()) {
                found.push(format!("{path}: {here} names {}, which belongs to {rooms:?}: {reason}", name.join("::")));
            }
        }
        for (banned_room, foreign, reason) in BANS {
            if here == *banned_room && foreign.iter().any(|one| is_under(name, one)) {
                found.push(format!("{path}: {here} names {}: {reason}", name.join("::")));
            }
        }
    }
}

/// Why `here` must not use `there`; `None` when it may.
fn forbidden(here: &str, there: &str, name: &[String]) -> Option<String> {
    if here == there {
        return None;
    }
    let (Some(mine), Some(its)) = (floor(here), floor(there)) else {
        return Some("one of them is on no floor; add it to FLOORS and to ARCHITECTURE.md".to_owned());
    };
    if SIDEWAYS.iter().any(|(from, to, _)| *from == here && is_under(name, to)) {
        return None;
    }
    if its >= mine {
        return Some(format!("floor {mine} must not use floor {its}"));
    }
    let (_, allowed, reason) = ONLY.iter().find(|(room, ..)| *room == here)?;
    (its >= 2 && !allowed.iter().any(|one| is_under(name, one)))
        .then(|| format!("{reason}; of floors 2 and up only {allowed:?}"))
}

fn floor(room: &str) -> Option<u8> {
    FLOORS.iter().find(|(_, rooms)| rooms.contains(&room)).map(|(floor, _)| *floor)
}

/// The room that a module path leads into. `hsm` and `bin` are folders of rooms, not rooms.
fn room(module: &[String]) -> Option<String> {
    match module {
        [folder, room, ..] if folder == "hsm" || folder == "bin" => Some(format!("{folder}::{room}")),
        [folder] if folder == "hsm" || folder == "bin" => None,
        [room, ..] => Some(room.clone()),
        [] => None,
    }
}

/// `name` is `prefix` or something inside it.
fn is_under(name: &[String], prefix: &str) -> bool {
    let mut name = name.iter();
    prefix.split("::").all(|part| name.next().is_some_and(|own| own == part))
}

fn files(root: &Path, under: &str, out: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(root.join(under)) else { return };
    for entry in entries.map(Result::unwrap) {
        let name = format!("{under}/{}", entry.file_name().to_string_lossy());
        if entry.file_type().unwrap().is_dir() {
            files(root, &name, out);
        } else if name.ends_with(".rs") {
            out.push(PathBuf::from(name));
        }
    }
}

#[test]
fn every_file_keeps_the_order_of_the_rooms() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = Vec::new();
    for folder in ["src", "tests", "benches", "crates/pkcs11-extra", "fuzz/fuzz_targets"] {
        files(root, folder, &mut paths);
    }
    paths.retain(|path| !path.to_string_lossy().contains("/target/"));
    assert!(paths.len() > 30, "only {} files found; is this the repository?", paths.len());
    let found: Vec<String> = paths
        .iter()
        .flat_map(|path| judge(&path.to_string_lossy(), &fs::read_to_string(root.join(path)).unwrap()))
        .collect();
    assert!(found.is_empty(), "\n{}\n", found.join("\n"));
}

#[test]
fn every_room_is_on_a_floor() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for entry in fs::read_dir(root).unwrap().map(Result::unwrap) {
        let name = entry.file_name().to_string_lossy().trim_end_matches(".rs").to_owned();
        let known = ["lib", "bin", "hsm"].contains(&name.as_str()) || floor(&name).is_some();
        assert!(known, "src/{name} is on no floor; add it to FLOORS and to ARCHITECTURE.md");
    }
}

#[test]
fn the_map_shows_every_room() {
    let map = include_str!("../ARCHITECTURE.md");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for room in FLOORS.iter().flat_map(|(_, rooms)| *rooms) {
        let module = room.replace("::", "/");
        let built = root.join(&module).is_dir() || root.join(format!("{module}.rs")).is_file();
        assert!(!built || map.contains(&format!("src/{module}")), "ARCHITECTURE.md does not mention src/{module}");
    }
}

/// A checker that finds nothing in planted faults would find nothing anywhere.
#[test]
fn planted_faults_are_found() {
    for (path, text, what) in [
        ("src/model/key.rs", "use crate::store::Store;", "floor 0 must not use floor 2"),
        ("src/store/mod.rs", "use crate::{\n    model::id::KeyId,\n    cluster::{self, Homes},\n};", "uses cluster"),
        ("src/service/create.rs", "fn f() { crate::api::grpc::routes() }", "floor 4 must not use floor 5"),
        ("src/hsm/worker/token.rs", "use super::super::supervisor::Hsm;", "uses hsm::supervisor::Hsm"),
        ("src/hsm/supervisor/mod.rs", "use cryptoki::context::Pkcs11;", "names cryptoki::context::Pkcs11"),
        ("src/hsm/worker/mod.rs", "async fn f() { ::tokio::task::yield_now().await }", "names tokio"),
        ("src/service/mod.rs", "fn f(_: tonic::Status) {}", "names tonic::Status"),
        ("src/cluster/mod.rs", "mod tests { use super::super::provision::prepare; }", "uses provision::prepare"),
        ("src/cluster/mod.rs", "mod tests { use super::super::super::store::Store; }", ""),
        ("src/provision/mod.rs", "use crate::cluster::Cluster;", "floor 3 must not use floor 3"),
        ("src/bin/keystorectl.rs", "fn main() { keystored::server::serve() }", "must not carry the daemon"),
        ("src/cli/mod.rs", "use crate::cluster::Cluster;", "never to an HSM"),
        ("src/cli/cluster/init.rs", "use crate::cluster::{ceremony, kmsuser};", "cli uses cluster::kmsuser"),
        ("src/cli/cluster/init.rs", "use crate::cluster;", "never to an HSM"),
        ("src/cli/cluster/init.rs", "use crate::hsm::supervisor::Settings;", "never to an HSM"),
        ("src/lib.rs", "pub use model::key::KeyState;", "hides an arrow"),
        ("src/config/mod.rs", "fn f() { unsafe { g() } }", "unsafe"),
        ("src/bin/keystored.rs", "fn f() { eprintln!(\"gone\") }", "panics where nobody reads"),
        ("src/jobs2/mod.rs", "use crate::model::id::KeyId;", "on no floor"),
        ("tests/real/x.rs", "#[test]\n#[ignore = \"slow\"]\nfn f() {}", "does not run"),
        ("tests/real/x.rs", "fn f() { std::thread::sleep(SECOND); }", "waits for a time"),
        ("src/store/change.rs", "fn f() {\n    tokio::spawn(async move { work().await });\n}", "a spawn without"),
        ("src/store/change.rs", "// On panic: said too early.\n\n\n\n\n\n\n\nset.spawn(work);", "a spawn without"),
        ("src/model/long.rs", &"\n".repeat(451), "451 lines"),
    ] {
        let found = judge(path, text).join("\n");
        assert!(found.contains(what), "planted in {path}: {text:?}\nfound: {found:?}");
        assert!(what.is_empty() || !found.is_empty());
    }
}

#[test]
fn what_is_allowed_is_not_reported() {
    for (path, text) in [
        ("src/model/key.rs", "// use crate::store::Store; unsafe\nconst S: &str = \"crate::store unsafe\";"),
        ("src/model/key.rs", "/* nested /* unsafe */ crate::api */ const C: char = '\"'; use super::id::KeyId;"),
        ("src/model/key.rs", "const R: &str = r#\"a \" crate::store::X \"#; fn f<'a>(_: &'a str) {}"),
        ("src/provision/mod.rs", "use crate::cluster::ceremony::{self, Participant};"),
        ("src/cli/cluster/init.rs", "use crate::cluster::ceremony::{self, Participant}; use super::super::cluster;"),
        ("src/cluster/route.rs", "mod tests { use super::*; use super::super::Homes; }"),
        ("src/hsm/worker/token.rs", "use super::super::protocol::Op; use crate::hsm::protocol;"),
        ("tests/real/x.rs", "fn f() { wait::until(\"ready\", || true); }"),
        (PAUSE, "fn f() { std::thread::sleep(PAUSE); }"),
        ("src/store/change.rs", "// On panic: the caller gets an error.\ntokio::spawn(work);"),
        ("src/store/change.rs", "fn spawn(x: X) {}\nlet child = command.spawn();\nprocess::spawn(settings, lock);"),
        ("src/store/change.rs", "#[cfg(test)]\nmod tests {\n    fn f() { tokio::spawn(work); }\n}"),
    ] {
        assert_eq!(judge(path, text), Vec::<String>::new(), "in {path}: {text:?}");
    }
}
