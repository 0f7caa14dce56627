//! The words of the view: what stands in each column, and how times and rates are written.

use super::figures::{Cluster, Hsm};
use crate::status::age;

/// The columns. Those from [`FIRST_FIGURE`] on are figures and stand to the right.
pub(super) const HEADINGS: [&str; 11] =
    ["zone", "hsm", "state", "for", "ops/s", "p50", "p99", "queue", "workers", "ops", "failed"];

/// Where the figures begin.
pub(super) const FIRST_FIGURE: usize = 3;

/// Where the state is.
pub(super) const STATE: usize = 2;

/// An HSM's line.
pub(super) fn cells(hsm: &Hsm) -> [String; HEADINGS.len()] {
    let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    [
        hsm.zone.clone(),
        hsm.hsm_id.clone(),
        hsm.health.to_owned(),
        or_dash(hsm.seconds_since.map(age)),
        or_dash(hsm.operations_per_second.map(rate)),
        or_dash(hsm.p50_seconds.map(latency)),
        or_dash(hsm.p99_seconds.map(latency)),
        format!("{}/{}", hsm.queue_depth, hsm.capacity),
        format!("{}/{}", hsm.ready_workers, hsm.workers),
        hsm.operations.to_string(),
        hsm.failures.to_string(),
    ]
}

/// The key store over a cluster.
pub(super) fn key_store(cluster: &Cluster) -> String {
    match (&cluster.key_store_name, &cluster.key_store_id) {
        (Some(name), Some(id)) => format!("{name} ({id})"),
        (None, Some(id)) => id.clone(),
        (_, None) => "none".to_owned(),
    }
}

/// What all HSMs of a cluster do together, fact by fact.
pub(super) fn totals(cluster: &Cluster) -> [String; 3] {
    let rate = cluster.operations_per_second().map_or_else(|| "-".to_owned(), rate);
    let (depth, capacity) = cluster.queue();
    [
        format!("{} of {} HSMs healthy", cluster.healthy(), cluster.hsms.len()),
        format!("{rate} operations a second, {} in all", cluster.operations()),
        format!("queue {depth}/{capacity}"),
    ]
}

/// A rate: with a decimal where there is little else to see.
fn rate(rate: f64) -> String {
    if rate > 0.0 && rate < 10.0 { format!("{rate:.1}") } else { format!("{rate:.0}") }
}

/// A time of three digits or so.
fn latency(seconds: f64) -> String {
    let (count, unit) = match seconds {
        ..0.001 => (seconds * 1e6, "us"),
        ..1.0 => (seconds * 1e3, "ms"),
        _ => (seconds, "s"),
    };
    if count < 10.0 { format!("{count:.1} {unit}") } else { format!("{count:.0} {unit}") }
}

/// Breaks a sentence into lines of at most `width` columns, at its spaces where it can.
pub(super) fn wrap(text: &str, width: usize) -> Vec<String> {
    let width = width.max(1);
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let mut rest: Vec<char> = word.chars().collect();
        let last = lines.last().map_or(0, |line| line.chars().count());
        if last > 0 && last + 1 + rest.len() > width {
            lines.push(String::new());
        } else if last > 0 {
            lines.iter_mut().last().into_iter().for_each(|line| line.push(' '));
        }
        while !rest.is_empty() {
            let used = lines.last().map_or(0, |line| line.chars().count());
            let taken = rest.len().min(width.saturating_sub(used));
            lines.iter_mut().last().into_iter().for_each(|line| line.extend(rest.drain(..taken)));
            if !rest.is_empty() {
                lines.push(String::new());
            }
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_rates_are_short() {
        assert_eq!([0.0, 0.25, 9.9, 10.4, 123_456.7].map(rate), ["0", "0.2", "9.9", "10", "123457"]);
        assert_eq!([12.5e-6, 250e-6, 1.5e-3, 0.25, 26.2].map(latency), ["12 us", "250 us", "1.5 ms", "250 ms", "26 s"]);
    }

    #[test]
    fn sentences_are_broken_at_spaces_and_words_only_where_they_must() {
        assert_eq!(wrap("the module is missing", 10), ["the module", "is missing"]);
        assert_eq!(wrap("a/very/long/path here", 6), ["a/very", "/long/", "path", "here"]);
        assert_eq!(wrap("", 10), [""]);
        assert_eq!(wrap("ab", 0), ["a", "b"]);
    }
}
