//! The parent's end of the socket to a worker.
//!
//! The runtime is asked whether there is something to read, and whether there is room to write only where there was
//! none: a socket of this kind tells of room each time when its other end takes something out, and each time would wake
//! this process for nothing.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::UnixStream;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Both directions.
pub(super) struct Socket {
    pub(super) reads: Reads,
    pub(super) writes: Writes,
}

/// What comes from the worker.
pub(super) struct Reads(AsyncFd<UnixStream>);

/// What goes to it. Dropped, it closes this direction.
pub(super) struct Writes(UnixStream);

impl Socket {
    /// Takes the socket over.
    pub(super) fn over(socket: UnixStream) -> io::Result<Self> {
        socket.set_nonblocking(true)?;
        let writes = Writes(socket.try_clone()?);
        Ok(Self { reads: Reads(wait_for(socket, Interest::READABLE)?), writes })
    }
}

impl Reads {
    /// Waits for some bytes; none at the end of the stream.
    pub(super) async fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            let mut ready = self.0.readable().await?;
            match ready.try_io(|socket| socket.get_ref().read(into)) {
                Ok(Ok(read)) => {
                    if 0 < read && read < into.len() {
                        // That was all; what comes now is told of anew.
                        ready.clear_ready();
                    }
                    return Ok(read);
                }
                Ok(Err(error)) if error.kind() == ErrorKind::Interrupted => {}
                Ok(Err(error)) => return Err(error),
                Err(_nothing) => {}
            }
        }
    }
}

impl Writes {
    /// Writes all of it.
    pub(super) async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.0.write(bytes) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(written) => bytes = &bytes[written..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => self.room().await?,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    async fn room(&self) -> io::Result<()> {
        let _ = wait_for(self.0.as_fd(), Interest::WRITABLE)?.writable().await?;
        Ok(())
    }
}

impl Drop for Writes {
    fn drop(&mut self) {
        // The other end may be closed already.
        let _ = self.0.shutdown(Shutdown::Write);
    }
}

#[expect(deprecated, reason = "its successor is unsafe for those that do not own or borrow what AsFd says; these do")]
fn wait_for<T: AsFd + AsRawFd>(socket: T, interest: Interest) -> io::Result<AsyncFd<T>> {
    AsyncFd::with_interest(socket, interest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn more_than_the_socket_holds_goes_through_and_the_end_is_seen() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let Socket { mut reads, mut writes } = Socket::over(ours).unwrap();
        let all = vec![7; 10 << 20];
        let echo = std::thread::spawn(move || {
            let mut seen = Vec::new();
            theirs.read_to_end(&mut seen).unwrap();
            theirs.write_all(&seen[..100_000]).unwrap();
            seen.len()
        });
        writes.write_all(&all).await.unwrap();
        drop(writes);
        let (mut seen, mut chunk) = (0, [0; 4_096]);
        loop {
            match reads.read(&mut chunk).await.unwrap() {
                0 => break,
                read => seen += read,
            }
        }
        assert_eq!((echo.join().unwrap(), seen), (all.len(), 100_000));
    }

    #[tokio::test]
    async fn a_socket_whose_other_end_is_gone_is_an_error_to_write_to() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let Socket { mut reads, mut writes } = Socket::over(ours).unwrap();
        drop(theirs);
        assert_eq!(reads.read(&mut [0; 10]).await.unwrap(), 0);
        assert_eq!(writes.write_all(b"anybody").await.unwrap_err().kind(), ErrorKind::BrokenPipe);
    }
}
