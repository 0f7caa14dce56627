//! `keystorectl bench`: a load generator.
//!
//! Closed loop: each of the calls in flight is followed by the next one when it is answered, and latency counts from
//! when it was sent. Open loop (`--rate`): calls are due at fixed times, and latency counts from when a call was due,
//! so that a service that stalls cannot hide the calls it kept from being sent.
//!
//! With `--key` and the operation `encrypt`, nothing but that operation is called. Messages are encoded before the run
//! and answers are not decoded beyond what tells a result from an error, so that on a machine shared with the service
//! the processor is left to the service.

mod keys;
mod load;
mod messages;
mod pace;
mod statistics;

use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::failure::{Exit, Failure};
use super::printer::{Report, facts, table};
use super::{Context, interruption, parse};
use client::MAX_CONNECTIONS;
use messages::Messages;
use model::limits;
use pace::Pace;
use statistics::{Latency, Statistics};

/// How calls are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Mode {
    /// One item a call
    Unary,
    /// Many items a call
    Batch,
    /// Many items on one stream for each connection
    Stream,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Operation {
    Encrypt,
    Decrypt,
    GenerateDataKey,
    /// From each key to the one that was given after it, and from the last to the first; one alone to itself
    ReEncrypt,
}

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// How calls are made
    mode: Mode,
    /// Key id, key ARN or alias; may be given several times
    #[arg(long = "key", value_name = "KEY", required_unless_present = "keys")]
    key: Vec<String>,
    /// Use this many keys, picked uniformly: the first ones listed; missing ones are made
    #[arg(long, value_name = "COUNT", conflicts_with = "key", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    keys: Option<u32>,
    /// What is called
    #[arg(long, value_name = "OPERATION", default_value = "encrypt")]
    operation: Operation,
    /// Calls in flight; with `stream`, items in flight [default: 64, with `batch` 8]
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    in_flight: Option<u32>,
    /// Connections; calls are spread over them
    #[arg(long, value_name = "COUNT", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=MAX_CONNECTIONS as i64))]
    connections: u32,
    /// Items of one call, with `batch`
    #[arg(long, value_name = "COUNT", default_value_t = 256,
          value_parser = clap::value_parser!(u32).range(1..=limits::BATCH_ITEMS as i64))]
    batch_size: u32,
    /// Plaintext bytes of an item
    #[arg(long, value_name = "BYTES", default_value_t = 32,
          value_parser = clap::value_parser!(u32).range(1..=limits::PLAINTEXT_BYTES as i64))]
    payload: u32,
    /// Give each item one of so many encryption contexts, `item=NUMBER`
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    contexts: Option<u32>,
    /// How long, like 500ms, 5s or 2m
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = parse::duration, conflicts_with = "calls")]
    duration: Duration,
    /// How many calls instead of how long
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u64).range(1..))]
    calls: Option<u64>,
    /// Open loop: so many calls a second, whether or not the ones before were answered
    #[arg(long, value_name = "PER_SECOND", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    rate: Option<u32>,
    /// Run this long before measuring
    #[arg(long, value_name = "TIME", value_parser = parse::duration)]
    warm_up: Option<Duration>,
}

impl Arguments {
    /// Items that one call carries.
    fn items_per_call(&self) -> u32 {
        if self.mode == Mode::Batch { self.batch_size } else { 1 }
    }

    /// Calls in flight. Fewer where a call carries many items: the service bounds the items that one caller has in
    /// work.
    fn in_flight(&self) -> u32 {
        self.in_flight.unwrap_or(if self.mode == Mode::Batch { 8 } else { 64 })
    }

    fn check(&self) -> Result<(), Failure> {
        if self.mode == Mode::Stream && self.operation == Operation::GenerateDataKey {
            return Err(Failure::usage("the stream carries encrypt, decrypt and re-encrypt only"));
        }
        if self.operation == Operation::GenerateDataKey && self.payload as usize > limits::RANDOM_BYTES {
            return Err(Failure::usage(format!("a data key has at most {} bytes", limits::RANDOM_BYTES)));
        }
        // A ciphertext is longer than its plaintext by header, IV and tag.
        let of_ciphertext = matches!(self.operation, Operation::Decrypt | Operation::ReEncrypt);
        let item = self.payload as usize + if of_ciphertext { 49 } else { 0 };
        if item * self.items_per_call() as usize > limits::BATCH_BYTES {
            return Err(Failure::usage(format!("a batch carries at most {} bytes", limits::BATCH_BYTES))
                .with_hint("take a smaller --batch-size or --payload"));
        }
        Ok(())
    }
}

pub(super) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    arguments.check()?;
    let client = context.connection.connect_many(arguments.connections as usize).await?;
    let keys = keys::choose(context, &client, &arguments).await?;
    let bodies = messages::encode(&client, &arguments, &keys).await?;
    let load = load::Load {
        client,
        mode: arguments.mode,
        operation: arguments.operation,
        in_flight: arguments.in_flight() as usize,
        messages: Messages::new(bodies, arguments.items_per_call() as usize),
        clock: context.clock.clone(),
    };
    context.printer.note(describe(&arguments, keys.len()));
    if let Some(warm_up) = arguments.warm_up {
        let extent = pace::Extent { duration: Some(warm_up), calls: None };
        load.run(&Pace::start(&context.clock, extent, arguments.rate, load.in_flight)).await;
    }
    let duration = arguments.calls.is_none().then_some(arguments.duration);
    let extent = pace::Extent { duration, calls: arguments.calls };
    let pace = Pace::start(&context.clock, extent, arguments.rate, load.in_flight);
    let watch = {
        let pace = Arc::clone(&pace);
        // On panic: an interrupt ends nothing early.
        tokio::spawn(async move {
            interruption().await;
            pace.stop();
        })
    };
    let mut statistics = load.run(&pace).await;
    watch.abort();
    statistics.unstarted = pace.unstarted();
    let figures = Figures::new(&arguments, keys.len(), pace.elapsed(), &statistics);
    context.printer.report(&figures)?;
    match statistics.first_failure {
        Some(error) if statistics.items == 0 => Err(error.into()),
        None if statistics.items == 0 => Err(Failure::new(Exit::Interrupted, "no call was made")),
        _ => Ok(()),
    }
}

fn describe(arguments: &Arguments, keys: usize) -> String {
    let Arguments { connections, payload, .. } = arguments;
    let in_flight = arguments.in_flight();
    let operation = name(arguments.operation);
    let shape = match arguments.mode {
        Mode::Unary => format!("unary {operation}"),
        Mode::Batch => format!("{operation} in batches of {}", arguments.batch_size),
        Mode::Stream => format!("{operation} on streams"),
    };
    let extent = match arguments.calls {
        Some(calls) => format!("{calls} calls"),
        None => format!("{:?}", arguments.duration),
    };
    let rate = arguments.rate.map(|rate| format!(", {rate} a second")).unwrap_or_default();
    let keys = counted(keys, "key");
    let connections = counted(*connections as usize, "connection");
    format!("{extent} of {shape}{rate}: {payload} bytes, {keys}, {in_flight} in flight on {connections}")
}

fn counted(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

/// The result. Field names are part of the interface.
#[derive(Serialize)]
struct Figures {
    mode: &'static str,
    operation: &'static str,
    keys: usize,
    in_flight: u32,
    connections: u32,
    /// Items of one call: 1 but for batches.
    batch_size: u32,
    payload_bytes: u32,
    /// Calls a second that were wanted; null for the closed loop.
    rate: Option<u32>,
    /// Calls that were answered, with whatever. On streams each item counts as one.
    calls: u64,
    /// Items that succeeded.
    items: u64,
    /// From the first call to the last answer.
    seconds: f64,
    items_per_second: f64,
    calls_per_second: f64,
    #[serde(flatten)]
    latency: Latency,
    /// Failed items by exception, and failed calls by exception or gRPC code.
    errors: std::collections::BTreeMap<String, u64>,
    /// With `--rate`: calls that were due but could not be sent before the end, because all in flight were waiting.
    unstarted: u64,
    #[serde(skip)]
    first_failure: Option<String>,
}

impl Figures {
    fn new(arguments: &Arguments, keys: usize, elapsed: Duration, statistics: &Statistics) -> Self {
        let seconds = elapsed.as_secs_f64();
        let per_second = |count: u64| (count as f64 / seconds.max(1e-9) * 10.0).round() / 10.0;
        Self {
            mode: match arguments.mode {
                Mode::Unary => "unary",
                Mode::Batch => "batch",
                Mode::Stream => "stream",
            },
            operation: name(arguments.operation),
            keys,
            in_flight: arguments.in_flight(),
            connections: arguments.connections,
            batch_size: arguments.items_per_call(),
            payload_bytes: arguments.payload,
            rate: arguments.rate,
            calls: statistics.calls,
            items: statistics.items,
            seconds,
            items_per_second: per_second(statistics.items),
            calls_per_second: per_second(statistics.calls),
            latency: statistics.latency(),
            errors: statistics.errors.clone(),
            unstarted: statistics.unstarted,
            first_failure: statistics.first_failure.as_ref().map(ToString::to_string),
        }
    }
}

impl Report for Figures {
    fn text(&self) -> String {
        let latency = &self.latency;
        let mut text = facts([
            ("Calls", format!("{} in {:.2} s, {:.0} a second", self.calls, self.seconds, self.calls_per_second)),
            ("Items", format!("{}, {:.0} a second", self.items, self.items_per_second)),
            ("Not started", if self.unstarted > 0 { self.unstarted.to_string() } else { String::new() }),
        ]);
        let figures = [latency.p50_us, latency.p90_us, latency.p99_us, latency.p999_us, latency.max_us];
        text.push_str("\n\n");
        text.push_str(&table(
            &["latency of a call", "p50", "p90", "p99", "p99.9", "max"],
            [std::iter::once("microseconds".to_owned()).chain(figures.map(|figure| format!("{figure:.1}"))).collect()],
        ));
        if !self.errors.is_empty() {
            text.push_str("\n\n");
            let rows = self.errors.iter().map(|(name, count)| vec![name.clone(), count.to_string()]);
            text.push_str(&table(&["error", "count"], rows));
            if let Some(first) = &self.first_failure {
                text.push_str("\nfirst: ");
                text.push_str(first);
            }
        }
        text
    }
}

fn name(operation: Operation) -> &'static str {
    match operation {
        Operation::Encrypt => "encrypt",
        Operation::Decrypt => "decrypt",
        Operation::GenerateDataKey => "generate-data-key",
        Operation::ReEncrypt => "re-encrypt",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_has_the_figures_by_their_names() {
        let figures = Figures {
            mode: "unary",
            operation: "encrypt",
            keys: 1,
            in_flight: 1,
            connections: 1,
            batch_size: 1,
            payload_bytes: 32,
            rate: None,
            calls: 10,
            items: 9,
            seconds: 1.0,
            items_per_second: 9.0,
            calls_per_second: 10.0,
            latency: Latency { p50_us: 1.0, p90_us: 2.0, p99_us: 3.0, p999_us: 4.0, max_us: 5.0 },
            errors: [("ThrottlingException".to_owned(), 1)].into(),
            unstarted: 0,
            first_failure: Some("ThrottlingException: busy".to_owned()),
        };
        let json = serde_json::to_value(&figures).unwrap();
        for field in ["calls", "items", "seconds", "items_per_second", "p50_us", "p99_us", "p999_us", "max_us"] {
            assert!(json[field].is_number(), "{field}");
        }
        assert_eq!(json["errors"]["ThrottlingException"], 1);
        assert!(figures.text().contains("first: ThrottlingException: busy"));
    }
}
