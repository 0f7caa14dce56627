//! `keystored audit new-log`: begins a new log in the place of one that cannot be written on, without a daemon.

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use super::open::{begin, holds_a_log};
use crate::server::{Error, parts};
use config::Config;
use model::clock::{Clock, utc};
use store::audit::AuditLog;

/// Sets the records of the former log aside, and puts a new key with a name of its own on record. The first start of the
/// daemon makes the directory.
pub async fn new_audit_log(config: &Config, clock: &Clock, out: &mut (dyn Write + Send)) -> Result<(), Error> {
    let seals = parts::seals(&config.seal)?;
    let store = parts::open_store(config, clock).await?;
    let begun = async {
        let logs = store.audit_logs().await.map_err(|error| Error::Wrong(error.to_string()))?;
        let origin = next_origin(&config.audit.origin, &logs);
        // First: what broke off here is done again, and nothing is ever written into the former log by the new key.
        let aside = set_aside(&config.audit.dir, &utc(clock.unix_millis())).map_err(|error| {
            let sentence = format!(
                "{} cannot be renamed ({error}); move what is in it elsewhere, or name another audit.dir",
                config.audit.dir.display()
            );
            Error::of(&error, sentence)
        })?;
        begin(&store, &seals, &origin, logs.last().map(|log| log.number)).await.map_err(Error::Wrong)?;
        Ok((origin, aside, logs))
    };
    let outcome = begun.await;
    store.close().await;
    let (origin, aside, logs) = outcome?;
    // Whoever has gone away has the answer in the exit code.
    let _ = writeln!(out, "A new audit log is begun: {origin}. Its key is made; the daemon can be started.");
    if let Some(former) = logs.last() {
        let _ = writeln!(out, "The former one, {}, is written no more, and its key is forgotten.", former.origin);
    }
    if let Some(aside) = aside {
        let _ = writeln!(
            out,
            "Its records were set aside in {}: keep them, they can be checked as before.",
            aside.display()
        );
    }
    Ok(())
}

/// The name of the configuration, with a number behind it where a log has that already.
fn next_origin(configured: &str, logs: &[AuditLog]) -> String {
    let is_taken = |name: &str| logs.iter().any(|log| log.origin == name);
    let numbered = (2_u32..).map(|number| format!("{configured}/{number}"));
    let mut names = std::iter::once(configured.to_owned()).chain(numbered);
    names.find(|name| !is_taken(name)).unwrap_or_else(|| configured.to_owned())
}

/// Renames a directory that holds a log; under which name, if there was one.
fn set_aside(directory: &Path, time: &str) -> io::Result<Option<PathBuf>> {
    if !holds_a_log(directory)? {
        return Ok(None);
    }
    let mut name = directory.as_os_str().to_owned();
    name.push(format!(".until-{}", time.replace(':', "-")));
    let aside = PathBuf::from(name);
    rustix::fs::renameat_with(rustix::fs::CWD, directory, rustix::fs::CWD, &aside, rustix::fs::RenameFlags::NOREPLACE)?;
    if let Some(parent) = aside.parent() {
        std::fs::File::open(parent)?.sync_all()?;
    }
    Ok(Some(aside))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(number: u32, origin: &str) -> AuditLog {
        AuditLog { number, origin: origin.to_owned(), sealed: None, created_at: 0, head: None }
    }

    #[test]
    fn each_log_has_a_name_of_its_own() {
        assert_eq!(next_origin("o", &[]), "o");
        assert_eq!(next_origin("o", &[log(1, "o")]), "o/2");
        assert_eq!(next_origin("o", &[log(1, "o"), log(2, "o/2")]), "o/3");
        assert_eq!(next_origin("new", &[log(1, "o"), log(2, "o/2")]), "new");
    }

    #[test]
    fn what_is_no_log_stays_and_nothing_is_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("audit");
        assert_eq!(set_aside(&directory, "now").unwrap(), None);
        std::fs::create_dir_all(directory.join("journal")).unwrap();
        assert_eq!(set_aside(&directory, "now").unwrap(), None, "nothing is in it");
        std::fs::write(directory.join("journal/00000000000000000000"), "x").unwrap();
        let aside = set_aside(&directory, "10:11").unwrap().unwrap();
        assert_eq!(aside, folder.path().join("audit.until-10-11"));
        assert!(!directory.exists() && aside.join("journal").exists());
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("checkpoint"), "x").unwrap();
        assert!(set_aside(&directory, "10:11").is_err());
        assert!(directory.join("checkpoint").exists());
    }
}
