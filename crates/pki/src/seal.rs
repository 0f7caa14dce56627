//! Sealing of kmsuser's PINs: AES-256-GCM under a key from a credential file, which is kept apart from the metadata.
//! And digests under that key, from which whoever has the metadata guesses nothing, however little there was to guess.
//!
//! Format 1: `0x01`, 8 bytes that name the key, 12 bytes IV, ciphertext, 16 bytes tag. Authenticated with it: the first
//! nine bytes, and what is sealed for what, so that a sealed PIN opens only where it belongs.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::digest::{Context, SHA256};
use aws_lc_rs::hmac;
use zeroize::Zeroizing;

use model::outage::Outage;
use model::secret::{Secret, exposed};

const FORMAT: u8 = 1;
const KEY_BYTES: usize = 32;
const NAME_BYTES: usize = 8;
const IV_BYTES: usize = 12;
const HEADER_BYTES: usize = 1 + NAME_BYTES;

/// Why something cannot be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The key's file cannot be used.
    #[error("seal key {file}: {why}")]
    File {
        /// The key file.
        file: String,
        /// Why, and what to do.
        why: String,
    },
    /// The key's file cannot be read for the moment.
    #[error("seal key {file}: cannot be read ({error})")]
    Unread {
        /// The key file.
        file: String,
        /// The system's words.
        error: std::io::Error,
    },
    /// It was sealed under a key that is not at hand.
    #[error(
        "what is on record is sealed under the seal key {0}, which is not among those of the configuration; name its file in seal.key or seal.former"
    )]
    OtherKey(String),
    /// It is damaged, or sealed for something else.
    #[error("what is sealed is damaged, or does not belong here")]
    Damaged,
    /// The operating system gives no random bytes, or the cipher fails.
    #[error("cannot be sealed")]
    Unsealable,
}

/// One key.
pub struct SealKey {
    name: [u8; NAME_BYTES],
    key: LessSafeKey,
    /// Derived from it, for digests.
    digests: hmac::Key,
}

/// The key in use and those before it.
pub struct SealKeys {
    newest: SealKey,
    former: Vec<SealKey>,
}

/// 32 random bytes for a new key's file.
pub fn new_key() -> Result<Secret, Error> {
    let mut bytes = vec![0; KEY_BYTES];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Error::Unsealable)?;
    Ok(Secret::new(bytes))
}

impl SealKey {
    /// Reads a key's file: 32 bytes, or 64 hexadecimal digits with or without a newline. One that everybody may read or
    /// write is refused.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let failed = |why: String| Error::File { file: path.display().to_string(), why };
        let file = File::open(path).map_err(|error| match Outage::of(&error) {
            Some(_) => Error::Unread { file: path.display().to_string(), error },
            None => {
                failed(format!("cannot be read ({error}); make one with: (umask 077; head -c 32 /dev/urandom > FILE)"))
            }
        })?;
        let metadata = file.metadata().map_err(|error| failed(error.to_string()))?;
        if let Some(why) = exposed(metadata.mode(), "it") {
            return Err(failed(format!("{why}; chmod 0400 it, then replace the key")));
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(2 * KEY_BYTES + 2));
        file.take(2 * KEY_BYTES as u64 + 2).read_to_end(&mut bytes).map_err(|error| failed(error.to_string()))?;
        let key = if bytes.len() == KEY_BYTES { Some(bytes) } else { hexadecimal(bytes.trim_ascii_end()) };
        let key = key.ok_or_else(|| failed("must hold 32 bytes, or 64 hexadecimal digits".to_owned()))?;
        Self::new(&key).ok_or_else(|| failed("is no key".to_owned()))
    }

    /// A key that everybody knows.
    #[cfg(any(test, feature = "test-support"))]
    #[must_use]
    #[allow(clippy::missing_panics_doc, clippy::unwrap_used, reason = "for tests")]
    pub fn test() -> Self {
        Self::test_of(7)
    }

    /// One of several that everybody knows.
    #[cfg(any(test, feature = "test-support"))]
    #[must_use]
    #[allow(clippy::missing_panics_doc, clippy::unwrap_used, reason = "for tests")]
    pub fn test_of(byte: u8) -> Self {
        Self::new(&[byte; KEY_BYTES]).unwrap()
    }

    fn new(key: &[u8]) -> Option<Self> {
        let mut context = Context::new(&SHA256);
        context.update(b"keystored seal key");
        context.update(key);
        let name = context.finish().as_ref().first_chunk().copied()?;
        let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), b"keystored digests of what is not kept");
        let digests = hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref());
        Some(Self { name, key: LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).ok()?), digests })
    }
}

impl SealKeys {
    /// The key in use, and those that may have sealed what is still around.
    #[must_use]
    pub fn new(newest: SealKey, former: Vec<SealKey>) -> Self {
        Self { newest, former }
    }

    /// Seals a secret for a purpose, under the key in use.
    pub fn seal(&self, purpose: &[&str], secret: &Secret) -> Result<Vec<u8>, Error> {
        let mut iv = [0; IV_BYTES];
        aws_lc_rs::rand::fill(&mut iv).map_err(|_| Error::Unsealable)?;
        let mut sealed = Vec::with_capacity(HEADER_BYTES + IV_BYTES + secret.len() + 16);
        sealed.push(FORMAT);
        sealed.extend(self.newest.name);
        let aad = authenticated(&sealed, purpose);
        sealed.extend(iv);
        let mut body = Zeroizing::new(Vec::with_capacity(secret.len() + 16));
        body.extend(secret.expose());
        let nonce = Nonce::assume_unique_for_key(iv);
        self.newest.key.seal_in_place_append_tag(nonce, Aad::from(aad), &mut *body).map_err(|_| Error::Unsealable)?;
        sealed.extend(&body[..]);
        Ok(sealed)
    }

    /// Opens what was sealed for this purpose, under the key in use or a former one.
    pub fn open(&self, purpose: &[&str], sealed: &[u8]) -> Result<Secret, Error> {
        let (header, rest) = sealed.split_at_checked(HEADER_BYTES).ok_or(Error::Damaged)?;
        let (iv, body) = rest.split_first_chunk::<IV_BYTES>().ok_or(Error::Damaged)?;
        let (format, name) = header.split_first().ok_or(Error::Damaged)?;
        if *format != FORMAT {
            return Err(Error::Damaged);
        }
        let mut keys = std::iter::once(&self.newest).chain(&self.former);
        let Some(key) = keys.find(|key| key.name == name) else {
            return Err(Error::OtherKey(name.iter().map(|byte| format!("{byte:02x}")).collect()));
        };
        let aad = authenticated(header, purpose);
        let mut body = Zeroizing::new(body.to_vec());
        let opened = key.key.open_in_place(Nonce::assume_unique_for_key(*iv), Aad::from(aad), &mut body);
        Ok(Secret::new(opened.map_err(|_| Error::Damaged)?.to_vec()))
    }

    /// Digests of these parts for a purpose, which keep them apart: under the key in use first, then under each former
    /// one, since what is on record may be from its time.
    pub fn digests(&self, purpose: &str, parts: &[&[u8]]) -> impl Iterator<Item = [u8; 32]> {
        std::iter::once(&self.newest).chain(&self.former).map(move |key| {
            let mut context = hmac::Context::with_key(&key.digests);
            for part in std::iter::once(purpose.as_bytes()).chain(parts.iter().copied()) {
                context.update(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
                context.update(part);
            }
            let mut digest = [0; 32];
            digest.copy_from_slice(context.sign().as_ref());
            digest
        })
    }
}

fn authenticated(header: &[u8], purpose: &[&str]) -> Vec<u8> {
    let mut aad = header.to_vec();
    for part in purpose {
        aad.extend(u16::try_from(part.len()).unwrap_or(u16::MAX).to_be_bytes());
        aad.extend(part.as_bytes());
    }
    aad
}

fn hexadecimal(digits: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let digit = |c: u8| char::from(c).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let mut key = Zeroizing::new(Vec::with_capacity(KEY_BYTES));
    for pair in digits.chunks(2) {
        let [high, low] = pair else { return None };
        key.push(digit(*high)? << 4 | digit(*low)?);
    }
    (key.len() == KEY_BYTES).then_some(key)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use proptest::prelude::*;

    use super::*;

    fn key(byte: u8) -> SealKey {
        SealKey::new(&[byte; KEY_BYTES]).unwrap()
    }

    fn secret() -> Secret {
        Secret::new(b"kmsuser's".to_vec())
    }

    #[test]
    fn what_is_sealed_opens_where_it_belongs_and_nowhere_else() {
        let keys = SealKeys::new(key(1), Vec::new());
        let sealed = keys.seal(&["pin", "cks-1", "hsm-a"], &secret()).unwrap();
        assert_eq!(keys.open(&["pin", "cks-1", "hsm-a"], &sealed).unwrap(), secret());
        assert!(matches!(keys.open(&["pin", "cks-1", "hsm-b"], &sealed), Err(Error::Damaged)));
        assert!(matches!(keys.open(&["pin", "cks-1h", "sm-a"], &sealed), Err(Error::Damaged)));
        assert_ne!(sealed, keys.seal(&["pin", "cks-1", "hsm-a"], &secret()).unwrap());
    }

    #[test]
    fn a_former_key_opens_and_an_unknown_one_is_named() {
        let sealed = SealKeys::new(key(1), Vec::new()).seal(&["pin"], &secret()).unwrap();
        assert_eq!(SealKeys::new(key(2), vec![key(1)]).open(&["pin"], &sealed).unwrap(), secret());
        let error = SealKeys::new(key(2), Vec::new()).open(&["pin"], &sealed).err().unwrap().to_string();
        assert!(error.contains("seal.former"), "{error}");
    }

    #[test]
    fn digests_tell_keys_purposes_and_parts_apart() {
        let keys = SealKeys::new(key(2), vec![key(1)]);
        let of = |keys: &SealKeys, purpose: &str, parts: &[&[u8]]| keys.digests(purpose, parts).collect::<Vec<_>>();
        let [newest, former] = of(&keys, "call", &[b"a", b"bc"])[..] else { panic!("one for each key") };
        assert_eq!(of(&SealKeys::new(key(1), Vec::new()), "call", &[b"a", b"bc"]), [former], "found after a rotation");
        let others =
            [of(&keys, "call", &[b"ab", b"c"]), of(&keys, "other", &[b"a", b"bc"]), of(&keys, "calla", &[b"bc"])];
        let all: std::collections::BTreeSet<_> = others.concat().into_iter().chain([newest, former]).collect();
        assert_eq!(all.len(), 8);
    }

    #[test]
    fn a_key_s_file_is_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("seal-key");
        let keep = |contents: &[u8], mode: u32| {
            fs::write(&path, contents).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            SealKey::read(&path)
        };
        let binary = keep(&[0xab; 32], 0o600).unwrap();
        let text = keep(format!("{}\n", "ab".repeat(32)).as_bytes(), 0o600).unwrap();
        assert_eq!(binary.name, text.name);
        for (contents, mode, why) in
            [(&b"short"[..], 0o600, "32 bytes"), (&[0xab; 32], 0o644, "everybody"), (&[0xab; 31], 0o600, "32 bytes")]
        {
            let error = keep(contents, mode).err().unwrap().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    proptest! {
        #[test]
        fn whatever_is_altered_does_not_open(place in 0..100_usize, bit in 0..8_u8) {
            let keys = SealKeys::new(key(1), Vec::new());
            let mut sealed = keys.seal(&["pin"], &secret()).unwrap();
            let place = place % sealed.len();
            sealed[place] ^= 1 << bit;
            prop_assert!(keys.open(&["pin"], &sealed).is_err());
        }

        #[test]
        fn nonsense_does_not_open(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
            prop_assert!(SealKeys::new(key(1), Vec::new()).open(&["pin"], &bytes).is_err());
        }
    }
}
