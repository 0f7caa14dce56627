//! A token is lost and a blank one takes its place: how long until it holds every key, and what callers notice of that.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::clock::Clock;
use proto::v1::{ClusterHsm, HsmHealth};
use tokio::process::Command;

use super::calls::{Calls, Came};
use super::daemon::{Daemon, hsms};
use super::raw::softhsm_conf;
use super::table::{Must, Row, thousands};
use super::watch::Watch;
use super::{Outcome, said};

const PROGRAM: &str = env!("CARGO_BIN_EXE_keystorectl");
const RATE: u32 = 500;
const IN_FLIGHT: u32 = 16;
const WARM_UP: Duration = Duration::from_millis(500);
const BEFORE: Duration = Duration::from_secs(5);
/// Longer than it may take; the calls end when the new token is full.
const DURING: Duration = Duration::from_secs(120);
/// Making a key writes two tokens and proves it in both; filling writes one, and rests for half of the time that each key
/// took.
const FILL: f64 = 2.0;
const LOST: &str = "hsm-b";
/// A lost token's id stays tied to it, so the new one has another.
const NEW: &str = "hsm-c";

pub(super) async fn measure(dir: &Path, count: usize, clock: &Clock) -> Outcome<Vec<Row>> {
    let daemon = Daemon::start(&dir.join("dev"), clock).await?;
    let began = clock.now();
    let keys = daemon.create_keys(count).await?;
    let made = clock.now() - began;
    let watch = Watch::over(&daemon, clock).await?;
    for hsm in ["hsm-a", LOST] {
        watch.until_whole(hsm).await?;
    }
    let calls = Calls {
        environment: &daemon.environment,
        key: keys.first().ok_or("no key was made")?,
        operation: "decrypt",
        in_flight: IN_FLIGHT,
        connections: 1,
        rate: Some(RATE),
        warm_up: WARM_UP,
        length: BEFORE,
        deadline: None,
    };
    eprintln!("  before ...");
    let before = calls.run().await?;

    let conf = softhsm_conf(&dir.join("new"))?;
    daemon.reconfigure(|config| replace(config, &conf))?;
    watch.until(async || watch.member(NEW).await).await?;
    eprintln!("  during ...");
    let running = Calls { length: DURING, ..calls }.start()?;
    let began = clock.now();
    add(dir, &daemon).await?;
    let joined = clock.now() - began;
    watch.until(async || Ok(watch.member(NEW).await?.filter(full).map(|_| ()))).await?;
    let filled = clock.now() - began;
    running.interrupt();
    let during = running.ended().await?;

    let times = |came: &Came| format!("p50 {:.2} ms, p99 {:.2} ms, {}", came.p50, came.p99, came.by_name());
    Ok(vec![Row::new(
        format!("a blank token for a lost one, {} keys placed in it / making them", thousands(count as f64)),
        filled.as_secs_f64() / made.as_secs_f64(),
        Must::BeAtMost(FILL),
        format!(
            "{:.1} s, of which {:.1} s for the ceremony and to join; the keys were made in {:.1} s\ncalls beside it at {RATE}/s: {}\nbefore it: {}",
            filled.as_secs_f64(),
            joined.as_secs_f64(),
            made.as_secs_f64(),
            times(&during),
            times(&before)
        ),
    )])
}

/// The new HSM in the place of the lost one.
fn replace(config: &mut toml::Table, conf: &Path) -> Outcome<()> {
    let hsms = hsms(config)?;
    let lost = hsms.iter_mut().find(|hsm| hsm.get("id").and_then(toml::Value::as_str) == Some(LOST));
    let hsm = lost.and_then(toml::Value::as_table_mut).ok_or("the configuration does not have the HSM")?;
    hsm.insert("id".to_owned(), NEW.into());
    hsm.insert("token_label".to_owned(), "zone-b-new".into());
    hsm.remove("token_serials");
    let variables = toml::Table::from_iter([("SOFTHSM2_CONF".to_owned(), conf.display().to_string().into())]);
    hsm.insert("env".to_owned(), variables.into());
    Ok(())
}

/// Brings the blank token in, as an operator does.
async fn add(dir: &Path, daemon: &Daemon) -> Outcome<()> {
    let (pin, so_pin) = (secret(&dir.join("new.pin"), "1357913579")?, secret(&dir.join("new.so-pin"), "2468024680")?);
    let output = Command::new(PROGRAM)
        .args(["cluster", "add-hsm", NEW])
        .arg("--config")
        .arg(&daemon.config)
        .arg("--folder")
        .arg(dir.join("dev").join("ceremony"))
        .arg("--pin-file")
        .arg(&pin)
        .arg("--so-pin-file")
        .arg(&so_pin)
        .envs(&daemon.environment)
        .output()
        .await
        .map_err(said("starting keystorectl"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("keystorectl cluster add-hsm failed: {}", String::from_utf8_lossy(&output.stderr)))
}

/// A file that its owner alone can read; others are refused.
fn secret(file: &Path, text: &str) -> Outcome<PathBuf> {
    let opened = fs::OpenOptions::new().create_new(true).write(true).mode(0o600).open(file);
    opened.and_then(|mut opened| opened.write_all(text.as_bytes())).map_err(said("writing a PIN"))?;
    Ok(file.to_owned())
}

/// It serves and holds every key.
fn full(hsm: &ClusterHsm) -> bool {
    let serves = hsm.status.as_ref().is_some_and(|status| status.health() == HsmHealth::Healthy && status.proven);
    hsm.joined && hsm.keys_missing == 0 && serves
}
