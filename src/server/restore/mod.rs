//! `keystored restore`: a copy of the database in the place of the one that is there, without a daemon.
//!
//! It tells first what will be different, for the database and for the tokens, and then asks.

mod access;
mod report;
mod tokens;

use std::io::{self, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::{Error, parts};
use config::Config;
use model::clock::Clock;
use store::restore::Restore;
pub use store::restore::UnknownAccessKeys;

/// Who says that it is to be done.
pub enum Consent<'a> {
    /// Said on the command line.
    Given,
    /// Somebody who is asked.
    Ask(&'a mut (dyn FnMut() -> io::Result<bool> + Send)),
    /// There is nobody to be asked: it is only told what would be done.
    Nobody,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restored {
    /// It is done.
    Done,
    /// It was told what would be done, and nothing was changed.
    Told,
}

/// Restores from a file, with consent.
pub async fn restore(
    config: &Config,
    source: &Path,
    unknown: UnknownAccessKeys,
    clock: &Clock,
    consent: Consent<'_>,
    out: &mut (dyn Write + Send),
) -> Result<Restored, Error> {
    let wrong = |error: store::Error| Error::Wrong(error.to_string());
    parts::make_state_dir(config)?;
    is_owner(&config.state_dir)?;
    let file = parts::database(config);
    if let Some(aside) = Restore::finish(&file, clock).await.map_err(wrong)? {
        say(out, "A restore that was decided before and broken off is finished now.");
        set_aside(out, &aside);
        say(out, "Run the command again if that is not what you wanted.");
        return Ok(Restored::Done);
    }
    let mut restore = Restore::prepare(&file, source, clock).await.map_err(wrong)?;
    let told = async {
        // First, so that what a token says of kmsuser's PIN is taken over with it.
        let looks = tokens::look(config, &restore, clock).await?;
        let plan = restore.take_over(unknown).await.map_err(wrong)?;
        let sealed = tokens::sealed_otherwise(config, &restore).await?;
        // A terminal that has gone away says no.
        report::tell(out, &file, &restore, &plan, &looks, &sealed).map_err(|error| Error::Wrong(error.to_string()))?;
        Ok(match consent {
            Consent::Given => true,
            Consent::Ask(ask) => ask().map_err(|error| Error::Wrong(format!("cannot ask: {error}")))?,
            Consent::Nobody => false,
        })
    };
    match told.await {
        Ok(true) => {
            let aside = restore.commit().await.map_err(wrong)?;
            say(out, "\nRestored. The daemon can be started.");
            set_aside(out, &aside);
            Ok(Restored::Done)
        }
        Ok(false) => {
            say(
                out,
                match restore.abandon().await.map_err(wrong)? {
                    true => "\nNothing was changed, but what tokens said of kmsuser's PINs is on record.",
                    false => "\nNothing was changed.",
                },
            );
            say(out, "With --yes, or `yes` at a terminal, it is done.");
            Ok(Restored::Told)
        }
        Err(error) => {
            restore.abandon().await.map_err(wrong)?;
            Err(error)
        }
    }
}

/// What is made here must be the daemon's.
fn is_owner(state_dir: &Path) -> Result<(), Error> {
    let wrong = |why: String| Err(Error::Wrong(format!("{}: {why}", state_dir.display())));
    match std::fs::metadata(state_dir) {
        Ok(meta) if meta.uid() == rustix::process::geteuid().as_raw() => Ok(()),
        Ok(meta) => wrong(format!(
            "it belongs to user {}; run this as that user, as which the daemon runs, so that it can read what is restored",
            meta.uid()
        )),
        Err(error) => wrong(error.to_string()),
    }
}

fn set_aside(out: &mut (dyn Write + Send), aside: &[std::path::PathBuf]) {
    if !aside.is_empty() {
        say(out, "What was there was set aside:");
    }
    for path in aside {
        say(out, &format!("  {}", path.display()));
    }
}

/// It is done already; whoever has gone away has the answer in the exit code.
fn say(out: &mut (dyn Write + Send), line: &str) {
    let _ = writeln!(out, "{line}");
}
