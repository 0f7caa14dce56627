//! Records to a receiver of syslog, over TCP or a socket of the host.
//!
//! Syslog has no acknowledgement. What counts as arrived is what was written [`SAFE`] ago to a connection that still stands:
//! by then TCP's own acknowledgement has come, or has ended the connection ([`UNACKNOWLEDGED`]). What was written later is
//! sent again after a break.

mod message;

use std::collections::VecDeque;
use std::io;
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::fd::{AsFd as _, BorrowedFd};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use rustix::net::RecvFlags;

use self::message::{Sender, framed};
use super::{Chunk, Outlet};
use model::clock::Clock;

/// What a connection to an address may take.
const CONNECT: Duration = Duration::from_secs(2);
/// What a write may take before it is told how far it is.
const WRITE: Duration = Duration::from_millis(500);
/// How long TCP waits for an acknowledgement.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);
/// When what was written counts as arrived.
const SAFE: Duration = Duration::from_secs(35);
/// What was written within this time is noted together.
const TOGETHER: Duration = Duration::from_millis(500);

/// Where syslog is received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// At HOST:PORT.
    Tcp(String),
    /// At this socket of the host: a stream, or datagrams as /dev/log has them.
    Unix(PathBuf),
}

/// A receiver of syslog.
pub struct Syslog {
    address: Address,
    sender: Sender,
    clock: Clock,
    connection: Option<Connection>,
    pending: Pending,
}

/// What is to be written.
#[derive(Default)]
struct Pending {
    messages: VecDeque<Vec<u8>>,
    /// They, framed, where they go into a stream. Made when they do.
    stream: Vec<u8>,
    /// How much of that was written.
    written: usize,
    /// The number behind the last.
    end: u64,
}

impl Pending {
    fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.written == self.stream.len()
    }

    fn write_to(&mut self, stream: &mut impl io::Write) -> io::Result<()> {
        if !self.messages.is_empty() {
            self.stream.clear();
            self.written = 0;
            for message in self.messages.drain(..) {
                self.stream.extend(framed(&message));
            }
        }
        while let Some(rest) = self.stream.get(self.written..).filter(|rest| !rest.is_empty()) {
            match stream.write(rest)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                bytes => self.written += bytes,
            }
        }
        Ok(())
    }
}

struct Connection {
    wire: Wire,
    /// Behind which number something was written, and when.
    in_flight: VecDeque<(u64, Instant)>,
}

enum Wire {
    Tcp(TcpStream),
    Unix(UnixStream),
    Datagram(UnixDatagram),
}

impl Syslog {
    /// To this address. Connected when there is something to send.
    #[must_use]
    pub fn new(address: Address, clock: Clock) -> Self {
        Self { address, sender: Sender::here(), clock, connection: None, pending: Pending::default() }
    }

    fn send(&mut self) -> io::Result<()> {
        let now = self.clock.now();
        if let Some(connection) = &self.connection {
            connection.wire.stands()?;
        }
        if self.pending.is_empty() {
            return Ok(());
        }
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => none.insert(Connection { wire: Wire::to(&self.address)?, in_flight: VecDeque::new() }),
        };
        if connection.wire.write(&mut self.pending)? {
            connection.noted(self.pending.end, now);
        }
        Ok(())
    }
}

impl Outlet for Syslog {
    fn name(&self) -> &'static str {
        "syslog"
    }

    fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    fn take(&mut self, chunk: &Chunk) {
        let messages = (chunk.first..).zip(&chunk.records).map(|(number, record)| self.sender.message(number, record));
        let end = chunk.first + chunk.records.len() as u64;
        self.pending = Pending { messages: messages.collect(), end, ..Pending::default() };
    }

    fn push(&mut self) -> Result<(), String> {
        self.send().map_err(|error| {
            self.connection = None;
            self.pending = Pending::default();
            match &self.address {
                Address::Tcp(address) => format!("tcp://{address}: {error}"),
                Address::Unix(path) => format!("unix:{}: {error}", path.display()),
            }
        })
    }

    fn arrived(&mut self) -> Option<u64> {
        let now = self.clock.now();
        let in_flight = &mut self.connection.as_mut()?.in_flight;
        let mut arrived = None;
        while let Some((end, _)) = in_flight.pop_front_if(|(_, at)| now.saturating_duration_since(*at) >= SAFE) {
            arrived = Some(end);
        }
        arrived
    }
}

impl Connection {
    fn noted(&mut self, end: u64, now: Instant) {
        match self.in_flight.back_mut() {
            // Later than it was, which is the safe side, but not for ever.
            Some((last, at)) if now.saturating_duration_since(*at) < TOGETHER => *last = end,
            _ => self.in_flight.push_back((end, now)),
        }
    }
}

impl Wire {
    fn to(address: &Address) -> io::Result<Self> {
        match address {
            Address::Tcp(address) => {
                let mut last = io::Error::other("no address is known by that name");
                for address in address.to_socket_addrs()? {
                    match TcpStream::connect_timeout(&address, CONNECT) {
                        Ok(stream) => return Self::tcp(stream),
                        Err(error) => last = error,
                    }
                }
                Err(last)
            }
            Address::Unix(path) => match UnixStream::connect(path) {
                Ok(stream) => {
                    stream.set_write_timeout(Some(WRITE))?;
                    Ok(Self::Unix(stream))
                }
                Err(error) if error.raw_os_error() == Some(rustix::io::Errno::PROTOTYPE.raw_os_error()) => {
                    let socket = UnixDatagram::unbound()?;
                    socket.connect(path)?;
                    socket.set_write_timeout(Some(WRITE))?;
                    Ok(Self::Datagram(socket))
                }
                Err(error) => Err(error),
            },
        }
    }

    fn tcp(stream: TcpStream) -> io::Result<Self> {
        stream.set_write_timeout(Some(WRITE))?;
        let unacknowledged = u32::try_from(UNACKNOWLEDGED.as_millis()).unwrap_or(u32::MAX);
        rustix::net::sockopt::set_tcp_user_timeout(&stream, unacknowledged)?;
        // A receiver that is silently gone is found out between two records as well.
        rustix::net::sockopt::set_socket_keepalive(&stream, true)?;
        rustix::net::sockopt::set_tcp_keepidle(&stream, UNACKNOWLEDGED / 2)?;
        Ok(Self::Tcp(stream))
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(stream) => stream.as_fd(),
            Self::Unix(stream) => stream.as_fd(),
            Self::Datagram(socket) => socket.as_fd(),
        }
    }

    /// Whether the other side is still there. What it says means nothing.
    fn stands(&self) -> io::Result<()> {
        if matches!(self, Self::Datagram(_)) {
            return Ok(());
        }
        let mut said = [0; 256];
        match rustix::net::recv(self.fd(), &mut said[..], RecvFlags::DONTWAIT) {
            Ok((_, 0)) => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the receiver has closed the connection")),
            Ok(_) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Writes what it can; whether all of it was.
    fn write(&mut self, pending: &mut Pending) -> io::Result<bool> {
        let wrote = match self {
            Self::Datagram(socket) => {
                while let Some(message) = pending.messages.front() {
                    match socket.send(message) {
                        Ok(_) => drop(pending.messages.pop_front()),
                        Err(error) => return not_yet(error),
                    }
                }
                Ok(())
            }
            Self::Tcp(stream) => pending.write_to(stream),
            Self::Unix(stream) => pending.write_to(stream),
        };
        match wrote {
            Ok(()) => Ok(true),
            Err(error) => not_yet(error),
        }
    }
}

/// A receiver that takes nothing for the moment is slow, and no more than that.
fn not_yet(error: io::Error) -> io::Result<bool> {
    match error.kind() {
        // Not TimedOut: that is TCP's word for a receiver that is gone.
        io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(false),
        // Linux has it for datagrams whose receiver is full.
        _ if error.raw_os_error() == Some(rustix::io::Errno::NOBUFS.raw_os_error()) => Ok(false),
        _ => Err(error),
    }
}
