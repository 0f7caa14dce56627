//! keys.json beside the log: what an outsider needs to check it. Written whenever the HSMs have other keys than it says.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::time::Duration;

use super::{Audit, Opened};
use audit::keys::{HsmKey, PublicKeys};
use audit::layout;
use audit::note::VerifierKey;
use audit::within;
use model::lock::MutexExt as _;
use service::StoreAuditKeys;
use telemetry::sampled::{self, Line};

/// What HSMs get to show their keys, where they do not know them yet.
const SHOW: Duration = Duration::from_secs(2);
/// Most bytes of the file that are read.
const BYTES: usize = 16 << 20;

impl Audit {
    /// Asks for the keys of all connected HSMs, and writes the file anew where it says something else.
    pub(super) async fn keep_keys(&self, opened: &Opened) {
        let shown = match self.0.service.get() {
            Some(service) => service.audit_keys(&opened.origin, self.0.clock.now() + SHOW).await,
            None => Vec::new(),
        };
        let all = shown.iter().flat_map(|store| &store.keys);
        self.0.signers.are(all.map(|key| (key.hsm.clone(), key.key.clone())).collect());
        let written = opened.keys.lock_anyway().clone();
        let (directory, verifier) = (self.directory().to_owned(), opened.verifier.clone());
        // On panic: the file is as it was, and looked at again.
        let kept = tokio::task::spawn_blocking(move || keep(&directory, &verifier, &shown, written.as_deref())).await;
        match kept.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(text) => *opened.keys.lock_anyway() = Some(text),
            Err(error) => {
                if sampled::whole(Line::OwnFault, &"audit keys") {
                    tracing::warn!(%error, "the public keys of the audit log cannot be written beside it; it is tried again");
                }
            }
        }
    }
}

/// Has the file say what is known, and gives its text. `written` is what it said before, where that is known.
fn keep(directory: &Path, log: &VerifierKey, shown: &[StoreAuditKeys], written: Option<&[u8]>) -> io::Result<Vec<u8>> {
    let path = directory.join(layout::KEYS);
    let before = match written {
        Some(text) if path.exists() => text.to_vec(),
        _ => within::read(directory, Path::new(layout::KEYS), BYTES).ok().flatten().unwrap_or_default(),
    };
    let known = PublicKeys::from_json(&before).ok();
    let text = joined(log, known, shown).to_json().map_err(io::Error::other)?;
    if text != before {
        let unfinished = Path::new(".keys.json.new");
        within::put(directory, unfinished, Path::new(layout::KEYS), &text, 0o644, true)?;
    }
    Ok(text)
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
        let keep = |log: &LogKey, shown: &[StoreAuditKeys]| {
            let text = keep(folder.path(), log.verifier(), shown, None).unwrap();
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

    #[test]
    fn a_file_that_was_removed_is_written_again() {
        let folder = tempfile::tempdir().unwrap();
        let log = LogKey::generate("o").unwrap();
        let text = keep(folder.path(), log.verifier(), &[], None).unwrap();
        std::fs::remove_file(folder.path().join("keys.json")).unwrap();
        assert_eq!(keep(folder.path(), log.verifier(), &[], Some(&text)).unwrap(), text);
        assert!(folder.path().join("keys.json").exists());
    }
}
