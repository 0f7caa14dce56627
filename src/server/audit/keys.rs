//! keys.json beside the log: what an outsider needs to check it. Written whenever the HSMs have other keys than it says.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use super::{Audit, Opened};
use audit::keys::{HsmKey, PublicKeys};
use audit::layout;
use audit::note::VerifierKey;
use audit::within::Directory;
use model::lock::MutexExt as _;
use rustix::io::Errno;
use service::StoreAuditKeys;
use telemetry::sampled::{self, Line};

/// What HSMs get to show their keys, where they do not know them yet.
const SHOW: Duration = Duration::from_secs(2);
/// Most bytes of the file that are read.
const BYTES: usize = 16 << 20;

/// The file of public keys, as far as it is known.
#[derive(Default)]
pub(super) struct Kept {
    /// What was written to it; absent until something was.
    text: Option<Vec<u8>>,
    /// Why it cannot be written.
    trouble: Option<String>,
}

impl Kept {
    /// The sentence about it.
    pub(super) fn trouble(&self) -> Option<String> {
        let why = self.trouble.as_ref()?;
        Some(format!("the public keys of the audit log cannot be written beside it: {why}"))
    }
}

impl Audit {
    /// Asks for the keys of all connected HSMs, and writes the file anew where it says something else.
    pub(super) async fn keep_keys(&self, opened: &Opened) {
        let shown = match self.0.service.get() {
            Some(service) => service.audit_keys(&opened.origin, self.0.clock.now() + SHOW).await,
            None => Vec::new(),
        };
        let all = shown.iter().flat_map(|store| &store.keys);
        self.0.signers.are(all.map(|key| (key.hsm.clone(), key.key.clone())).collect());
        let written = opened.keys.lock_anyway().text.clone();
        // Wherever it is: a directory that was put in its place gets nothing.
        let (directory, verifier) = (opened.log.directory(), opened.verifier.clone());
        // On panic: the file is as it was, and looked at again.
        let kept = tokio::task::spawn_blocking(move || keep(&directory, &verifier, &shown, written.as_deref())).await;
        let kept = kept.unwrap_or_else(|error| Err(io::Error::other(error)));
        let mut keys = opened.keys.lock_anyway();
        keys.trouble = kept.as_ref().err().map(ToString::to_string);
        match kept {
            Ok(text) => keys.text = Some(text),
            Err(error) => {
                if sampled::whole(Line::OwnFault, &"audit keys") {
                    tracing::warn!(%error, "the public keys of the audit log cannot be written beside it; it is tried again");
                }
            }
        }
    }
}

/// Has the file say what is known, and gives its text. `written` is what was written before, where that is known: whatever
/// somebody has made of the file since then, it says that again.
fn keep(
    directory: &Directory,
    log: &VerifierKey,
    shown: &[StoreAuditKeys],
    written: Option<&[u8]>,
) -> io::Result<Vec<u8>> {
    let path = Path::new(layout::KEYS);
    let found = match directory.read(path, BYTES) {
        Err(error) if !is_no_file(&error) => return Err(error),
        found => found,
    };
    let before = match (written, &found) {
        (Some(written), _) => written,
        (None, Ok(Some(found))) => found.as_slice(),
        (None, _) => &[],
    };
    let text = joined(log, PublicKeys::from_json(before).ok(), shown).to_json().map_err(io::Error::other)?;
    match found {
        Ok(Some(found)) if found == text => return Ok(text),
        Ok(None) => {}
        Ok(Some(found)) if PublicKeys::from_json(&found).is_ok() => {}
        // A damaged one may still tell somebody which keys have signed before; and a pipe or a folder cannot be replaced.
        Ok(Some(_)) | Err(_) => {
            let aside = directory.set_aside(path)?;
            tracing::warn!(
                aside = %aside.display(),
                "what bears the name of the audit log's public keys is no such file; it was put aside, and they are written \
                 anew"
            );
        }
    }
    directory.put(Path::new(".keys.json.new"), path, &text, 0o644, true)?;
    Ok(text)
}

/// Whether something other than a file of public keys has its name, rather than that it cannot be read now.
fn is_no_file(error: &io::Error) -> bool {
    let other = [Errno::LOOP, Errno::NXIO].map(|errno| Some(errno.raw_os_error()));
    matches!(error.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::InvalidData)
        || other.contains(&error.raw_os_error())
}

/// What was known of this log, with what is shown now. A key that is not shown any more has signed heads of before.
fn joined(log: &VerifierKey, known: Option<PublicKeys>, shown: &[StoreAuditKeys]) -> PublicKeys {
    let ours = known.filter(|known| known.log == log.to_string());
    let mut keys = ours.unwrap_or_else(|| PublicKeys::new(log, Vec::new(), Vec::new()));
    let mut hsms: BTreeMap<(String, String), HsmKey> =
        keys.hsms.drain(..).map(|known| ((known.hsm.clone(), known.key.clone()), known)).collect();
    for store in shown.iter().filter(|store| !store.keys.is_empty()) {
        if !keys.trust_anchors.contains(&store.trust_anchor) {
            keys.trust_anchors.push(store.trust_anchor.clone());
        }
        for key in &store.keys {
            let entry = HsmKey {
                hsm: key.hsm.to_string(),
                zone: key.zone.to_string(),
                key_store: store.key_store.to_string(),
                key: key.key.to_string(),
                statement: key.statement.clone(),
                statement_signature: String::new(),
                identity_certificate: key.identity_certificate.clone(),
            };
            let entry = entry.with_signature(&key.statement_signature);
            // A signature of ECDSA is another one each time: one is as good as the other.
            hsms.entry((entry.hsm.clone(), entry.key.clone())).or_insert(entry);
        }
    }
    keys.hsms = hsms.into_values().collect();
    keys
}

#[cfg(test)]
mod tests {
    use super::*;
    use audit::note::LogKey;
    use cluster::AuditKey;

    fn shown(hsms: &[(&str, &LogKey)], anchor: &str) -> StoreAuditKeys {
        let key = |(hsm, key): &(&str, &LogKey)| AuditKey {
            hsm: (*hsm).into(),
            zone: "a".into(),
            key: key.verifier().clone(),
            statement: "a statement".to_owned(),
            statement_signature: vec![7; 64],
            identity_certificate: "a certificate".to_owned(),
        };
        StoreAuditKeys {
            key_store: "cks-1".into(),
            trust_anchor: anchor.to_owned(),
            keys: hsms.iter().map(key).collect(),
        }
    }

    #[test]
    fn what_has_signed_before_stays_and_another_log_s_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let key = |name: &str| LogKey::generate(name).unwrap();
        let (log, a, b, anew) = (key("o"), key("o/hsm-a"), key("o/hsm-b"), key("o/hsm-a"));
        let opened = Directory::open(folder.path()).unwrap();
        let keep = |log: &LogKey, shown: &[StoreAuditKeys]| {
            let text = keep(&opened, log.verifier(), shown, None).unwrap();
            assert_eq!(std::fs::read(folder.path().join("keys.json")).unwrap(), text);
            PublicKeys::from_json(&text).unwrap()
        };
        let keys = keep(&log, &[]);
        assert_eq!((keys.origin.as_str(), keys.hsms.len(), keys.trust_anchors.len()), ("o", 0, 0));
        keep(&log, &[shown(&[("hsm-a", &a), ("hsm-b", &b)], "one")]);
        let keys = keep(&log, &[shown(&[("hsm-a", &anew)], "two"), shown(&[], "three")]);
        let has: Vec<_> = keys.hsms.iter().map(|entry| entry.key.clone()).collect();
        for one in [&a, &b, &anew] {
            assert!(has.contains(&one.verifier().to_string()), "{has:?}");
        }
        assert_eq!((has.len(), &keys.trust_anchors[..]), (3, &["one".to_owned(), "two".to_owned()][..]));

        let other = keep(&key("o/2"), &[]);
        assert_eq!((other.origin.as_str(), other.hsms.len()), ("o/2", 0));
    }

    /// Whatever somebody does to it: what has signed before and is not connected now is not forgotten.
    #[test]
    fn a_file_that_was_removed_or_damaged_is_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let directory = Directory::open(folder.path()).unwrap();
        let (log, hsm) = (LogKey::generate("o").unwrap(), LogKey::generate("o/hsm-a").unwrap());
        let (file, aside) = (folder.path().join("keys.json"), folder.path().join("keys.json.apart"));
        let text = keep(&directory, log.verifier(), &[shown(&[("hsm-a", &hsm)], "one")], None).unwrap();
        let again = |case: &str| {
            assert_eq!(keep(&directory, log.verifier(), &[], Some(&text)).unwrap(), text, "{case}");
            assert_eq!(std::fs::read(&file).unwrap(), text, "{case}");
        };
        std::fs::remove_file(&file).unwrap();
        again("removed");
        assert!(!aside.exists());
        let another = PublicKeys::new(LogKey::generate("p").unwrap().verifier(), Vec::new(), Vec::new());
        std::fs::write(&file, another.to_json().unwrap()).unwrap();
        again("another log's");
        assert!(!aside.exists());
        std::fs::write(&file, &text[..text.len() / 2]).unwrap();
        again("cut");
        assert_eq!(std::fs::read(&aside).unwrap(), text[..text.len() / 2], "it is kept");
        std::fs::remove_file(&file).unwrap();
        let (pipe, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
        rustix::fs::mknodat(rustix::fs::CWD, &file, pipe, mode, 0).unwrap();
        again("a pipe");
        assert_eq!(std::fs::read(&aside).unwrap(), text[..text.len() / 2], "what was put aside before stays");
        assert!(std::fs::symlink_metadata(folder.path().join("keys.json.apart.1")).is_ok());
        std::fs::remove_file(&file).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &file).unwrap();
        again("a link");
        std::fs::remove_file(&file).unwrap();
        std::fs::remove_file(&aside).unwrap();
        std::fs::create_dir(&file).unwrap();
        again("a folder");
        // At a start nothing is known but what the file says.
        std::fs::remove_dir(&aside).unwrap();
        std::fs::write(&file, "damaged").unwrap();
        assert!(keep(&directory, log.verifier(), &[], None).is_ok());
        assert_eq!(std::fs::read_to_string(&aside).unwrap(), "damaged");
    }

    #[test]
    fn a_directory_in_the_place_of_the_log_s_gets_none() {
        let folder = tempfile::tempdir().unwrap();
        let (path, away) = (folder.path().join("log"), folder.path().join("away"));
        std::fs::create_dir(&path).unwrap();
        let directory = Directory::open(&path).unwrap();
        std::fs::rename(&path, &away).unwrap();
        std::fs::create_dir(&path).unwrap();
        keep(&directory, LogKey::generate("o").unwrap().verifier(), &[], None).unwrap();
        assert!(away.join("keys.json").exists() && !path.join("keys.json").exists());
    }
}
