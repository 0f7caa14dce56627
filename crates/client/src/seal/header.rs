//! The header of a sealed file: what is in it, strictly read.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Read;

use super::Error;
use model::limits;

/// First bytes of every sealed file. Not text, and damaged by whoever takes it for text.
pub const MAGIC: [u8; 8] = *b"\x89KSF\r\n\x1a\n";
/// The only version there is.
pub const VERSION: u8 = 1;
/// Bytes before the wrapped data key.
pub const FIXED_BYTES: usize = 28;

/// Plaintext bytes of each chunk but the last: a power of two from 64 KiB to 1 MiB.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkSize(u8);

impl ChunkSize {
    /// 64 KiB.
    pub const MIN: Self = Self(16);
    /// 1 MiB.
    pub const MAX: Self = Self(20);

    /// The size whose binary logarithm this is.
    #[must_use]
    pub const fn from_log2(log2: u8) -> Option<Self> {
        if log2 >= Self::MIN.0 && log2 <= Self::MAX.0 { Some(Self(log2)) } else { None }
    }

    /// In bytes.
    #[must_use]
    pub const fn bytes(self) -> usize {
        1 << self.0
    }
}

impl Default for ChunkSize {
    /// 256 KiB: the cipher runs at full speed from about here, and memory stays small.
    fn default() -> Self {
        Self(18)
    }
}

/// What stands before the chunks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Size of the chunks.
    pub chunk_size: ChunkSize,
    /// Random; names the file in the encryption context and in the derivation of its key.
    pub file_id: [u8; 16],
    /// The data key as GenerateDataKey returned it, 1 to 6,144 bytes.
    pub wrapped_key: Vec<u8>,
}

impl Header {
    /// The bytes as they stand in the file.
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        let length = u16::try_from(self.wrapped_key.len()).unwrap_or(u16::MAX);
        if length == 0 || usize::from(length) > limits::CIPHERTEXT_BYTES {
            return Err(Error::DataKey("the wrapped data key is not 1 to 6144 bytes long"));
        }
        let mut bytes = Vec::with_capacity(FIXED_BYTES + self.wrapped_key.len());
        bytes.extend_from_slice(&MAGIC);
        bytes.push(VERSION);
        bytes.push(self.chunk_size.0);
        bytes.extend_from_slice(&length.to_be_bytes());
        bytes.extend_from_slice(&self.file_id);
        bytes.extend_from_slice(&self.wrapped_key);
        Ok(bytes)
    }

    /// Reads a header and not a byte more.
    pub fn read(input: &mut impl Read) -> Result<Self, Error> {
        let mut fixed = [0; FIXED_BYTES];
        // The magic is looked at first, so that a short text file is called what it is.
        read_exactly(input, &mut fixed[..8])?;
        if fixed[..8] != MAGIC {
            return Err(Error::NotSealed);
        }
        read_exactly(input, &mut fixed[8..9])?;
        if fixed[8] != VERSION {
            return Err(Error::Version(fixed[8]));
        }
        read_exactly(input, &mut fixed[9..])?;
        let chunk_size = ChunkSize::from_log2(fixed[9]).ok_or(Error::Header("its chunk size is not 2^16 to 2^20"))?;
        let length = usize::from(u16::from_be_bytes([fixed[10], fixed[11]]));
        if length == 0 || length > limits::CIPHERTEXT_BYTES {
            return Err(Error::Header("its wrapped data key is not 1 to 6144 bytes long"));
        }
        let mut file_id = [0; 16];
        file_id.copy_from_slice(&fixed[12..]);
        let mut wrapped_key = vec![0; length];
        read_exactly(input, &mut wrapped_key)?;
        Ok(Self { chunk_size, file_id, wrapped_key })
    }

    /// The encryption context under which the data key of this file is wrapped: a wrapped data key taken out of another
    /// file, or out of anything that is no sealed file, does not open.
    #[must_use]
    pub fn encryption_context(&self) -> BTreeMap<String, String> {
        encryption_context(&self.file_id)
    }
}

/// See [`Header::encryption_context`].
#[must_use]
pub fn encryption_context(file_id: &[u8; 16]) -> BTreeMap<String, String> {
    let mut id = String::with_capacity(32);
    for byte in file_id {
        // Writing to a String does not fail.
        let _ = write!(id, "{byte:02x}");
    }
    BTreeMap::from([("keystored:file-id".to_owned(), id), ("keystored:format".to_owned(), "sealed-file-v1".to_owned())])
}

fn read_exactly(input: &mut impl Read, buffer: &mut [u8]) -> Result<(), Error> {
    input.read_exact(buffer).map_err(|error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => Error::NotSealed,
        _ => Error::Read(error),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn header() -> Header {
        Header { chunk_size: ChunkSize::default(), file_id: [7; 16], wrapped_key: vec![1, 2, 3] }
    }

    #[test]
    fn reads_what_it_wrote_and_not_a_byte_more() {
        let mut bytes = header().encode().unwrap();
        bytes.extend_from_slice(b"rest");
        let mut input = bytes.as_slice();
        assert_eq!(Header::read(&mut input).unwrap(), header());
        assert_eq!(input, b"rest");
    }

    #[test]
    fn truncated_anywhere_is_refused() {
        let bytes = header().encode().unwrap();
        for length in 0..bytes.len() {
            assert!(Header::read(&mut &bytes[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        let good = header().encode().unwrap();
        let with = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            Header::read(&mut bytes.as_slice()).unwrap_err().to_string()
        };
        assert!(with(0, 0).contains("not a sealed file"));
        assert!(with(8, 2).contains("version 2"));
        assert!(with(9, 15).contains("chunk size"));
        assert!(with(9, 21).contains("chunk size"));
        assert!(with(10, 0xff).contains("wrapped data key"));
        assert!(with(11, 0).contains("wrapped data key"));
    }

    #[test]
    fn context_names_format_and_file() {
        let context = encryption_context(&[0xab; 16]);
        assert_eq!(context["keystored:format"], "sealed-file-v1");
        assert_eq!(context["keystored:file-id"], "ab".repeat(16));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = Header::read(&mut bytes.as_slice());
            let mut with_magic = MAGIC.to_vec();
            with_magic.push(VERSION);
            with_magic.extend_from_slice(&bytes);
            if let Ok(read) = Header::read(&mut with_magic.as_slice()) {
                prop_assert!(with_magic.starts_with(&read.encode().unwrap()));
            }
        }
    }
}
