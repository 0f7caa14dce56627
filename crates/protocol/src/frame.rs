//! Frames: u32 length, little-endian, then one message in postcard encoding.

use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroize;

use super::MAX_FRAME_BYTES;

/// Why bytes are no frame.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than [`MAX_FRAME_BYTES`].
    #[error("a frame of {0} bytes, at most {MAX_FRAME_BYTES} are accepted")]
    TooLong(usize),
    /// Not an encoded message.
    #[error("a frame that is no message: {0}")]
    Malformed(String),
}

/// Appends a message as one frame.
///
/// Frames carry PINs and plaintext, so the buffer never grows under the encoder's hands, which would leave copies in
/// freed memory: the room is made first, and what the buffer held before is wiped where it moves.
pub fn encode_frame<T: Serialize>(message: &T, out: &mut Vec<u8>) -> Result<(), FrameError> {
    let malformed = |error: postcard::Error| FrameError::Malformed(error.to_string());
    let length = postcard::experimental::serialized_size(message).map_err(malformed)?;
    let prefix = u32::try_from(length).ok().filter(|_| length <= MAX_FRAME_BYTES).ok_or(FrameError::TooLong(length))?;
    reserve_wiped(out, 4 + length);
    let start = out.len();
    out.extend_from_slice(&prefix.to_le_bytes());
    out.resize(start + 4 + length, 0);
    if let Err(error) = postcard::to_slice(message, &mut out[start + 4..]) {
        out[start..].zeroize();
        out.truncate(start);
        return Err(malformed(error));
    }
    Ok(())
}

/// Makes room for `additional` bytes; a buffer that has to move is wiped where it was.
fn reserve_wiped(buffer: &mut Vec<u8>, additional: usize) {
    let needed = buffer.len() + additional;
    if needed > buffer.capacity() {
        let mut moved = Vec::with_capacity(needed.max(2 * buffer.capacity()));
        moved.extend_from_slice(buffer);
        buffer.zeroize();
        *buffer = moved;
    }
}

/// Takes one message from the front of `bytes`: the message and how many bytes it took, or `None` when the frame is
/// not complete yet. An error means that the stream cannot be trusted any further.
pub fn decode_frame<T: DeserializeOwned>(bytes: &[u8]) -> Result<Option<(T, usize)>, FrameError> {
    let Some((prefix, rest)) = bytes.split_first_chunk::<4>() else { return Ok(None) };
    let length = u32::from_le_bytes(*prefix) as usize;
    if length > MAX_FRAME_BYTES {
        return Err(FrameError::TooLong(length));
    }
    let Some(body) = rest.get(..length) else { return Ok(None) };
    let message = postcard::from_bytes(body).map_err(|error| FrameError::Malformed(error.to_string()))?;
    Ok(Some((message, 4 + length)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_follow_each_other_and_come_back() {
        let mut buffer = b"before".to_vec();
        encode_frame(&(7_u32, "seven"), &mut buffer).unwrap();
        encode_frame(&(8_u32, "eight"), &mut buffer).unwrap();
        assert_eq!(&buffer[..6], b"before");
        let (first, taken) = decode_frame::<(u32, String)>(&buffer[6..]).unwrap().unwrap();
        let (second, rest) = decode_frame::<(u32, String)>(&buffer[6 + taken..]).unwrap().unwrap();
        assert_eq!((first, second), ((7, "seven".to_owned()), (8, "eight".to_owned())));
        assert_eq!(6 + taken + rest, buffer.len());
    }

    #[test]
    fn part_of_a_frame_is_no_frame_yet() {
        let mut buffer = Vec::new();
        encode_frame(&"a message", &mut buffer).unwrap();
        for end in 0..buffer.len() {
            assert!(decode_frame::<String>(&buffer[..end]).unwrap().is_none());
        }
    }

    #[test]
    fn frames_that_are_too_long_or_no_message_are_refused() {
        let long = u32::try_from(MAX_FRAME_BYTES + 1).unwrap().to_le_bytes();
        assert_eq!(decode_frame::<String>(&long).unwrap_err(), FrameError::TooLong(MAX_FRAME_BYTES + 1));
        assert!(matches!(decode_frame::<String>(&[1, 0, 0, 0, 200]), Err(FrameError::Malformed(_))));
        let mut buffer = Vec::new();
        let message = "x".repeat(MAX_FRAME_BYTES + 1);
        assert!(matches!(encode_frame(&message, &mut buffer), Err(FrameError::TooLong(_))));
        assert!(buffer.is_empty());
    }
}
