//! `keystorectl audit verify`
//!
//! Of files everything is checked. Of a log that is only reached over the network it is checked whether it has all that a head
//! was of that was kept elsewhere: that takes a proof of a few hundred bytes.

use std::path::PathBuf;

use audit::files::Place;
use audit::keys::Believed;
use audit::note::Checkpoint;
use audit::prove;
use audit::verify::{self, Finding, Report, Signer};
use clap::Args;
use serde::Serialize;

use super::{ANSWER, Log, read_head, read_keys};
use crate::Context;
use crate::failure::Failure;
use crate::printer::{self, facts};

/// So many findings are shown to a person.
const SHOWN: usize = 50;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    log: Log,
    /// The public keys, as `audit keys` prints them; from somebody you trust, or kept from before
    #[arg(long, value_name = "FILE")]
    keys: PathBuf,
    /// A signed head that was kept elsewhere, as `audit head` prints it. Without DIR it is needed: the service is asked to
    /// prove that its log has all that this head is of
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
}

#[derive(Serialize)]
struct Verified {
    sound: bool,
    origin: String,
    records: u64,
    root: String,
    heads: u64,
    signers: Vec<SignedBy>,
    unsigned_records: u64,
    torn_bytes: u64,
    findings: Vec<Found>,
    more_findings: u64,
    #[serde(skip)]
    kept_elsewhere: bool,
}

#[derive(Serialize)]
struct SignedBy {
    key: String,
    hsm: Option<String>,
    zone: Option<String>,
    heads: u64,
    newest: Option<u64>,
}

#[derive(Serialize)]
struct Found {
    of_records: bool,
    text: String,
}

impl From<&Finding> for Found {
    fn from(finding: &Finding) -> Self {
        Self { of_records: finding.is_of_records(), text: finding.to_string() }
    }
}

impl From<Signer> for SignedBy {
    fn from(Signer { name, hsm, heads, newest }: Signer) -> Self {
        let (hsm, zone) = hsm.unzip();
        Self { key: name, hsm, zone, heads, newest }
    }
}

impl Verified {
    fn new(report: Report, kept_elsewhere: bool) -> Self {
        Self {
            sound: report.findings.is_empty(),
            origin: report.origin,
            records: report.head.size,
            root: report.head.root.iter().map(|byte| format!("{byte:02x}")).collect(),
            heads: report.heads,
            signers: report.signers.into_iter().map(SignedBy::from).collect(),
            unsigned_records: report.behind,
            torn_bytes: report.torn,
            findings: report.findings.iter().map(Found::from).collect(),
            more_findings: report.more,
            kept_elsewhere,
        }
    }

    fn signed_by(one: &SignedBy) -> String {
        let newest = one.newest.map_or_else(String::new, |size| format!(", the newest of {size} records"));
        let who = match (&one.hsm, &one.zone) {
            (Some(hsm), Some(zone)) => format!("HSM {hsm} in zone {zone}"),
            _ => "the log's own key".to_owned(),
        };
        format!("{who}: {} heads{newest}", one.heads)
    }
}

impl printer::Report for Verified {
    fn text(&self) -> String {
        let mut lines = facts(
            [
                ("Log", self.origin.clone()),
                ("Records", self.records.to_string()),
                ("Root", self.root.clone()),
                ("Heads", self.heads.to_string()),
            ]
            .into_iter()
            .chain(self.signers.iter().map(|one| ("Signed by", Self::signed_by(one)))),
        );
        if self.unsigned_records > 0 {
            lines += &format!(
                "\n{} records came after the newest head: nobody vouches for them yet.",
                self.unsigned_records
            );
        }
        if self.torn_bytes > 0 {
            lines += &format!("\n{} bytes at the end of the journal are no record.", self.torn_bytes);
        }
        for found in self.findings.iter().take(SHOWN) {
            lines += &format!("\nwrong: {}", found.text);
        }
        let more = self.more_findings + self.findings.len().saturating_sub(SHOWN) as u64;
        if more > 0 {
            lines += &format!("\nwrong: {more} more places");
        }
        if self.sound {
            lines += "\nAll of these records are as they were signed.";
            if !self.kept_elsewhere {
                lines +=
                    "\nWhether there was ever a newer head, only one that was kept elsewhere can tell (--checkpoint).";
            }
        }
        lines
    }
}

/// A log that has only grown.
#[derive(Serialize)]
struct Grown {
    sound: bool,
    origin: String,
    kept_records: u64,
    records: u64,
    signed_by: Vec<String>,
}

impl printer::Report for Grown {
    fn text(&self) -> String {
        let mut lines = facts([
            ("Log", self.origin.clone()),
            ("Kept head", format!("{} records", self.kept_records)),
            ("Newest head", format!("{} records", self.records)),
            ("Signed by", self.signed_by.join(", ")),
        ]);
        lines += "\nThe log has all that the kept head is of, unchanged.";
        lines + "\nWhat came since was not looked at; that takes the files (verify DIR)."
    }
}

pub(super) async fn run(context: &Context, arguments: &Arguments) -> Result<(), Failure> {
    let (_, believed) = read_keys(&arguments.keys)?;
    let outside = arguments.checkpoint.as_deref().map(read_head).transpose()?;
    match (arguments.log.place()?, outside) {
        (Some(place), outside) => of_files(context, arguments, &place, &believed, outside.as_ref()),
        (None, Some(kept)) => {
            let proof = context.connection.connect().await?.get_audit_consistency(kept.head().size).await?;
            let grown = prove::check_growth(proof.as_bytes(), &believed, &kept);
            let grown = grown.map_err(|error| Failure::local(format!("{ANSWER}: {error}")))?;
            context.printer.report(&Grown {
                sound: true,
                origin: kept.origin().to_owned(),
                kept_records: grown.from.size,
                records: grown.to.size,
                signed_by: grown.signers,
            })
        }
        (None, None) => Err(Failure::usage(
            "give the log's directory, or --checkpoint with a head that was kept elsewhere, for which the service is asked",
        )),
    }
}

fn of_files(
    context: &Context,
    arguments: &Arguments,
    place: &Place,
    keys: &Believed,
    outside: Option<&Checkpoint>,
) -> Result<(), Failure> {
    let bar = context.printer.counter();
    let result = verify::verify_at(place, keys, outside, &mut |done, of| {
        bar.set_length(of);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    let kept_elsewhere = outside.is_some();
    match result {
        Ok(report) => context.printer.report(&Verified::new(report, kept_elsewhere)),
        Err(verify::Failure::Found(report)) => {
            let wrong = report.findings.len() as u64 + report.more;
            let archived = report.findings.iter().any(|one| matches!(one, Finding::Missing { first: 0, .. }));
            context.printer.report(&Verified::new(*report, kept_elsewhere))?;
            let failure = Failure::local(match wrong {
                1 => "the log is not as it was signed, in one place".to_owned(),
                _ => format!("the log is not as it was signed, in {wrong} places"),
            });
            let hint = "where the first records were moved to an archive, tell where it is: --archive DIR";
            Err(if archived && arguments.log.archive.is_none() { failure.with_hint(hint) } else { failure })
        }
        Err(other) => Err(Failure::local(other.to_string())),
    }
}
