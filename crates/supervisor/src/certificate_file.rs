//! The identity certificate of an HSM whose token holds none: a file on this host, read at each start of a worker by whoever
//! starts it. No worker reads it, so that no module has to reach it.
//!
//! What is in it is believed no more than what is in a token: the certificate is judged, and the token proves the key, in
//! admission.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use rustix::fs::OFlags;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::Settings;
use model::id::HsmId;
use pki::identity::der_of;
use protocol::Role;

/// No certificate of the ceremony comes near it.
const MOST_BYTES: u64 = 16 << 10;

/// The file with an HSM's certificate cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("HSM {hsm}: its identity certificate is to be in the file {at}, {why}; {remedy}", at = .file.display())]
pub struct CertificateFileError {
    /// Whose it is.
    pub hsm: HsmId,
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it.
    pub why: String,
    /// What to do.
    pub remedy: String,
}

impl Settings {
    /// DER of the certificate in the HSM's file; nothing where it is in the token.
    pub fn certificate_of_file(&self) -> Result<Option<Bytes>, CertificateFileError> {
        let Some(file) = &self.certificate else { return Ok(None) };
        look(&self.hsm, file).map(Some)
    }

    /// The same for a worker with this role, by a thread whose waiting for a file system that does not answer holds nobody up for
    /// longer than a worker may look for its token. `reading` has one thread at a time wait. A ceremony makes the file.
    pub(super) async fn certificate_for(
        &self,
        role: Role,
        reading: &Arc<Mutex<()>>,
    ) -> Result<Option<Bytes>, CertificateFileError> {
        let Some(file) = self.certificate.as_ref().filter(|_| role != Role::Ceremony) else { return Ok(None) };
        let (hsm, path, within) = (self.hsm.clone(), file.clone(), self.policy().find);
        let read = async {
            let one = Arc::clone(reading).lock_owned().await;
            let look = move || {
                let _one = one;
                look(&hsm, &path)
            };
            // On panic: the file counts as one that cannot be read; it is read again at the next start of the worker.
            tokio::task::spawn_blocking(look).await
        };
        match timeout(within, read).await {
            Ok(Ok(read)) => read.map(Some),
            Err(_) => Err(CertificateFileError {
                hsm: self.hsm.clone(),
                file: file.clone(),
                why: format!("which was not read within {within:?}"),
                remedy: "see to the file system that it is on, or put the file on another one".to_owned(),
            }),
            Ok(Err(_)) => {
                let why = "which cannot be read (a fault in this program; the log has the place)".to_owned();
                Err(error(&self.hsm, file, Unread { why, readable: false }))
            }
        }
    }
}

fn look(hsm: &HsmId, file: &Path) -> Result<Bytes, CertificateFileError> {
    read(file).map_err(|unread| error(hsm, file, unread))
}

fn error(hsm: &HsmId, file: &Path, Unread { why, readable }: Unread) -> CertificateFileError {
    let remedy = match readable {
        true => remedy(hsm),
        false => format!(
            "let the user that the daemon runs as read it (it is a copy of {hsm}.identity.crt of the ceremony folder)"
        ),
    };
    CertificateFileError { hsm: hsm.clone(), file: file.to_owned(), why, remedy }
}

/// How an HSM comes to a good file.
#[must_use]
pub fn remedy(hsm: &HsmId) -> String {
    format!(
        "put {hsm}.identity.crt of the ceremony folder there, or carry the ceremony out once more with that folder; where the \
         token holds the certificate, set capabilities.objects.certificate = \"token\""
    )
}

struct Unread {
    why: String,
    /// Whoever may read it finds something that is wrong.
    readable: bool,
}

fn read(path: &Path) -> Result<Bytes, Unread> {
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::NotFound => Unread { why: "which is not there".to_owned(), readable: true },
        _ => Unread { why: format!("which cannot be read ({error})"), readable: false },
    };
    let wrong = |why: &str| Unread { why: format!("which is none of a ceremony ({why})"), readable: true };
    // Not blocking: a pipe that nobody writes to would be waited for. What is judged is what is open, whatever has its place now.
    let nonblocking = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path).map_err(failed)?;
    if !file.metadata().map_err(failed)?.is_file() {
        return Err(wrong("it is no regular file"));
    }
    let mut text = Vec::new();
    file.take(MOST_BYTES + 1).read_to_end(&mut text).map_err(failed)?;
    if text.len() as u64 > MOST_BYTES {
        return Err(wrong("it is too long"));
    }
    let pem = String::from_utf8(text).map_err(|_| wrong("it is not PEM"))?;
    der_of(&pem).map(Bytes::from).map_err(|error| wrong(&error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::KillLimits;
    use pki::identity::pem_of;

    fn settings(file: Option<PathBuf>) -> Settings {
        Settings { certificate: file, ..Settings::of_a_test("hsm-a", "zone-a") }
    }

    #[test]
    fn a_file_is_read_and_a_token_has_none() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.crt");
        std::fs::write(&file, pem_of(b"der")).unwrap();
        let read = settings(Some(file)).certificate_of_file().unwrap();
        assert_eq!(read.as_deref(), Some(&b"der"[..]));
        assert_eq!(settings(None).certificate_of_file(), Ok(None));
    }

    #[test]
    fn each_trouble_names_file_hsm_and_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.crt");
        let settings = settings(Some(file.clone()));
        let says = |words: &str| {
            let error = settings.certificate_of_file().unwrap_err().to_string();
            assert!(error.contains(words) && error.contains(&file.display().to_string()), "{words}: {error}");
            assert!(error.starts_with("HSM hsm-a: ") && error.contains("hsm-a.identity.crt"), "{words}: {error}");
        };
        says("which is not there");
        for (text, words) in [
            (String::new(), "not a certificate in PEM"),
            ("der".to_owned(), "not a certificate in PEM"),
            (format!("{0}{0}", pem_of(b"der")), "exactly one certificate"),
            (pem_of(b"der").replace("CERTIFICATE", "PRIVATE KEY"), "exactly one certificate"),
            (" ".repeat(17 << 10), "too long"),
        ] {
            std::fs::write(&file, text).unwrap();
            says(words);
        }
        std::fs::write(&file, [0xff, 0xfe]).unwrap();
        says("not PEM");
        std::fs::remove_file(&file).unwrap();
        std::fs::create_dir(&file).unwrap();
        says("no regular file");
        std::fs::remove_dir(&file).unwrap();
        let pipe = rustix::fs::FileType::Fifo;
        rustix::fs::mknodat(rustix::fs::CWD, &file, pipe, rustix::fs::Mode::from_raw_mode(0o600), 0).unwrap();
        says("no regular file");
    }

    /// The ceremony makes the file, and looks for none.
    #[tokio::test]
    async fn only_a_ceremony_begins_without_it() {
        let folder = tempfile::tempdir().unwrap();
        let settings = settings(Some(folder.path().join("not there")));
        let reading = Arc::default();
        assert_eq!(settings.certificate_for(Role::Ceremony, &reading).await, Ok(None));
        for role in [Role::Control, Role::Data] {
            assert_eq!(settings.certificate_for(role, &reading).await, settings.certificate_of_file());
            assert!(settings.certificate_for(role, &reading).await.is_err());
        }
    }

    /// Who holds the reading stands for a file system that does not answer.
    #[tokio::test]
    async fn a_file_system_that_does_not_answer_is_waited_for_no_longer_than_a_token() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.crt");
        std::fs::write(&file, pem_of(b"der")).unwrap();
        let settings = Settings { start_timeout: Duration::from_millis(1), ..settings(Some(file.clone())) };
        let settings = Settings { kill: KillLimits { place: Duration::from_millis(1), ..settings.kill }, ..settings };
        let reading = Arc::new(Mutex::new(()));
        let held = reading.lock().await;
        let error = settings.certificate_for(Role::Data, &reading).await.unwrap_err().to_string();
        assert!(error.contains("was not read within") && error.contains(&file.display().to_string()), "{error}");
        drop(held);
        let settings = Settings { start_timeout: Duration::from_secs(60), ..settings };
        assert!(settings.certificate_for(Role::Data, &reading).await.unwrap().is_some());
    }

    /// Of a directory that may not be looked into; root may.
    #[test]
    fn what_may_not_be_read_is_the_users_affair() {
        let Err(Unread { why, readable }) = read(Path::new("/dev/null/a.crt")) else { panic!("it is read") };
        assert!(why.contains("cannot be read") && !readable, "{why}");
    }
}
