//! `keystorectl top`: what each HSM does, now.
//!
//! The service counts and never forgets; this command looks twice and shows the difference. `figures` computes it and
//! `view` draws it, both without I/O; `screen` has the terminal, `watch` the loop between them.

mod cells;
mod figures;
#[cfg(test)]
mod fixture;
mod screen;
mod view;
mod watch;

use std::io::IsTerminal;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tokio::time::{sleep, timeout};

use super::failure::{Exit, Failure};
use super::printer::{Report, facts, table};
use super::{Context, parse};
use cells::{HEADINGS, cells};
use client::Client;
use figures::{Cluster, Look, compare};
use model::clock::Clock;

/// A look takes a moment; a service that has not answered by then is shown as one that does not.
const PATIENCE: Duration = Duration::from_secs(5);
/// Past this no look is waited for, whatever the connection does: connecting anew has its own bound, before the call's.
const GIVE_UP: Duration = Duration::from_secs(15);
/// Looks that follow closer than this show noise and cost the service more than they tell.
const SHORTEST: Duration = Duration::from_millis(100);

const KEYS: &str = "\
Columns:
  FOR       how long the HSM has been in its state
  OPS/S     operations since the last look; an item of a batch is an operation
  P50 P99   half, and 99 %, of the requests since the last look were answered by the HSM within this time
  QUEUE     operations that wait for the HSM or are in it / that it can have in hand at once
  WORKERS   data workers that take requests / that there should be
  OPS       operations since the service began to use the HSM
  FAILED    requests that came to nothing by the HSM's own fault since then

A service that does not answer is asked again; each answer is waited for 5s, or as --timeout says.
Keys: q, Esc and Ctrl-C quit; arrows scroll.";

#[derive(Debug, Args)]
#[command(after_help = KEYS)]
pub(super) struct Arguments {
    /// Cluster id [default: all of the configuration]
    #[arg(value_parser = parse::cluster_id)]
    cluster: Option<String>,
    /// How often to look, like 500ms or 2s
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = parse::duration)]
    every: Duration,
    /// Look twice, print one table and end. Needs no terminal
    #[arg(long)]
    once: bool,
}

pub(super) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    arguments.check(context.printer.json())?;
    let client = context.connection.connect_for(PATIENCE).await?;
    let source = Source { client, cluster: arguments.cluster, clock: context.clock.clone() };
    // What is wrong from the beginning, such as a cluster that there is not, is an error and no view.
    let first = source.look().await?;
    if !arguments.once {
        return watch::run(source, first, arguments.every).await;
    }
    sleep(arguments.every).await;
    let second = source.look().await?;
    let seconds = second.at.saturating_duration_since(first.at).as_secs_f64();
    context.printer.report(&Once { seconds, clusters: compare(Some(&first), &second) })
}

impl Arguments {
    fn check(&self, json: bool) -> Result<(), Failure> {
        if self.every < SHORTEST {
            return Err(Failure::usage(format!("--every must be at least {SHORTEST:?}")));
        }
        if self.once {
            return Ok(());
        }
        if json {
            return Err(Failure::usage("a view is no JSON").with_hint("with --once, --json prints one look"));
        }
        if !std::io::stdout().is_terminal() || !std::io::stdin().is_terminal() {
            return Err(Failure::usage("standard input and output must be a terminal")
                .with_hint("--once prints one table and needs no terminal"));
        }
        Ok(())
    }
}

/// Where looks come from.
struct Source {
    client: Client,
    cluster: Option<String>,
    clock: Clock,
}

impl Source {
    async fn look(&self) -> Result<Look, Failure> {
        let late = |_| Failure::new(Exit::Retryable, format!("no answer within {GIVE_UP:?}"));
        let answer = timeout(GIVE_UP, self.client.get_statistics(self.cluster.as_deref())).await.map_err(late)??;
        Ok(Look { at: self.clock.now(), answer })
    }
}

/// One look, compared with another.
#[derive(Serialize)]
struct Once {
    /// Between the two.
    seconds: f64,
    clusters: Vec<Cluster>,
}

impl Report for Once {
    fn text(&self) -> String {
        if self.clusters.is_empty() {
            return "There are no clusters in the configuration.".to_owned();
        }
        self.clusters.iter().map(text).collect::<Vec<_>>().join("\n\n")
    }
}

fn text(cluster: &Cluster) -> String {
    let [healthy, operations, queue] = cells::totals(cluster);
    let facts = facts([
        ("Cluster", cluster.cluster_id.clone()),
        ("Key store", cells::key_store(cluster)),
        ("Connection", cluster.connection_state.unwrap_or_default().to_owned()),
        ("Now", [healthy, operations, queue].join(", ")),
    ]);
    let rows = table(&HEADINGS, cluster.hsms.iter().map(|hsm| cells(hsm).to_vec()));
    let told = cluster.hsms.iter().filter(|hsm| !hsm.reason.is_empty());
    let reasons: Vec<String> = told.map(|hsm| format!("\n{}: {}", hsm.hsm_id, hsm.reason)).collect();
    let gap = if reasons.is_empty() { "" } else { "\n" };
    format!("{facts}\n\n{rows}{gap}{}", reasons.concat())
}

#[cfg(test)]
mod tests {
    use super::fixture::{Counts, hsm, look};
    use super::*;
    use proto::v1 as wire;

    fn once() -> Once {
        let busy = |items| hsm("hsm-a", Counts { items, failures: 0, latency: [items, 0, 0, 0] });
        let mut suspect = hsm("hsm-b", Counts { items: 7, failures: 2, latency: [7, 0, 0, 0] });
        if let Some(status) = &mut suspect.status {
            status.set_health(wire::HsmHealth::Suspect);
            status.reason = "no reply for 150 ms".to_owned();
        }
        let before = look(vec![busy(0), suspect.clone()]);
        let now = Look { at: before.at + Duration::from_secs(2), ..look(vec![busy(5), suspect]) };
        Once { seconds: 2.0, clusters: compare(Some(&before), &now) }
    }

    #[test]
    fn one_table_has_what_the_view_has() {
        let expected = "\
Cluster     cluster-keystoredev
Key store   lab (cks-1)
Connection  CONNECTED
Now         1 of 2 HSMs healthy, 2.5 operations a second, 12 in all, queue 6/16

ZONE    HSM    STATE    FOR     OPS/S  P50     P99     QUEUE  WORKERS  OPS  FAILED
zone-a  hsm-a  Healthy  1m 30s  2.5    500 us  990 us  3/8    2/2      5    0
zone-b  hsm-b  Suspect  1m 30s  0      -       -       3/8    2/2      7    2

hsm-b: no reply for 150 ms";
        assert_eq!(once().text(), expected);
    }

    #[test]
    fn json_has_figures_and_no_words_for_them() {
        let json = serde_json::to_value(once()).unwrap();
        let hsm = &json["clusters"][0]["hsms"][0];
        assert_eq!((&hsm["hsm_id"], &hsm["operations"]), (&"hsm-a".into(), &5.into()));
        assert_eq!(hsm["operations_per_second"], 2.5);
        assert_eq!(json["clusters"][0]["hsms"][1]["p50_seconds"], serde_json::Value::Null);
    }

    #[test]
    fn a_view_needs_a_terminal_and_a_pause() {
        let arguments = |every, once| Arguments { cluster: None, every: Duration::from_millis(every), once };
        assert!(arguments(1_000, true).check(true).is_ok());
        assert_eq!(arguments(1, true).check(false).unwrap_err().exit, Exit::Usage);
        let json = arguments(1_000, false).check(true).unwrap_err();
        assert!(json.hint.unwrap().contains("--once"));
    }
}
