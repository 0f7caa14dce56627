//! The operator's ceremony folder: the cluster's authority, for each token the cluster wrapping key, wrapped to its
//! transport key, for each token that was added later its certificates, and so for each that holds none itself.
//!
//! One file of each kind for each HSM, named by its id, mode 0600, in a folder of mode 0700. A file is replaced as a
//! whole or not at all, and says for which token and for which wrapping key it is: copies of two wrapping keys are
//! never mixed.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Error, NewMember};
use model::id::HsmId;
use model::secret::Secret;
use pki::identity::der_of;
use protocol::{Pair, TransportKey};

/// The private key of the cluster's authority, PEM.
pub(super) const AUTHORITY_KEY: &str = "customerCA.key";
/// Its certificate, PEM.
pub(super) const AUTHORITY_CERTIFICATE: &str = "customerCA.crt";
const FOLDER_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// What the names of the files with wrapped keys end with, after the HSM's id.
const ENDING: &str = ".wrapping.json";
/// Likewise, of the files with the certificates of HSMs that were added.
const MEMBER_ENDING: &str = ".certified.json";
/// Likewise, of those with the certificates of tokens that hold none.
const IDENTITY_ENDING: &str = ".identity.crt";
const TRANSPORT_ENDING: &str = ".transport.crt";
/// No file of ours is longer; what is, is not read.
const MOST_BYTES: u64 = 64 << 10;

/// The wrapping key for one token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Parcel {
    /// Names the wrapping key: the same in all parcels that were made together.
    pub set: String,
    /// The token's serial number, for people.
    serial: String,
    /// Modulus of the transport key that opens it.
    #[serde(with = "hex")]
    transport: Bytes,
    /// The wrapping key under RSA-OAEP.
    #[serde(with = "hex")]
    pub blob: Bytes,
}

impl Parcel {
    pub(super) fn new(set: String, serial: &str, transport: &TransportKey, blob: Bytes) -> Self {
        Self { set, serial: serial.to_owned(), transport: transport.modulus.clone(), blob }
    }

    /// Whether this transport key opens it. A token that was initialised anew has another.
    pub(super) fn is_for(&self, transport: &TransportKey) -> bool {
        self.transport == transport.modulus
    }
}

/// A name for a new wrapping key's parcels.
pub(super) fn new_set() -> String {
    Uuid::new_v4().to_string()
}

/// The folder.
#[derive(Debug)]
pub(super) struct Folder(PathBuf);

impl Folder {
    /// Makes the folder where there is none. One that is open to others is closed when it is empty or ours already, and
    /// refused otherwise: it may be somebody else's.
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let folder = Self(path.to_owned());
        let in_folder = |error: std::io::Error| folder.failed(path, &error);
        DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(path).map_err(in_folder)?;
        let mode = fs::metadata(path).map_err(in_folder)?.permissions().mode() & 0o777;
        if mode & 0o077 != 0 {
            let mut foreign = false;
            for entry in fs::read_dir(path).map_err(in_folder)? {
                foreign |= !is_ours(&entry.map_err(in_folder)?.file_name().to_string_lossy());
            }
            if foreign {
                let error =
                    format!("is open to others (mode {mode:03o}) and holds other files: name a folder of its own");
                return Err(Error::Folder { path: path.display().to_string(), error });
            }
            fs::set_permissions(path, Permissions::from_mode(FOLDER_MODE)).map_err(in_folder)?;
        }
        Ok(folder)
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// The parcel for an HSM, if there is one.
    pub(super) fn read(&self, hsm: &HsmId) -> Result<Option<Parcel>, Error> {
        self.json(hsm, ENDING)
    }

    /// What was certified of an HSM that was added, if it was.
    pub(super) fn member(&self, hsm: &HsmId) -> Result<Option<NewMember>, Error> {
        self.json(hsm, MEMBER_ENDING)
    }

    fn json<T: serde::de::DeserializeOwned>(&self, hsm: &HsmId, ending: &str) -> Result<Option<T>, Error> {
        let path = self.file(hsm, ending)?;
        let Some(bytes) = self.contents(&path)? else { return Ok(None) };
        serde_json::from_slice(&bytes).map(Some).map_err(|error| self.malformed(&path, &error.to_string()))
    }

    /// Where the certificate of a token's pair is kept, if the token does not hold it.
    pub(super) fn certificate_file(&self, hsm: &HsmId, of: Pair) -> Result<PathBuf, Error> {
        self.file(hsm, certificate_ending(of))
    }

    /// DER of that certificate. One that cannot be made out is none: it is made again.
    pub(super) fn certificate(&self, hsm: &HsmId, of: Pair) -> Result<Option<Bytes>, Error> {
        let contents = self.contents(&self.certificate_file(hsm, of)?)?;
        Ok(contents.and_then(|pem| der_of(&String::from_utf8_lossy(&pem)).ok()).map(Bytes::from))
    }

    /// Keeps that certificate; durable when this returns.
    pub(super) fn keep_certificate(&self, hsm: &HsmId, of: Pair, pem: &str) -> Result<(), Error> {
        let path = self.certificate_file(hsm, of)?;
        self.replace(&path, &format!(".{hsm}.new{}", certificate_ending(of)), pem.as_bytes())?;
        self.sync()
    }

    /// HSMs for which there is a parcel.
    pub(super) fn parcels(&self) -> Result<Vec<HsmId>, Error> {
        let entries = fs::read_dir(&self.0).map_err(|error| self.failed(&self.0, &error))?;
        let name = |entry: std::io::Result<fs::DirEntry>| entry.ok()?.file_name().into_string().ok();
        let mut hsms: Vec<HsmId> =
            entries.filter_map(name).filter_map(|name| HsmId::parse(name.strip_suffix(ENDING)?)).collect();
        hsms.sort();
        Ok(hsms)
    }

    /// The contents of a file of the authority, if it is there.
    pub(super) fn text(&self, name: &str) -> Result<Option<Secret>, Error> {
        Ok(self.contents(&self.0.join(name))?.map(Secret::new))
    }

    /// Keeps a file of the authority; durable when this returns.
    pub(super) fn keep_text(&self, name: &str, contents: &[u8]) -> Result<(), Error> {
        self.replace(&self.0.join(name), &format!(".{name}.new"), contents)?;
        self.sync()
    }

    /// A file of the authority is not what it must be.
    pub(super) fn malformed_file(&self, name: &str, why: &str) -> Error {
        Error::Folder { path: self.0.join(name).display().to_string(), error: why.to_owned() }
    }

    fn contents(&self, path: &Path) -> Result<Option<Vec<u8>>, Error> {
        match fs::metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.failed(path, &error)),
            Ok(found) if found.len() > MOST_BYTES => return Err(self.malformed(path, "too long")),
            Ok(_) => {}
        }
        fs::read(path).map(Some).map_err(|error| self.failed(path, &error))
    }

    /// Stores the parcel of an HSM. Durable after [`Folder::sync`].
    pub(super) fn write(&self, hsm: &HsmId, parcel: &Parcel) -> Result<(), Error> {
        self.write_json(hsm, ENDING, parcel)
    }

    /// Keeps what was certified of an HSM; durable when this returns.
    pub(super) fn keep_member(&self, hsm: &HsmId, member: &NewMember) -> Result<(), Error> {
        self.write_json(hsm, MEMBER_ENDING, member)?;
        self.sync()
    }

    fn write_json(&self, hsm: &HsmId, ending: &str, contents: &impl Serialize) -> Result<(), Error> {
        let path = self.file(hsm, ending)?;
        let mut bytes =
            serde_json::to_vec_pretty(contents).map_err(|error| self.malformed(&path, &error.to_string()))?;
        bytes.push(b'\n');
        // The ending makes a left-over of a crash one of our files, so that it does not close the folder to us.
        self.replace(&path, &format!(".{hsm}.new{ending}"), &bytes)
    }

    /// A file is replaced as a whole or not at all.
    fn replace(&self, path: &Path, new: &str, bytes: &[u8]) -> Result<(), Error> {
        let new = self.0.join(new);
        let write = || {
            match fs::remove_file(&new) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let mut file = OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(&new)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&new, path)
        };
        write().map_err(|error| {
            // Half of it would take room from whoever tries again.
            let _ = fs::remove_file(&new);
            self.failed(path, &error)
        })
    }

    /// Returns when what was written survives a loss of power.
    pub(super) fn sync(&self) -> Result<(), Error> {
        File::open(&self.0).and_then(|folder| folder.sync_all()).map_err(|error| self.failed(&self.0, &error))
    }

    fn file(&self, hsm: &HsmId, ending: &str) -> Result<PathBuf, Error> {
        let name = hsm.as_str();
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if name.is_empty() || name.starts_with('.') || !name.chars().all(legal) {
            return Err(
                self.malformed(&self.0, &format!("HSM {name:?} cannot name a file: use letters, digits, - and _"))
            );
        }
        Ok(self.0.join(format!("{name}{ending}")))
    }

    pub(super) fn failed(&self, path: &Path, error: &std::io::Error) -> Error {
        Error::Folder { path: path.display().to_string(), error: error.to_string() }
    }

    fn malformed(&self, path: &Path, why: &str) -> Error {
        Error::Folder { path: path.display().to_string(), error: format!("not a file of a ceremony: {why}") }
    }
}

const fn certificate_ending(of: Pair) -> &'static str {
    match of {
        Pair::Identity => IDENTITY_ENDING,
        Pair::Transport => TRANSPORT_ENDING,
    }
}

/// What the folder may hold.
fn is_ours(name: &str) -> bool {
    let name = name.strip_prefix('.').and_then(|rest| rest.strip_suffix(".new")).unwrap_or(name);
    [ENDING, MEMBER_ENDING, IDENTITY_ENDING, TRANSPORT_ENDING].iter().any(|ending| name.ends_with(ending))
        || name == AUTHORITY_KEY
        || name == AUTHORITY_CERTIFICATE
}

/// Bytes as hexadecimal digits, so that the file can be read and compared by people.
mod hex {
    use bytes::Bytes;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
        let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        serializer.serialize_str(&digits)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Bytes, D::Error> {
        let digits = String::deserialize(deserializer)?;
        let byte = |pair: &[u8]| match pair {
            [high, low] => {
                let digit = |c: u8| char::from(c).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
                Some(digit(*high)? << 4 | digit(*low)?)
            }
            _ => None,
        };
        let bytes: Option<Vec<u8>> = digits.as_bytes().chunks(2).map(byte).collect();
        bytes.map(Bytes::from).ok_or_else(|| D::Error::custom("not hexadecimal digits"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transport(byte: u8) -> TransportKey {
        TransportKey::new(&[byte; 256], &[1, 0, 1])
    }

    #[test]
    fn parcels_are_kept_apart_private_and_come_back() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("ceremony");
        let folder = Folder::open(&path).unwrap();
        let (a, b): (HsmId, HsmId) = ("a".into(), "b".into());
        assert_eq!(folder.read(&a).unwrap(), None);
        let parcel = Parcel::new(new_set(), "0123", &transport(7), vec![0xab; 256].into());
        folder.write(&a, &parcel).unwrap();
        folder.write(&a, &parcel).unwrap();
        folder.sync().unwrap();
        assert_eq!(folder.read(&a).unwrap(), Some(parcel.clone()));
        assert_eq!(folder.read(&b).unwrap(), None);
        assert!(parcel.is_for(&transport(7)) && !parcel.is_for(&transport(8)));
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&path.join("a.wrapping.json")), 0o600);
    }

    #[test]
    fn a_folder_that_is_open_to_others_is_closed_or_refused() {
        let parent = tempfile::tempdir().unwrap();
        fs::set_permissions(parent.path(), Permissions::from_mode(0o755)).unwrap();
        Folder::open(parent.path()).unwrap();
        assert_eq!(fs::metadata(parent.path()).unwrap().permissions().mode() & 0o777, 0o700);
        fs::set_permissions(parent.path(), Permissions::from_mode(0o755)).unwrap();
        fs::write(parent.path().join("somebody's"), "file").unwrap();
        let error = Folder::open(parent.path()).unwrap_err().to_string();
        assert!(error.contains("open to others (mode 755)"), "{error}");
    }

    #[test]
    fn names_that_lead_out_of_the_folder_are_refused() {
        let parent = tempfile::tempdir().unwrap();
        let folder = Folder::open(parent.path()).unwrap();
        for name in ["", ".", "../x", "a/b", "a\0"] {
            assert!(folder.read(&name.into()).is_err(), "{name:?}");
        }
    }

    #[test]
    fn what_was_certified_is_no_parcel_and_comes_back() {
        let parent = tempfile::tempdir().unwrap();
        let folder = Folder::open(parent.path()).unwrap();
        let hsm: HsmId = "c".into();
        assert_eq!(folder.member(&hsm).unwrap(), None);
        let text = |text: &str| text.to_owned();
        let member = NewMember { serial: text("1"), identity_certificate: text("i"), transport_certificate: text("t") };
        folder.keep_member(&hsm, &member).unwrap();
        assert_eq!(folder.member(&hsm).unwrap(), Some(member));
        assert_eq!(folder.parcels().unwrap(), []);
        assert!(is_ours("c.certified.json") && is_ours(".c.new.certified.json"));
    }

    #[test]
    fn certificates_of_tokens_are_kept_apart_and_what_is_none_is_not_there() {
        let parent = tempfile::tempdir().unwrap();
        let folder = Folder::open(parent.path()).unwrap();
        let (a, b): (HsmId, HsmId) = ("a".into(), "b".into());
        assert_eq!(folder.certificate(&a, Pair::Identity).unwrap(), None);
        for (hsm, of, der) in [(&a, Pair::Identity, "1"), (&a, Pair::Transport, "2"), (&b, Pair::Identity, "3")] {
            folder.keep_certificate(hsm, of, &pki::identity::pem_of(der.as_bytes())).unwrap();
        }
        let read = |hsm: &HsmId, of| folder.certificate(hsm, of).unwrap();
        assert_eq!(read(&a, Pair::Identity).as_deref(), Some(&b"1"[..]));
        assert_eq!(read(&a, Pair::Transport).as_deref(), Some(&b"2"[..]));
        assert_eq!(read(&b, Pair::Identity).as_deref(), Some(&b"3"[..]));
        assert_eq!((read(&b, Pair::Transport), folder.parcels().unwrap()), (None, vec![]));
        fs::write(folder.certificate_file(&a, Pair::Identity).unwrap(), "-----BEGIN").unwrap();
        assert_eq!(read(&a, Pair::Identity), None);
        assert!(is_ours("a.identity.crt") && is_ours(".a.new.transport.crt") && !is_ours("a.crt"));
        // A folder with nothing else is closed to others, and not refused.
        fs::set_permissions(parent.path(), Permissions::from_mode(0o755)).unwrap();
        Folder::open(parent.path()).unwrap();
    }

    #[test]
    fn damaged_files_are_named() {
        let parent = tempfile::tempdir().unwrap();
        let folder = Folder::open(parent.path()).unwrap();
        for text in ["", "{}", "{\"set\":\"s\",\"serial\":\"1\",\"transport\":\"abc\",\"blob\":\"00\"}"] {
            fs::write(parent.path().join("a.wrapping.json"), text).unwrap();
            let error = folder.read(&"a".into()).unwrap_err().to_string();
            assert!(error.contains("a.wrapping.json"), "{error}");
        }
    }
}
