//! What the format promises: whatever is done to a sealed file, it opens to what was sealed or not at all.

use std::ops::ControlFlow;

use proptest::prelude::*;

use super::Error;
use super::chunks::{Cipher, Done, TAG_BYTES};
use super::header::{ChunkSize, Header};
use model::secret::Secret;

const CHUNK: usize = ChunkSize::MIN.bytes();
const SEALED_CHUNK: usize = CHUNK + TAG_BYTES;

fn header(file: u8) -> Header {
    Header { chunk_size: ChunkSize::MIN, file_id: [file; 16], wrapped_key: b"wrapped data key".to_vec() }
}

fn data_key() -> Secret {
    Secret::new((0..32).collect())
}

fn content(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at.wrapping_mul(167) >> 3) as u8).collect()
}

fn seal(header: &Header, plaintext: &[u8]) -> Vec<u8> {
    let mut sealed = Vec::new();
    let cipher = Cipher::new(&data_key(), header).unwrap();
    cipher.seal(&mut &*plaintext, &mut sealed, &mut |_| ControlFlow::Continue(())).unwrap();
    sealed
}

fn open(sealed: &[u8]) -> Result<Vec<u8>, Error> {
    let mut input = sealed;
    let header = Header::read(&mut input)?;
    let mut plaintext = Vec::new();
    Cipher::new(&data_key(), &header)?.open(&mut input, &mut plaintext, &mut |_| ControlFlow::Continue(()))?;
    Ok(plaintext)
}

/// Header and chunks of a sealed file.
fn parts(sealed: &[u8]) -> (Vec<u8>, Vec<Vec<u8>>) {
    let (header, chunks) = sealed.split_at(header(0).encode().unwrap().len());
    (header.to_vec(), chunks.chunks(SEALED_CHUNK).map(<[u8]>::to_vec).collect())
}

fn join(header: &[u8], chunks: &[Vec<u8>]) -> Vec<u8> {
    [header, &chunks.concat()].concat()
}

#[test]
fn every_length_around_the_chunk_size_opens() {
    for length in [0, 1, 15, 16, 17, CHUNK - 1, CHUNK, CHUNK + 1, 2 * CHUNK, 2 * CHUNK + 16, 3 * CHUNK - 1] {
        let sealed = seal(&header(1), &content(length));
        let chunks = length.div_ceil(CHUNK).max(1);
        assert_eq!(sealed.len(), header(1).encode().unwrap().len() + length + chunks * TAG_BYTES, "{length}");
        assert_eq!(open(&sealed).unwrap(), content(length), "{length}");
    }
}

#[test]
fn every_flipped_bit_of_a_small_file_is_found() {
    for length in [0, 40] {
        let sealed = seal(&header(1), &content(length));
        for bit in 0..sealed.len() * 8 {
            let mut altered = sealed.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&altered).is_err(), "bit {bit} of a file of {length} bytes");
        }
    }
}

#[test]
fn every_truncation_of_a_small_file_and_every_added_byte_is_found() {
    let sealed = seal(&header(1), &content(40));
    for length in 0..sealed.len() {
        assert!(open(&sealed[..length]).is_err(), "{length}");
    }
    for byte in [0, 1, 0xff] {
        assert!(open(&[sealed.as_slice(), &[byte]].concat()).is_err());
    }
}

#[test]
fn truncation_at_and_around_each_chunk_is_found() {
    let sealed = seal(&header(1), &content(3 * CHUNK));
    let head = header(1).encode().unwrap().len();
    for chunk in 0..=3_usize {
        for off in -18_isize..=18 {
            let Some(length) = (head + chunk * SEALED_CHUNK).checked_add_signed(off) else { continue };
            if length < sealed.len() {
                assert!(open(&sealed[..length]).is_err(), "{length}");
            }
        }
    }
}

#[test]
fn an_empty_last_chunk_behind_others_is_refused() {
    // Sealed by a writer that does not know at the end of a chunk that it was the last: the same content in another
    // form. The chunk is genuine; the form is not.
    let cipher = Cipher::new(&data_key(), &header(1)).unwrap();
    let mut sealed = Vec::new();
    let mut ends_late = LateEnd { rest: content(CHUNK), said_more: false };
    let done = cipher.seal(&mut ends_late, &mut sealed, &mut |_| ControlFlow::Continue(())).unwrap();
    assert_eq!(done, Done { plaintext_bytes: CHUNK as u64, chunks: 2 });
    assert!(matches!(open(&sealed), Err(Error::Chunk { number: 2 })));
}

/// Claims once that more follows when nothing does.
struct LateEnd {
    rest: Vec<u8>,
    said_more: bool,
}

impl std::io::Read for LateEnd {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = buffer.len().min(self.rest.len());
        buffer[..count].copy_from_slice(&self.rest[..count]);
        self.rest.drain(..count);
        Ok(count)
    }
}

impl std::io::BufRead for LateEnd {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        let more = !std::mem::replace(&mut self.said_more, true);
        Ok(if more { b"x" } else { b"" })
    }

    fn consume(&mut self, _: usize) {}
}

#[test]
fn chunks_of_another_file_under_the_same_data_key_are_refused() {
    let (head, chunks) = parts(&seal(&header(1), &content(2 * CHUNK + 5)));
    let (other_head, other_chunks) = parts(&seal(&header(2), &content(2 * CHUNK + 5)));
    for at in 0..3 {
        let mut mixed = chunks.clone();
        mixed[at] = other_chunks[at].clone();
        assert!(open(&join(&head, &mixed)).is_err(), "chunk {at}");
    }
    assert!(open(&join(&other_head, &chunks)).is_err());
}

#[test]
fn a_header_with_another_wrapped_key_is_refused() {
    // The same file key, as if the service had opened the other blob to the same data key.
    let sealed = seal(&header(1), &content(10));
    let mut other = header(1);
    other.wrapped_key[0] ^= 1;
    let (_, chunks) = parts(&sealed);
    assert!(open(&join(&other.encode().unwrap(), &chunks)).is_err());
}

#[test]
fn the_work_can_be_ended() {
    let cipher = Cipher::new(&data_key(), &header(1)).unwrap();
    let plaintext = content(3 * CHUNK);
    let mut heard = Vec::new();
    let result = cipher.seal(&mut plaintext.as_slice(), &mut Vec::new(), &mut |done| {
        heard.push(done);
        if heard.len() == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert!(matches!(result, Err(Error::Interrupted)));
    assert_eq!(heard, [CHUNK as u64, 2 * CHUNK as u64]);
}

#[test]
fn data_keys_of_another_length_are_refused() {
    for length in [0, 16, 31, 33] {
        assert!(matches!(Cipher::new(&Secret::new(vec![1; length]), &header(1)), Err(Error::DataKey(_))));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_content_opens(plaintext in proptest::collection::vec(any::<u8>(), 0..3 * CHUNK)) {
        prop_assert_eq!(open(&seal(&header(1), &plaintext)).unwrap(), plaintext);
    }

    #[test]
    fn a_flipped_bit_anywhere_is_found(length in 0..3 * CHUNK, at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let mut sealed = seal(&header(1), &content(length));
        let at = at.index(sealed.len());
        sealed[at] ^= 1 << bit;
        prop_assert!(open(&sealed).is_err());
    }

    #[test]
    fn truncation_anywhere_is_found(length in 0..3 * CHUNK, at in any::<prop::sample::Index>()) {
        let sealed = seal(&header(1), &content(length));
        prop_assert!(open(&sealed[..at.index(sealed.len())]).is_err());
    }

    #[test]
    fn any_other_sequence_of_chunks_is_found(
        chunks in 1..5_usize,
        order in proptest::collection::vec(0..5_usize, 0..7),
    ) {
        // Dropped, repeated and reordered chunks, all at once. The last chunk is a full one, so that each fits at
        // each place.
        let (head, parts) = parts(&seal(&header(1), &content(chunks * CHUNK)));
        let order: Vec<usize> = order.into_iter().map(|number| number % chunks).collect();
        let mixed: Vec<Vec<u8>> = order.iter().map(|&number| parts[number].clone()).collect();
        let opened = open(&join(&head, &mixed));
        prop_assert_eq!(opened.is_ok(), order == (0..chunks).collect::<Vec<_>>());
    }
}

mod vectors {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct File {
        vectors: Vec<Vector>,
    }

    #[derive(Deserialize)]
    struct Vector {
        name: String,
        data_key: String,
        file_id: String,
        wrapped_key: String,
        chunk_size_log2: u8,
        plaintext_length: usize,
        header: String,
        sealed_length: usize,
        sealed_sha256: String,
        first_chunk_tag: String,
        last_chunk_tag: String,
    }

    /// The plaintext of every vector: byte `i` is `(7 * i + i / 256) mod 256`.
    fn plaintext(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at.wrapping_mul(7) + at / 256) as u8).collect()
    }

    fn bytes(hex: &str) -> Vec<u8> {
        (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn are_sealed_and_opened_for_ever() {
        let text = include_str!("../../../../tests/vectors/sealed-file-v1.json");
        let file: File = serde_json::from_str(text).unwrap();
        assert!(file.vectors.len() >= 6);
        for vector in file.vectors {
            let header = Header {
                chunk_size: ChunkSize::from_log2(vector.chunk_size_log2).unwrap(),
                file_id: bytes(&vector.file_id).try_into().unwrap(),
                wrapped_key: bytes(&vector.wrapped_key),
            };
            assert_eq!(hex(&header.encode().unwrap()), vector.header, "{}", vector.name);
            let cipher = Cipher::new(&Secret::new(bytes(&vector.data_key)), &header).unwrap();
            let plaintext = plaintext(vector.plaintext_length);
            let mut sealed = Vec::new();
            cipher.seal(&mut plaintext.as_slice(), &mut sealed, &mut |_| ControlFlow::Continue(())).unwrap();
            let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &sealed);
            assert_eq!(sealed.len(), vector.sealed_length, "{}", vector.name);
            let first_end = sealed.len().min(vector.header.len() / 2 + header.chunk_size.bytes() + TAG_BYTES);
            assert_eq!(hex(&sealed[first_end - TAG_BYTES..first_end]), vector.first_chunk_tag, "{}", vector.name);
            assert_eq!(hex(&sealed[sealed.len() - TAG_BYTES..]), vector.last_chunk_tag, "{}", vector.name);
            assert_eq!(hex(digest.as_ref()), vector.sealed_sha256, "{}", vector.name);

            let mut input = sealed.as_slice();
            assert_eq!(Header::read(&mut input).unwrap(), header);
            let mut opened = Vec::new();
            cipher.open(&mut input, &mut opened, &mut |_| ControlFlow::Continue(())).unwrap();
            assert_eq!(opened, plaintext, "{}", vector.name);
        }
    }
}
