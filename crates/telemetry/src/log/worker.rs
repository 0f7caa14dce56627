//! A worker's standard error: a pipe that never blocks, into which its log and its module write, and which its parent
//! empties.
//!
//! The log's lines begin with a mark, so that the parent tells them from whatever the module prints. There is no
//! thread: one that was there before the process is confined would not be, and nothing here ever waits.

use std::io::{self, Stderr, Write};
use std::sync::{LazyLock, Mutex};

use super::hand::{Gap, Hand};
use super::stream::Stream;
use model::lock::MutexExt as _;

/// Begins a line of the worker's log.
pub const OWN: u8 = 0x1e;
/// Begins the number of lines that the pipe had no room for.
pub const MISSING: u8 = 0x1d;

static HAND: LazyLock<Mutex<Hand<Stream<Stderr>>>> =
    LazyLock::new(|| Mutex::new(Hand::new(Stream::hasty(io::stderr()), missing)));

/// Sets a worker's log up. Call once, in the place of the process's own.
pub(crate) fn init(json: bool, filter: &str) {
    let _ = super::install(json, false, filter, || Line);
}

struct Line;

impl Write for Line {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        HAND.lock_anyway().put(&marked(line));
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// One line, whatever is in it.
fn marked(line: &[u8]) -> Vec<u8> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let within = line.iter().map(|byte| if *byte == b'\n' { b' ' } else { *byte });
    std::iter::once(OWN).chain(within).chain([b'\n']).collect()
}

fn missing(gap: &Gap) -> Vec<u8> {
    let mut line = vec![MISSING];
    line.extend_from_slice(gap.lines.to_string().as_bytes());
    line.push(b'\n');
    line
}

/// What came out of a worker in one line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said<'a> {
    /// A line of the worker's log.
    Own(&'a [u8]),
    /// So many lines of its log had no room in the pipe.
    Missing(u64),
    /// Words of the module, or of what it uses.
    Module(&'a [u8]),
}

impl<'a> Said<'a> {
    /// Reads a line, without its newline.
    #[must_use]
    pub fn read(line: &'a [u8]) -> Self {
        match line {
            [OWN, rest @ ..] => Self::Own(rest),
            [MISSING, rest @ ..] => {
                let number = std::str::from_utf8(rest).ok().and_then(|number| number.parse().ok());
                number.map_or(Self::Module(line), Self::Missing)
            }
            _ => Self::Module(line),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_worker_writes_its_parent_reads() {
        let written = marked(b"one line\nin two\n");
        assert_eq!(Said::read(written.strip_suffix(b"\n").unwrap()), Said::Own(b"one line in two"));
        let written = missing(&Gap { lines: 12, since: String::new() });
        assert_eq!(Said::read(written.strip_suffix(b"\n").unwrap()), Said::Missing(12));
    }

    #[test]
    fn everything_else_is_the_modules() {
        for line in [&b"words"[..], b"", b"\x1d", b"\x1d-1", b"\x1d1 2", b"\x1d99999999999999999999", b"a\x1eb"] {
            assert_eq!(Said::read(line), Said::Module(line));
        }
        assert_eq!(Said::read(b"\x1e"), Said::Own(b""));
    }
}
