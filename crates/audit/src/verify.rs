//! Checks a log from its files and public keys alone: nobody has to be asked or believed.
//!
//! The signed heads come first: whose they are and who has signed them. Then all records are read once, and must make the
//! root of every head and the hashes of every tile. Only where something does not fit, more is done to find out what.
//!
//! Records that came after the newest head are vouched for by nobody yet. They are counted and no more is said of them. That
//! the newest head is the newest that ever was cannot be told from files: whoever took the newest records away, and the heads
//! over them, leaves a log that is as it was before. Against that, a head is kept elsewhere and checked here beside them.

mod diagnosis;
mod difference;
mod finding;
mod heads;
mod swift;
#[cfg(test)]
mod tests;
mod tree;

use std::path::Path;

use self::finding::Findings;
pub use self::finding::{Finding, Kept};
pub use self::heads::Signer;
use super::files::{Bundles, Place, Unreadable, journals};
use super::keys::{Believed, KeysError, PublicKeys};
use super::layout::FULL;
use super::note::{Checkpoint, Head};
use super::read::Records;

/// What was found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What the log calls itself.
    pub origin: String,
    /// The newest signed head; all is checked up to there.
    pub head: Head,
    /// How many heads were checked.
    pub heads: u64,
    /// Who has signed them: the log's own key first.
    pub signers: Vec<Signer>,
    /// Records that came after the newest head: nobody vouches for them yet.
    pub behind: u64,
    /// Bytes at the end of the journal that are no record: what was being written at a crash.
    pub torn: u64,
    /// What is not as it should be.
    pub findings: Vec<Finding>,
    /// More of these than are kept.
    pub more: u64,
}

/// Why a log is not as it should be, or could not be checked.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The keys are not believed.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// A file cannot be read.
    #[error("cannot read {0}")]
    Unreadable(#[from] Unreadable),
    /// It is not as it should be.
    #[error("the log is not as it was signed: {}", first(.0))]
    Found(Box<Report>),
}

fn first(report: &Report) -> String {
    report.findings.first().map(ToString::to_string).unwrap_or_default()
}

/// Checks a log in a directory. `outside` is a head that was kept elsewhere. `progress` is told how many records of how many
/// have been checked.
pub fn verify(
    directory: &Path,
    keys: &PublicKeys,
    outside: Option<&Checkpoint>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Report, Failure> {
    verify_at(&Place::new(directory), &keys.check()?, outside, progress)
}

/// Checks a log whose older bundles may be in an archive.
pub fn verify_at(
    place: &Place,
    keys: &Believed,
    outside: Option<&Checkpoint>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Report, Failure> {
    let mut found = Findings::default();
    let gathered = heads::gather(place, keys, outside, &mut found)?;
    if !swift::check(place, &gathered, progress)? {
        diagnosis::diagnose(place, &gathered, &mut found)?;
        // What was only being replaced a moment ago, by whoever writes the log, is as it should be by now.
        if found.is_empty() && !swift::check(place, &gathered, &mut |_, _| {})? {
            found.push(Finding::Otherwise);
        }
    }
    copies(place, &gathered, &mut found)?;
    let head = gathered.heads.last().copied().unwrap_or(Head::EMPTY);
    let (behind, torn) = tail(place, head.size)?;
    let report = Report {
        origin: keys.log.name().to_owned(),
        head,
        heads: gathered.checked,
        signers: gathered.signers,
        behind,
        torn,
        findings: found.found,
        more: found.more,
    };
    if report.findings.is_empty() { Ok(report) } else { Err(Failure::Found(Box::new(report))) }
}

/// Says where the archive has other records than the log's directory. Of the two, the directory's were checked.
fn copies(place: &Place, gathered: &heads::Gathered, found: &mut Findings) -> Result<(), Unreadable> {
    let size = gathered.heads.last().map_or(0, |head| head.size);
    if place.archive().is_none() {
        return Ok(());
    }
    let mut bundles = Bundles::new(place)?;
    let mut gap = 0;
    for index in 0..size / FULL {
        gap = if place.has_bundle(index)? { 0 } else { gap + 1 };
        // What is missing is told already, and there is no end to what a head may speak of.
        if gap == diagnosis::GAP {
            break;
        }
        if gap == 0 && !bundles.copies_agree(index)? {
            found.push(Finding::Copies { first: index * FULL, count: FULL });
        }
    }
    Ok(())
}

/// How many records came after the newest head, and how many bytes of the journal are none.
fn tail(place: &Place, size: u64) -> Result<(u64, u64), Unreadable> {
    let mut records = Records::from(place, size)?;
    while records.next()?.is_some() {}
    let behind = records.number() - size;
    let torn = match journals(place)?.last() {
        Some(first) => super::files::Journal::open(place, *first)?.map_or(Ok(0), |mut journal| {
            while journal.next()?.is_some() {}
            journal.rest()
        })?,
        None => 0,
    };
    Ok((behind, torn))
}
