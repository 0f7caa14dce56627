//! The second part: HSMs that fail, and what callers notice of it. Each section has a daemon of its own over fresh zones.

use keystored::model::clock::Clock;
use keystored::provision;
use tempfile::TempDir;

use super::table::{self, Row};
use super::{Outcome, Part, failover, fill, flood, network, overload, said};

/// Measures and prints the table.
pub(super) async fn report(clock: &Clock) -> Outcome<Part> {
    let softhsm = provision::find_module().ok_or("SoftHSM's module is not installed; `make deps` installs it")?;
    let dir = TempDir::with_prefix("keystored-bench-").map_err(said("making a directory"))?;
    let at = |section: &str| dir.path().join(section);
    let (mut rows, mut module) = (Vec::new(), "unknown".to_owned());

    eprintln!("a zone is lost ...");
    let phases = failover::measure(&at("failover"), clock).await;
    let shown = phases.as_ref().map(|phases| failover::show(phases)).unwrap_or_default();
    rows.extend(section("a zone is lost", phases.map(|phases| failover::rows(&phases))));
    eprintln!("network HSMs ...");
    let played = network::rows(&at("network"), &softhsm, clock).await;
    rows.extend(section(
        "network HSMs",
        played.map(|(rows, raw)| {
            module = raw.module;
            rows
        }),
    ));
    eprintln!("overload ...");
    rows.extend(section("overload", overload::rows(&at("overload"), clock).await));
    eprintln!("bad ciphertexts ...");
    rows.extend(section("bad ciphertexts", flood::rows(&at("flood"), clock).await));
    eprintln!("a blank token ...");
    rows.extend(section("a blank token", fill::rows(&at("fill"), clock).await));

    println!("\nHSMs that fail\n\n{shown}\n{}", table::show(&rows, false));
    Ok(Part { passed: rows.iter().all(Row::passed), module })
}

/// What a section has measured. One that came to nothing does not take the others' figures with it.
fn section(what: &str, rows: Outcome<Vec<Row>>) -> Vec<Row> {
    rows.unwrap_or_else(|error| vec![Row::missing(what, error)])
}
