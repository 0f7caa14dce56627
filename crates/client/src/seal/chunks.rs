//! The chunks of a sealed file: AES-256-GCM in the STREAM construction (Hoang, Reyhanitabar, Rogaway, Vizár 2015).
//!
//! Each chunk's nonce holds its number and whether it is the last, and every chunk is bound to the whole header, so
//! chunks cannot be reordered, dropped, repeated, cut off or taken from another file. Memory is one chunk, whatever the
//! size of the file. Nothing that was not verified is handed on, but what was handed on is complete only when
//! [`Cipher::open`] has returned.

use std::io::{BufRead, Write};
use std::ops::ControlFlow;

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::hkdf;
use zeroize::Zeroizing;

use super::Error;
use super::header::Header;
use model::secret::Secret;

/// Length of a data key, in bytes.
pub const DATA_KEY_BYTES: usize = 32;
/// What each chunk is longer by than its plaintext, in bytes.
pub const TAG_BYTES: usize = 16;
const PREFIX_BYTES: usize = 7;
const INFO: &[u8] = b"keystored sealed file v1";

/// Hears the number of plaintext bytes done so far, after each chunk; may end the work.
pub type Progress<'a> = &'a mut dyn FnMut(u64) -> ControlFlow<()>;

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done {
    /// Plaintext bytes.
    pub plaintext_bytes: u64,
    /// Chunks; an empty file has one.
    pub chunks: u64,
}

/// Seals or opens the chunks of one file.
pub struct Cipher {
    key: LessSafeKey,
    prefix: [u8; PREFIX_BYTES],
    header: Vec<u8>,
    chunk_bytes: usize,
}

impl Cipher {
    /// Derives the file's own key and nonce prefix: HKDF-SHA-256 with the file id as salt, the data key as input key
    /// material and the format's name as info. A data key that serves several files by mistake still gives each of
    /// them its own key.
    pub fn new(data_key: &Secret, header: &Header) -> Result<Self, Error> {
        if data_key.len() != DATA_KEY_BYTES {
            return Err(Error::DataKey("the data key is not 32 bytes long"));
        }
        let unusable = |_| Error::DataKey("the file's key cannot be derived");
        let mut derived = Zeroizing::new([0; DATA_KEY_BYTES + PREFIX_BYTES]);
        hkdf::Salt::new(hkdf::HKDF_SHA256, &header.file_id)
            .extract(data_key.expose())
            .expand(&[INFO], Length)
            .and_then(|okm| okm.fill(derived.as_mut_slice()))
            .map_err(unusable)?;
        let (key, prefix) = derived.split_at(DATA_KEY_BYTES);
        let key = UnboundKey::new(&AES_256_GCM, key).map_err(unusable)?;
        let prefix = prefix.try_into().map_err(|_| Error::DataKey("the file's key cannot be derived"))?;
        Ok(Self {
            key: LessSafeKey::new(key),
            prefix,
            header: header.encode()?,
            chunk_bytes: header.chunk_size.bytes(),
        })
    }

    /// Writes the header and the chunks of everything that `input` holds.
    pub fn seal(
        &self,
        input: &mut impl BufRead,
        output: &mut impl Write,
        progress: Progress<'_>,
    ) -> Result<Done, Error> {
        output.write_all(&self.header).map_err(Error::Write)?;
        let mut buffer = Zeroizing::new(Vec::with_capacity(self.chunk_bytes + TAG_BYTES));
        let mut done = Done { plaintext_bytes: 0, chunks: 0 };
        loop {
            let last = fill(input, &mut buffer, self.chunk_bytes)?;
            done.plaintext_bytes += buffer.len() as u64;
            let nonce = self.nonce(done.chunks, last)?;
            self.key
                .seal_in_place_append_tag(nonce, Aad::from(&self.header), &mut *buffer)
                .map_err(|_| Error::DataKey("the cipher refuses the chunk"))?;
            output.write_all(&buffer).map_err(Error::Write)?;
            done.chunks += 1;
            if progress(done.plaintext_bytes).is_break() {
                return Err(Error::Interrupted);
            }
            if last {
                return Ok(done);
            }
        }
    }

    /// Verifies the chunks that follow the header and writes their plaintext. When this fails, what was written is the
    /// true beginning of the file, but not the file.
    pub fn open(
        &self,
        input: &mut impl BufRead,
        output: &mut impl Write,
        progress: Progress<'_>,
    ) -> Result<Done, Error> {
        let mut buffer = Zeroizing::new(Vec::with_capacity(self.chunk_bytes + TAG_BYTES));
        let mut done = Done { plaintext_bytes: 0, chunks: 0 };
        loop {
            let last = fill(input, &mut buffer, self.chunk_bytes + TAG_BYTES)?;
            let broken = Error::Chunk { number: done.chunks + 1 };
            let nonce = self.nonce(done.chunks, last)?;
            let Ok(plaintext) = self.key.open_in_place(nonce, Aad::from(&self.header), buffer.as_mut_slice()) else {
                return Err(broken);
            };
            // One file has one form: a last chunk without content exists in an empty file alone.
            if plaintext.is_empty() && done.chunks > 0 {
                return Err(broken);
            }
            output.write_all(plaintext).map_err(Error::Write)?;
            done.plaintext_bytes += plaintext.len() as u64;
            done.chunks += 1;
            if progress(done.plaintext_bytes).is_break() {
                return Err(Error::Interrupted);
            }
            if last {
                return Ok(done);
            }
        }
    }

    /// Prefix, number of the chunk from 0, and 1 for the last chunk.
    fn nonce(&self, chunk: u64, last: bool) -> Result<Nonce, Error> {
        let number = u32::try_from(chunk).map_err(|_| Error::TooLarge)?;
        let mut nonce = [0; 12];
        nonce[..PREFIX_BYTES].copy_from_slice(&self.prefix);
        nonce[PREFIX_BYTES..11].copy_from_slice(&number.to_be_bytes());
        nonce[11] = u8::from(last);
        Ok(Nonce::assume_unique_for_key(nonce))
    }
}

/// Reads up to `wanted` bytes; true when the input ends with them.
fn fill(input: &mut impl BufRead, buffer: &mut Vec<u8>, wanted: usize) -> Result<bool, Error> {
    buffer.resize(wanted, 0);
    let mut filled = 0;
    while filled < wanted {
        match input.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::Read(error)),
        }
    }
    buffer.truncate(filled);
    if filled < wanted {
        return Ok(true);
    }
    loop {
        match input.fill_buf() {
            Ok(next) => return Ok(next.is_empty()),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Error::Read(error)),
        }
    }
}

struct Length;

impl hkdf::KeyType for Length {
    fn len(&self) -> usize {
        DATA_KEY_BYTES + PREFIX_BYTES
    }
}
