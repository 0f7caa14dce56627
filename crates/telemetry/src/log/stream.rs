//! A standard stream as a descriptor, past the locks of the standard library: who waits here must not have others wait.

use std::io::{self, Write};
use std::os::fd::AsFd;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;

/// A stream to write to, without a buffer.
pub(super) struct Stream<F> {
    file: F,
    /// Whether a stream that never blocks, and takes nothing now, is waited for.
    waits: bool,
}

impl<F: AsFd> Stream<F> {
    /// Waits while nothing is taken, whoever has set whatever mode: a terminal or pipe is shared with other programs.
    pub(super) fn patient(file: F) -> Self {
        Self { file, waits: true }
    }

    /// Fails where a stream that never blocks takes nothing now.
    pub(super) fn hasty(file: F) -> Self {
        Self { file, waits: false }
    }
}

impl<F: AsFd> Write for Stream<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match rustix::io::write(&self.file, bytes) {
                Err(Errno::AGAIN) if self.waits => {
                    // An error shows again in the next write.
                    let _ = poll(&mut [PollFd::new(&self.file, PollFlags::OUT)], None);
                }
                written => return Ok(written?),
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

    use super::*;

    #[test]
    fn a_pipe_that_never_blocks_is_waited_for_or_not() {
        let (mut reader, writer) = io::pipe().unwrap();
        fcntl_setfl(&writer, fcntl_getfl(&writer).unwrap() | OFlags::NONBLOCK).unwrap();
        let mut hasty = Stream::hasty(writer.try_clone().unwrap());
        let mut held = 0;
        let error = loop {
            match hasty.write(&[0; 4_096]) {
                Ok(written) => held += written,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        let mut patient = Stream::patient(writer);
        let writing = std::thread::spawn(move || patient.write(&[1; 4_096]));
        drop(hasty);
        let mut all = Vec::new();
        reader.read_to_end(&mut all).unwrap();
        assert_eq!(writing.join().unwrap().unwrap() + held, all.len());
        assert_eq!(all.last(), Some(&1));
    }
}
