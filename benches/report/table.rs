//! Figures beside what must be reached, and how both are shown.

use std::fmt::Write as _;

/// One line of the table.
pub(super) struct Row {
    what: String,
    /// NaN where it could not be measured.
    figure: f64,
    must: Must,
    /// The figures that it was made of, as text; several lines where they are many.
    of: String,
}

/// What a figure has to be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Must {
    /// A share of something: at least.
    Reach(f64),
    /// So many times something: at most.
    BeAtMost(f64),
    /// So many in this unit: at least.
    Exceed(f64, &'static str),
    /// A share in this unit: at most.
    StayUnder(f64, &'static str),
    /// A number of things that must not happen.
    BeNone,
}

impl Row {
    /// A figure, and what it was made of.
    pub(super) fn new(what: impl Into<String>, figure: f64, must: Must, of: impl Into<String>) -> Self {
        Self { what: what.into(), figure, must, of: of.into() }
    }

    /// Stands for what could not be measured, which is no pass.
    pub(super) fn missing(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::new(what, f64::NAN, Must::BeNone, why)
    }

    pub(super) fn passed(&self) -> bool {
        match self.must {
            Must::Reach(least) | Must::Exceed(least, _) => self.figure >= least,
            Must::BeAtMost(most) | Must::StayUnder(most, _) => self.figure <= most,
            Must::BeNone => self.figure == 0.0,
        }
    }

    /// The figure and what it must be, as text.
    fn texts(&self) -> (String, String) {
        let figure = self.figure;
        let (shown, must) = match self.must {
            Must::Reach(least) => (format!("{figure:.2}"), format!("{least:.2}")),
            Must::BeAtMost(most) => (format!("{figure:.2}"), format!("≤ {most:.2}")),
            Must::Exceed(least, unit) => {
                (format!("{} {unit}", thousands(figure)), format!("≥ {} {unit}", thousands(least)))
            }
            Must::StayUnder(most, unit) => {
                (format!("{} {unit}", thousands(figure)), format!("≤ {} {unit}", thousands(most)))
            }
            Must::BeNone => (thousands(figure), "none".to_owned()),
        };
        (if figure.is_nan() { "?".to_owned() } else { shown }, must)
    }
}

/// The table as people read it.
pub(super) fn show(rows: &[Row], void: bool) -> String {
    let mut out = String::new();
    let width = rows.iter().map(|row| row.what.chars().count()).max().unwrap_or(0);
    let _ = writeln!(out, "{:width$}  {:>8}  {:>12}", "figure", "reached", "must reach");
    for row in rows {
        let (figure, must) = row.texts();
        let verdict = match row.passed() {
            _ if void => "void",
            true => "pass",
            false => "FAIL",
        };
        let _ = writeln!(out, "{:width$}  {figure:>8}  {must:>12}  {verdict}", row.what);
        for line in row.of.lines() {
            let _ = writeln!(out, "{:width$}  {line}", "");
        }
    }
    out
}

/// NaN of nothing.
pub(super) fn median(figures: &[f64]) -> f64 {
    let sorted = sorted(figures);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}

/// Median, and in brackets the least and the most.
pub(super) fn spread(figures: &[f64]) -> String {
    let (least, most) = extremes(figures);
    format!("{} ({} to {})", thousands(median(figures)), thousands(least), thousands(most))
}

/// The least and the most; NaN of nothing.
pub(super) fn extremes(figures: &[f64]) -> (f64, f64) {
    let sorted = sorted(figures);
    let of = |figure: Option<&f64>| figure.copied().unwrap_or(f64::NAN);
    (of(sorted.first()), of(sorted.last()))
}

fn sorted(figures: &[f64]) -> Vec<f64> {
    let mut sorted = figures.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

/// Rounded, with a comma at each thousand.
pub(super) fn thousands(figure: f64) -> String {
    let digits = format!("{:.0}", figure.abs());
    let mut out = String::new();
    if figure.round() < 0.0 {
        out.push('-');
    }
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place) % 3 == 0 {
            out.push(',');
        }
        out.push(digit);
    }
    out
}
