//! Bytes from a worker on their way to becoming messages.

use zeroize::Zeroize;

use protocol::{FrameError, FromWorker, MAX_FRAME_BYTES, decode_frame};

/// First size of the buffer, and the size to which it returns after a large frame.
const BYTES: usize = 64 << 10;

/// Bytes that came in and are not decoded. Whatever is not in `..filled` is wiped.
pub(super) struct Inbox {
    bytes: Vec<u8>,
    filled: usize,
}

impl Inbox {
    /// A buffer in which nothing was received yet.
    pub(super) fn new() -> Self {
        Self { bytes: vec![0; BYTES], filled: 0 }
    }

    /// Room for at least the rest of the frame that has begun. What is written there is told to [`Inbox::filled`].
    pub(super) fn room(&mut self) -> Result<&mut [u8], FrameError> {
        self.make_room()?;
        Ok(&mut self.bytes[self.filled..])
    }

    /// So many bytes were written into the room.
    pub(super) fn filled(&mut self, more: usize) {
        self.filled += more;
    }

    /// Hands out every whole message and wipes it.
    pub(super) fn decode(&mut self, mut each: impl FnMut(FromWorker)) -> Result<(), FrameError> {
        let mut done = 0;
        let result = loop {
            match decode_frame::<FromWorker>(&self.bytes[done..self.filled]) {
                Ok(Some((message, length))) => {
                    each(message);
                    done += length;
                }
                Ok(None) => break Ok(()),
                Err(error) => break Err(error),
            }
        };
        self.bytes.copy_within(done..self.filled, 0);
        let rest = self.filled - done;
        self.bytes[rest..self.filled].zeroize();
        self.filled = rest;
        result
    }

    /// Makes room for the frame that has begun, and gives the room of a large one back.
    fn make_room(&mut self) -> Result<(), FrameError> {
        let begun = self.bytes[..self.filled].first_chunk::<4>().map_or(0, |prefix| u32::from_le_bytes(*prefix));
        let needed = (begun as usize).saturating_add(4);
        if begun as usize > MAX_FRAME_BYTES {
            return Err(FrameError::TooLong(begun as usize));
        }
        let wanted = needed.max(BYTES);
        if self.bytes.len() < wanted || self.bytes.len() > wanted && self.filled == 0 {
            let mut other = vec![0; wanted];
            other[..self.filled].copy_from_slice(&self.bytes[..self.filled]);
            self.bytes.zeroize();
            self.bytes = other;
        }
        Ok(())
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        self.bytes.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::secret::Secret;
    use protocol::{Reply, encode_frame};

    fn frames(lengths: &[usize]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (id, length) in lengths.iter().enumerate() {
            let reply = Reply::Random(Secret::new(vec![0xa5; *length]));
            encode_frame(&FromWorker::Reply { id: id as u64, reply }, &mut bytes).unwrap();
        }
        bytes
    }

    /// Feeds the bytes in pieces; the lengths of the secrets that came out.
    fn feed(inbox: &mut Inbox, mut bytes: &[u8], piece: usize) -> Vec<usize> {
        let mut seen = Vec::new();
        while !bytes.is_empty() {
            let room = inbox.room().unwrap();
            let count = piece.min(room.len()).min(bytes.len());
            room[..count].copy_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            inbox.filled(count);
            let each = |message| {
                let FromWorker::Reply { reply: Reply::Random(secret), .. } = message else { panic!() };
                seen.push(secret.len());
            };
            inbox.decode(each).unwrap();
        }
        seen
    }

    #[test]
    fn frames_are_found_however_the_bytes_are_cut() {
        let lengths = [0, 1, 3000, 32, 200_000, 7];
        let bytes = frames(&lengths);
        for piece in [1, 3, 1000, 65_536, bytes.len()] {
            assert_eq!(feed(&mut Inbox::new(), &bytes, piece), lengths);
        }
    }

    #[test]
    fn what_was_decoded_is_wiped_and_a_large_buffer_given_back() {
        let mut inbox = Inbox::new();
        feed(&mut inbox, &frames(&[5000, 300_000, 20]), 4096);
        assert!(inbox.bytes.iter().all(|byte| *byte == 0));
        inbox.room().unwrap();
        assert_eq!(inbox.bytes.len(), BYTES);
    }

    #[test]
    fn nonsense_is_an_error_and_no_allocation() {
        let mut inbox = Inbox::new();
        inbox.room().unwrap()[..4].copy_from_slice(&u32::MAX.to_le_bytes());
        inbox.filled(4);
        assert!(matches!(inbox.decode(|_| {}), Err(FrameError::TooLong(_))));
        assert!(matches!(inbox.room(), Err(FrameError::TooLong(_))));
    }
}
