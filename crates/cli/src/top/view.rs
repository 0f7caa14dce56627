//! How the view is drawn: a line for each HSM, and what is wrong with it below. Knows neither service nor terminal.

use std::time::Duration;

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line, Span};
use ratatui::widgets::Paragraph;

use super::cells::{self, FIRST_FIGURE, HEADINGS, STATE};
use super::figures::{Cluster, Hsm};
use model::text;

/// Columns that a figure takes at least, so that the table stands still while figures change.
const FIGURE: usize = 8;
/// Between two columns.
const GAP: &str = "  ";
/// Before the reason below an HSM.
const INDENT: &str = "    ";

/// What is to be seen.
pub(super) struct Shown<'a> {
    pub(super) clusters: &'a [Cluster],
    /// Why the figures are old, if they are.
    pub(super) trouble: Option<String>,
    /// Between two looks.
    pub(super) every: Duration,
    /// Lines that are above the top.
    pub(super) scroll: usize,
}

/// Draws all of it, and tells how many lines can be scrolled past.
pub(super) fn draw(frame: &mut Frame<'_>, shown: &Shown<'_>) -> usize {
    let width = usize::from(frame.area().width);
    let below = footer(shown, width);
    let height = u16::try_from(below.len()).unwrap_or(u16::MAX);
    let [upper, lower] = Layout::vertical([Constraint::Min(1), Constraint::Length(height)]).areas(frame.area());
    let lines = body(shown, width);
    let most = lines.len().saturating_sub(usize::from(upper.height));
    let visible: Vec<Line<'_>> = lines.into_iter().skip(shown.scroll.min(most)).collect();
    // What is old is dimmed, so that nobody takes it for what is.
    let style = if shown.trouble.is_some() { Style::new().add_modifier(Modifier::DIM) } else { Style::new() };
    frame.render_widget(Paragraph::new(visible).style(style), upper);
    frame.render_widget(Paragraph::new(below), lower);
    most
}

fn footer(shown: &Shown<'_>, width: usize) -> Vec<Line<'static>> {
    let trouble = shown.trouble.iter().flat_map(|trouble| cells::wrap(trouble, width));
    let red = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
    let mut lines: Vec<Line<'_>> = trouble.map(|line| Line::styled(line, red)).collect();
    let keys = format!("q quits, arrows scroll; a look every {:?}", shown.every);
    lines.push(Line::styled(keys, Style::new().fg(Color::DarkGray)));
    lines
}

fn body(shown: &Shown<'_>, width: usize) -> Vec<Line<'static>> {
    if shown.clusters.is_empty() {
        return vec![Line::raw("There are no clusters in the configuration.")];
    }
    let widths = widths(shown.clusters);
    let mut lines = Vec::new();
    for cluster in shown.clusters {
        lines.push(title(cluster));
        lines.push(Line::raw(cells::totals(cluster).join(", ")));
        let headings = HEADINGS.map(str::to_uppercase);
        lines.push(row(&headings, &widths, None).style(Style::new().add_modifier(Modifier::BOLD)));
        for hsm in &cluster.hsms {
            lines.push(row(&cells::cells(hsm), &widths, Some(colour(hsm))));
            lines.extend(reason(hsm, width));
        }
        lines.push(Line::default());
    }
    // Between clusters, not below the last one.
    lines.pop();
    lines
}

/// Which cluster, under which key store, in which state.
fn title(cluster: &Cluster) -> Line<'static> {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let mut spans = vec![
        Span::styled(cluster.cluster_id.clone(), bold),
        Span::raw(format!("{GAP}key store {}{GAP}", cells::key_store(cluster))),
    ];
    if let Some(state) = cluster.connection_state {
        let colour = match state {
            "CONNECTED" => Color::Green,
            "FAILED" => Color::Red,
            _ => Color::Yellow,
        };
        spans.push(Span::styled(state, bold.fg(colour)));
    }
    Line::from(spans)
}

/// Why an HSM is not healthy, below it.
fn reason(hsm: &Hsm, width: usize) -> Vec<Line<'static>> {
    if hsm.reason.is_empty() {
        return Vec::new();
    }
    let style = Style::new().fg(colour(hsm));
    let lines = cells::wrap(&text::shown(&hsm.reason), width.saturating_sub(INDENT.len()));
    lines.into_iter().map(|line| Line::styled(format!("{INDENT}{line}"), style)).collect()
}

fn colour(hsm: &Hsm) -> Color {
    match hsm.health {
        "Healthy" => Color::Green,
        "Starting" => Color::Cyan,
        "Suspect" => Color::Yellow,
        "Down" => Color::Red,
        _ => Color::DarkGray,
    }
}

fn row(cells: &[String; HEADINGS.len()], widths: &[usize], state: Option<Color>) -> Line<'static> {
    let cell = |(at, (text, &width)): (usize, (&String, &usize))| {
        let text = if at < FIRST_FIGURE { format!("{text:<width$}{GAP}") } else { format!("{text:>width$}{GAP}") };
        match state {
            Some(colour) if at == STATE => Span::styled(text, Style::new().fg(colour).add_modifier(Modifier::BOLD)),
            _ => Span::raw(text),
        }
    };
    Line::from(cells.iter().zip(widths).enumerate().map(cell).collect::<Vec<_>>())
}

/// The same for all clusters, so that their columns stand below each other.
fn widths(clusters: &[Cluster]) -> Vec<usize> {
    let rows: Vec<_> = clusters.iter().flat_map(|cluster| &cluster.hsms).map(cells::cells).collect();
    let width = |(at, heading): (usize, &&str)| {
        let widest = rows.iter().map(|cells| cells[at].chars().count()).max().unwrap_or(0).max(heading.len());
        if at < FIRST_FIGURE { widest } else { widest.max(FIGURE) }
    };
    HEADINGS.iter().enumerate().map(width).collect()
}

#[cfg(test)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;
    use ratatui::buffer::Buffer;

    use super::super::figures::{Look, compare};
    use super::super::fixture::{Counts, hsm, look};
    use super::*;
    use proto::v1 as wire;

    const REASON: &str = "the module has not answered for 2 s and was killed; it is started again with growing pauses";

    fn clusters() -> Vec<Cluster> {
        let busy = |items| hsm("hsm-a", Counts { items, failures: 1, latency: [0, items, 0, 0] });
        let mut away = hsm("hsm-b", Counts { items: 7, failures: 2, latency: [7, 0, 0, 0] });
        if let Some(status) = &mut away.status {
            status.set_health(wire::HsmHealth::Down);
            (status.reason, status.ready_workers) = (REASON.to_owned(), 0);
        }
        let before = look(vec![busy(1_000), away.clone()]);
        let now = Look { at: before.at + Duration::from_secs(1), ..look(vec![busy(13_345), away]) };
        compare(Some(&before), &now)
    }

    fn drawn(width: u16, height: u16, trouble: Option<&str>, scroll: usize) -> (Buffer, Vec<String>, usize) {
        let clusters = clusters();
        let every = Duration::from_secs(1);
        let shown = Shown { clusters: &clusters, trouble: trouble.map(str::to_owned), every, scroll };
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        let mut most = 0;
        terminal.draw(|frame| most = draw(frame, &shown)).unwrap();
        let buffer = terminal.backend().buffer().clone();
        let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned();
        let lines = (0..height).map(line).collect();
        (buffer, lines, most)
    }

    #[test]
    fn each_hsm_has_a_line_and_its_reason_below() {
        let (buffer, lines, most) = drawn(110, 12, None, 0);
        let expected = [
            "cluster-keystoredev  key store lab (cks-1)  CONNECTED",
            "1 of 2 HSMs healthy, 12345 operations a second, 13352 in all, queue 6/16",
            "ZONE    HSM    STATE         FOR     OPS/S       P50       P99     QUEUE   WORKERS       OPS    FAILED",
            "zone-a  hsm-a  Healthy    1m 30s     12345    1.5 ms    2.0 ms       3/8       2/2     13345         1",
            "zone-b  hsm-b  Down       1m 30s         0         -         -       3/8       0/2         7         2",
            "    the module has not answered for 2 s and was killed; it is started again with growing pauses",
        ];
        assert_eq!(lines[..6], expected);
        assert_eq!(lines[11], "q quits, arrows scroll; a look every 1s");
        assert_eq!(
            (buffer[(15, 3)].fg, buffer[(15, 4)].fg, buffer[(10, 5)].fg),
            (Color::Green, Color::Red, Color::Red)
        );
        assert_eq!(most, 0);
    }

    #[test]
    fn an_old_view_says_so_and_is_dimmed() {
        let (buffer, lines, _) = drawn(110, 12, Some("no answer for 5 s: nothing listens there; trying on"), 0);
        assert_eq!(lines[10], "no answer for 5 s: nothing listens there; trying on");
        assert_eq!(buffer[(0, 10)].fg, Color::Red);
        assert!(buffer[(0, 3)].modifier.contains(Modifier::DIM));
    }

    #[test]
    fn a_small_terminal_can_be_scrolled_to_the_end_and_no_further() {
        let (_, lines, most) = drawn(40, 5, None, 0);
        assert!(lines[0].starts_with("cluster-keystoredev"), "{lines:?}");
        assert!(most > 0);
        let (_, end, _) = drawn(40, 5, None, most);
        assert_eq!(drawn(40, 5, None, most + 100).1, end);
        assert!(end.iter().any(|line| line.contains("pauses")), "{end:?}");
        // The smallest there is.
        drawn(1, 1, Some("no answer"), 0);
    }
}
