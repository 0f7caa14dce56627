//! A hundred thousand bad ciphertexts beside a good caller: who sends them must hurt neither the caller nor the health of
//! a zone.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use client::Client;
use futures_util::future::join_all;
use hdrhistogram::Histogram;
use model::clock::Clock;
use proto::v1::{DecryptRequest, EncryptRequest, HsmHealth};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::Command;
use tokio::time::interval;

use super::calls::named;
use super::daemon::{Daemon, Environment, connect};
use super::table::{Must, Row, thousands};
use super::watch::Watch;
use super::{Outcome, PLAINTEXT_BYTES, ops, said};

const CALLS: usize = 100_000;
const IN_FLIGHT: usize = 32;
/// The good caller's calls in flight.
const GOOD_IN_FLIGHT: usize = 2;
/// Between two looks at the zones.
const LOOK: Duration = Duration::from_millis(100);
const PLAINTEXT: [u8; PLAINTEXT_BYTES] = [0x5a; PLAINTEXT_BYTES];
/// Length of the tag, with which a ciphertext ends.
const TAG_BYTES: usize = 16;
const BAD: &str = "InvalidCiphertextException";
const LONGEST: u64 = 60_000_000_000;

/// What the good caller and the zones have seen of a flood.
struct Seen {
    /// Of the good caller, in milliseconds.
    p50: f64,
    p99: f64,
    calls: u64,
    /// Of the good caller, by name; a wrong plaintext is one too.
    failures: BTreeMap<String, u64>,
    /// Looks at zones, and those that found one not healthy.
    looks: u64,
    unhealthy: u64,
    /// Changes of health that were counted meanwhile.
    changes: f64,
    /// Why workers were lost meanwhile.
    losses: Vec<String>,
    /// The flood's answers by name.
    answers: BTreeMap<String, u64>,
    /// The flood's calls a second.
    rate: f64,
}

pub(super) async fn measure(dir: &Path, clock: &Clock) -> Outcome<Vec<Row>> {
    let daemon = Daemon::start(dir, clock).await?;
    let key = daemon.create_keys(1).await?.pop().ok_or("no key was made")?;
    let watch = Watch::over(&daemon, clock).await?;
    for hsm in ["hsm-a", "hsm-b"] {
        watch.until_whole(hsm).await?;
    }
    let good = beside(&daemon, &watch, "good", &key, clock).await?;
    let bad = beside(&daemon, &watch, "bad", &key, clock).await?;
    let refused = bad.answers.get(BAD).copied().unwrap_or(0);
    let calls = thousands(CALLS as f64);
    let failures: u64 = good.failures.values().chain(bad.failures.values()).sum();
    Ok(vec![
        Row::new(
            format!("{calls} bad ciphertexts: a good caller's p99 / with good ones"),
            bad.p99 / good.p99,
            Must::BeAtMost(2.0),
            format!("beside bad ones: {}\nbeside good ones: {}", bad.times(), good.times()),
        ),
        Row::new(
            "the same: failed or wrong answers to the good caller",
            failures as f64,
            Must::BeNone,
            format!("beside bad ones: {}; beside good ones: {}", named(&bad.failures), named(&good.failures)),
        ),
        Row::new(
            format!("the same: answers other than {BAD}"),
            (CALLS as u64 - refused) as f64,
            Must::BeNone,
            named(&bad.answers),
        ),
        Row::new(
            "the same: zones found not healthy, and changes of health",
            bad.unhealthy as f64 + bad.changes,
            Must::BeNone,
            bad.zones(),
        ),
    ])
}

impl Seen {
    fn zones(&self) -> String {
        let Self { looks, unhealthy, changes, losses, .. } = self;
        let mut text = format!("{looks} looks found {unhealthy} not healthy; {} changes", thousands(*changes));
        for loss in losses {
            text.push_str("\na worker was lost: ");
            text.push_str(loss);
        }
        text
    }

    fn times(&self) -> String {
        let Self { p50, p99, calls, rate, .. } = self;
        format!("p50 {p50:.2} ms, p99 {p99:.2} ms of {} calls; flood {}/s", thousands(*calls as f64), thousands(*rate))
    }
}

/// Has a process of its own send a flood, and calls beside it until it has ended.
async fn beside(daemon: &Daemon, watch: &Watch, kind: &str, key: &str, clock: &Clock) -> Outcome<Seen> {
    eprintln!("  {kind} ciphertexts ...");
    let client = connect(&daemon.environment).await?;
    let ciphertext = encrypt(&client, key).await?;
    let (changes, losses) = (ops::health_changes(&daemon.environment)?, daemon.losses().len());
    let program = std::env::current_exe().map_err(said("finding this program"))?;
    let mut flood = Command::new(program)
        .args(["flood", kind, key])
        .envs(&daemon.environment)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(said("starting the flood"))?;
    let mut output = BufReader::new(flood.stdout.take().ok_or("the flood has no pipe")?);
    let mut line = String::new();
    output.read_line(&mut line).await.map_err(said("waiting for the flood"))?;

    let over = AtomicBool::new(false);
    let flooding = async {
        let mut rest = String::new();
        let read = output.read_to_string(&mut rest).await.map_err(said("reading the flood's figures"));
        over.store(true, Ordering::Relaxed);
        read.map(|_| rest)
    };
    let callers = join_all((0..GOOD_IN_FLIGHT).map(|_| call(&client, &ciphertext, &over, clock)));
    let (rest, callers, looks) = tokio::join!(flooding, callers, look(watch, &over));
    let (looks, unhealthy) = looks?;
    flood.wait().await.map_err(said("waiting for the flood"))?;
    let figures: Value = serde_json::from_str(&rest?).map_err(said("reading the flood's figures"))?;
    let answers = figures["answers"].as_object().into_iter().flatten();
    let mut seen = Seen {
        p50: 0.0,
        p99: 0.0,
        calls: 0,
        failures: BTreeMap::new(),
        looks,
        unhealthy,
        changes: ops::health_changes(&daemon.environment)? - changes,
        losses: daemon.losses().split_off(losses),
        answers: answers.map(|(name, count)| (name.clone(), count.as_u64().unwrap_or(0))).collect(),
        rate: CALLS as f64 / figures["seconds"].as_f64().unwrap_or(f64::NAN),
    };
    let mut latencies = histogram()?;
    for caller in callers {
        let (times, failures) = caller?;
        latencies.add(times).map_err(said("adding latencies"))?;
        for failure in failures {
            *seen.failures.entry(failure).or_default() += 1;
        }
    }
    let milliseconds = |quantile: f64| latencies.value_at_quantile(quantile) as f64 / 1e6;
    (seen.p50, seen.p99, seen.calls) = (milliseconds(0.5), milliseconds(0.99), latencies.len());
    Ok(seen)
}

/// The good caller: one call after the other until it is over, each answer checked.
async fn call(
    client: &Client,
    ciphertext: &[u8],
    over: &AtomicBool,
    clock: &Clock,
) -> Outcome<(Histogram<u64>, Vec<String>)> {
    let (mut times, mut failures) = (histogram()?, Vec::new());
    while !over.load(Ordering::Relaxed) {
        let began = clock.now();
        let answer = client.decrypt(decrypt(ciphertext.to_vec())).await;
        times.saturating_record(u64::try_from((clock.now() - began).as_nanos()).unwrap_or(LONGEST));
        match answer {
            Ok(opened) if opened.plaintext.expose() == PLAINTEXT => {}
            Ok(_) => failures.push("wrong plaintext".to_owned()),
            Err(error) => failures.push(error.name().to_owned()),
        }
    }
    Ok((times, failures))
}

/// Looks at the zones until it is over; how often, and how often one was not healthy.
async fn look(watch: &Watch, over: &AtomicBool) -> Outcome<(u64, u64)> {
    let (mut looks, mut unhealthy) = (0, 0);
    let mut due = interval(LOOK);
    while !over.load(Ordering::Relaxed) {
        due.tick().await;
        looks += 1;
        unhealthy += u64::from(watch.hsms().await?.iter().any(|hsm| hsm.health() != HsmHealth::Healthy));
    }
    Ok((looks, unhealthy))
}

/// The flood itself, in a process of its own: `flood good|bad KEY`. The first line of standard output says that it
/// begins, the second what came of it.
pub(super) fn run(arguments: &[OsString], clock: &Clock) -> Outcome<()> {
    let text = |at: usize| arguments.get(at).and_then(|argument| argument.to_str()).ok_or("an argument is missing");
    let (kind, key) = (text(1)?, text(2)?);
    let environment: Environment = std::env::vars().filter(|(name, _)| name.starts_with("KEYSTORED_")).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().map_err(said("starting"))?;
    let (answers, taken) = runtime.block_on(flood(&environment, kind == "bad", key, clock))?;
    println!("{}", serde_json::json!({ "seconds": taken.as_secs_f64(), "answers": answers }));
    Ok(())
}

async fn flood(
    environment: &Environment,
    bad: bool,
    key: &str,
    clock: &Clock,
) -> Outcome<(BTreeMap<String, u64>, Duration)> {
    let client = connect(environment).await?;
    let good = encrypt(&client, key).await?;
    println!("begins");
    std::io::stdout().flush().map_err(said("saying that the flood begins"))?;
    let (next, began) = (AtomicUsize::new(0), clock.now());
    let one = async || {
        let mut answers: BTreeMap<String, u64> = BTreeMap::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= CALLS {
                return answers;
            }
            let mut ciphertext = good.clone();
            if bad {
                // Another bit of the tag each time.
                let at = ciphertext.len() - 1 - number / 8 % TAG_BYTES;
                ciphertext[at] ^= 1 << (number % 8);
            }
            let name = match client.decrypt(decrypt(ciphertext)).await {
                Ok(_) => "opened".to_owned(),
                Err(error) => error.name().to_owned(),
            };
            *answers.entry(name).or_default() += 1;
        }
    };
    let mut sum: BTreeMap<String, u64> = BTreeMap::new();
    for (name, count) in join_all((0..IN_FLIGHT).map(|_| one())).await.into_iter().flatten() {
        *sum.entry(name).or_default() += count;
    }
    Ok((sum, clock.now() - began))
}

async fn encrypt(client: &Client, key: &str) -> Outcome<Vec<u8>> {
    let request = EncryptRequest { key_id: key.to_owned(), plaintext: PLAINTEXT.to_vec(), ..Default::default() };
    let answer = client.encrypt(request).await.map_err(said("encrypting"))?;
    Ok(answer.ciphertext_blob.into())
}

fn decrypt(ciphertext: Vec<u8>) -> DecryptRequest {
    DecryptRequest { ciphertext_blob: ciphertext.into(), ..Default::default() }
}

fn histogram() -> Outcome<Histogram<u64>> {
    Histogram::new_with_bounds(100, LONGEST, 3).map_err(said("making a histogram"))
}
