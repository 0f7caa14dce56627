mod hostile;
mod soundness;
mod tampering;
mod written;

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::*;
use crate::layout;
use crate::note::{Cosigner, Line, LogKey};
use crate::test_support::{Writer, head, record, records};

const ORIGIN: &str = "keys.example/audit";

/// A token that signs.
struct Token(LogKey);

impl Cosigner for Token {
    fn cosign(&self, text: &[u8]) -> Vec<Line> {
        vec![self.0.sign(text)]
    }
}

struct Bench {
    directory: TempDir,
    key: LogKey,
    token: Token,
}

impl Bench {
    fn new() -> Self {
        let key = LogKey::from_seed(ORIGIN, &[1; 32]).unwrap();
        let token = Token(LogKey::from_seed("hsm-1.keys.example", &[2; 32]).unwrap());
        // Thousands of logs are written: in memory, where there is a place for that.
        let memory = Path::new("/dev/shm");
        let directory = if memory.is_dir() { TempDir::new_in(memory) } else { TempDir::new() }.unwrap();
        Self { directory, key, token }
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn writer(&self) -> Writer<'_> {
        self.writer_at(self.path().to_owned())
    }

    fn writer_at(&self, directory: PathBuf) -> Writer<'_> {
        Writer { directory, key: &self.key, cosigner: &self.token }
    }

    fn keys(&self) -> Believed {
        let hsm = crate::keys::BelievedHsm {
            key: self.token.0.verifier().clone(),
            hsm: "hsm-1".to_owned(),
            zone: "zone-a".to_owned(),
            serial: "1".to_owned(),
            anchor: 0,
        };
        Believed { log: self.key.verifier().clone(), hsms: vec![hsm] }
    }

    fn verify(&self, outside: Option<&Checkpoint>) -> Result<Report, Failure> {
        verify_at(&Place::new(self.path()), &self.keys(), outside, &mut |_, _| {})
    }

    fn findings(&self, outside: Option<&Checkpoint>) -> Vec<Finding> {
        match self.verify(outside) {
            Ok(report) => report.findings,
            Err(Failure::Found(report)) => report.findings,
            Err(other) => panic!("{other}"),
        }
    }

    /// Takes away what lies under a name.
    fn remove(&self, name: &str) {
        let path = self.path().join(name);
        let _ = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    }
}
