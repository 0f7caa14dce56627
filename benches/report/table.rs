//! Medians, the ratios that must be reached, and how both are shown.

use std::fmt::Write as _;

/// What was measured in each round.
#[derive(Default)]
pub(super) struct Rounds {
    /// Encryptions per second: the raw limit, and the daemon's batches with one key and with many.
    pub(super) raw: Vec<f64>,
    /// See [`super::raw::Round::share`].
    pub(super) shares: Vec<f64>,
    pub(super) batch: Vec<f64>,
    pub(super) batch_many_keys: Vec<f64>,
    /// Calls per second at 64 in flight.
    pub(super) empty: Vec<f64>,
    pub(super) unary: Vec<f64>,
    /// Median microseconds of a call with one in flight.
    pub(super) empty_alone: Vec<f64>,
    pub(super) unary_alone: Vec<f64>,
    /// Milliseconds until a disconnected key store is connected.
    pub(super) connect: Vec<f64>,
}

/// One line of the table.
pub(super) struct Row {
    what: String,
    figure: f64,
    must: Must,
    /// The figures that it was made of, as text.
    of: String,
}

enum Must {
    /// A share of something: at least.
    Reach(f64),
    /// A time in this unit: at most.
    StayUnder(f64, &'static str),
}

impl Row {
    pub(super) fn passed(&self) -> bool {
        match self.must {
            Must::Reach(least) => self.figure >= least,
            Must::StayUnder(most, _) => self.figure <= most,
        }
    }
}

/// Less than this of a processor for a loop that waits for nothing, and the figures are somebody else's too.
const LEAST_SHARE: f64 = 0.95;

/// Why the figures say nothing about keystored; absent when they do. Work beside a measurement does not fall on both
/// sides of a ratio alike: the scheduler gives to each process, and the daemon is more of them than the raw limit.
pub(super) fn void(rounds: &Rounds) -> Option<String> {
    let share = rounds.shares.iter().copied().fold(f64::INFINITY, f64::min);
    if share < LEAST_SHARE {
        return Some(format!(
            "VOID: something else ran on this machine; a raw loop had {:.0} % of a processor where it needs all of one. \
             Measure again when nothing else runs.",
            share * 100.0
        ));
    }
    let (batch, raw) = (median(&rounds.batch), median(&rounds.raw));
    // Each item passes through the module, so no true figure is above the module's own.
    (batch.is_nan() || raw.is_nan() || batch > raw)
        .then(|| "VOID: the daemon cannot be faster than the module alone; the measurement is broken.".to_owned())
}

/// The rows of the table. Ratios are those of the medians.
pub(super) fn rows(rounds: &Rounds, keys: usize) -> Vec<Row> {
    let share = |what: &str, of: &[f64], limit: &[f64], least, unit: &str, names: (&str, &str)| Row {
        what: what.to_owned(),
        figure: median(of) / median(limit),
        must: Must::Reach(least),
        of: format!("{} {}, {} {} {unit}", spread(of), names.0, spread(limit), names.1),
    };
    let many = format!("{} keys", thousands(keys as f64));
    let (unary, empty) = (&rounds.unary_alone, &rounds.empty_alone);
    vec![
        share(
            "batch Encrypt (256 items) / raw in-token limit",
            &rounds.batch,
            &rounds.raw,
            0.35,
            "items/s",
            ("batch", "raw"),
        ),
        share(
            "unary Encrypt, 64 in flight / empty service",
            &rounds.unary,
            &rounds.empty,
            0.45,
            "calls/s",
            ("unary", "empty"),
        ),
        Row {
            what: "unary Encrypt, 1 in flight: p50 above the empty service's".to_owned(),
            figure: median(unary) - median(empty),
            must: Must::StayUnder(150.0, "µs"),
            of: format!("{} unary, {} empty µs", spread(unary), spread(empty)),
        },
        share(
            &format!("batch Encrypt over {many} / one key"),
            &rounds.batch_many_keys,
            &rounds.batch,
            0.7,
            "items/s",
            (&many, "one key"),
        ),
        Row {
            what: format!("ConnectKeyStore to CONNECTED, {many} in each token"),
            figure: median(&rounds.connect),
            must: Must::StayUnder(2_000.0, "ms"),
            of: format!("{} ms", spread(&rounds.connect)),
        },
    ]
}

/// The table as people read it.
pub(super) fn show(rows: &[Row], void: bool) -> String {
    let mut out = String::new();
    let width = rows.iter().map(|row| row.what.chars().count()).max().unwrap_or(0);
    let _ = writeln!(out, "{:width$}  {:>8}  {:>12}", "figure", "reached", "must reach");
    for row in rows {
        let (figure, must) = match row.must {
            Must::Reach(least) => (format!("{:.2}", row.figure), format!("{least:.2}")),
            Must::StayUnder(most, unit) => {
                (format!("{} {unit}", thousands(row.figure)), format!("≤ {} {unit}", thousands(most)))
            }
        };
        let verdict = match row.passed() {
            _ if void => "void",
            true => "pass",
            false => "FAIL",
        };
        let _ = writeln!(out, "{:width$}  {figure:>8}  {must:>12}  {verdict}", row.what);
        let _ = writeln!(out, "{:width$}  {}", "", row.of);
    }
    out
}

fn median(figures: &[f64]) -> f64 {
    let sorted = sorted(figures);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// Median, and in brackets the least and the most.
fn spread(figures: &[f64]) -> String {
    let sorted = sorted(figures);
    match (sorted.first(), sorted.last()) {
        (Some(least), Some(most)) => {
            format!("{} ({} to {})", thousands(median(figures)), thousands(*least), thousands(*most))
        }
        _ => "nothing".to_owned(),
    }
}

fn sorted(figures: &[f64]) -> Vec<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

fn thousands(figure: f64) -> String {
    let digits = format!("{figure:.0}");
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
