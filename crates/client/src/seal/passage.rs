//! From whoever opens a file to whoever seals it anew: plaintext that goes through memory, a few chunks of it at a time.

use std::io::{self, BufRead, Read, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use zeroize::Zeroizing;

/// Pieces that are on their way.
const PIECES: usize = 2;

/// The end that is written to.
pub(super) struct Entrance(SyncSender<Zeroizing<Vec<u8>>>);

/// The end that is read from. It ends when the other one has gone.
pub(super) struct Exit {
    pieces: Receiver<Zeroizing<Vec<u8>>>,
    piece: Zeroizing<Vec<u8>>,
    read: usize,
}

/// A passage, with both ends. What is in it is wiped.
pub(super) fn passage() -> (Entrance, Exit) {
    let (sender, pieces) = sync_channel(PIECES);
    (Entrance(sender), Exit { pieces, piece: Zeroizing::default(), read: 0 })
}

impl Write for Entrance {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if !bytes.is_empty() {
            self.0.send(Zeroizing::new(bytes.to_vec())).map_err(|_| io::ErrorKind::BrokenPipe)?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Read for Exit {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let there = self.fill_buf()?;
        let count = there.len().min(buffer.len());
        buffer[..count].copy_from_slice(&there[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl BufRead for Exit {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.read == self.piece.len() {
            (self.piece, self.read) = (self.pieces.recv().unwrap_or_default(), 0);
        }
        Ok(&self.piece[self.read..])
    }

    fn consume(&mut self, count: usize) {
        self.read = (self.read + count).min(self.piece.len());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_passes_in_its_order_and_ends() {
        let (mut entrance, mut exit) = passage();
        let writer = std::thread::spawn(move || {
            for number in 0..50_u8 {
                entrance.write_all(&vec![number; usize::from(number)]).unwrap();
            }
        });
        let mut read = Vec::new();
        exit.read_to_end(&mut read).unwrap();
        writer.join().unwrap();
        assert_eq!(read, (0..50_u8).flat_map(|number| vec![number; usize::from(number)]).collect::<Vec<_>>());
    }

    #[test]
    fn nobody_writes_to_whoever_has_left() {
        let (mut entrance, exit) = passage();
        drop(exit);
        assert_eq!(entrance.write_all(b"x").unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    }
}
