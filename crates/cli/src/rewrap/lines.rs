//! A file with one ciphertext in base64 on each line. Lines without one, and what stands before and behind it, stay as
//! they are. A window of lines is in memory, not the file.

use std::fs::File;
use std::io::{BufRead, Read};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::anew::{Anew, no_ciphertext};
use super::{base64, write};
use crate::failure::Failure;
use model::limits;

/// Ciphertexts of one window.
const WINDOW: usize = 1_000;
/// Longest line: the longest ciphertext in base64, with room for blanks around it.
const LINE_BYTES: usize = limits::CIPHERTEXT_BYTES.div_ceil(3) * 4 + 256;

pub(super) struct Lines<R> {
    input: R,
    /// The number of the last line that was read.
    number: u64,
}

/// A line that was read.
struct Line {
    number: u64,
    bytes: Vec<u8>,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn new(input: R) -> Self {
        Self { input, number: 0 }
    }

    /// Copies all lines, with their ciphertexts brought to where they are to be.
    pub(super) async fn rewrap(mut self, anew: &mut Anew<'_>, output: &mut File) -> Result<(), Failure> {
        loop {
            let (mut lines, mut ciphertexts, mut of) = (Vec::new(), Vec::new(), Vec::new());
            while ciphertexts.len() < WINDOW && lines.len() < 2 * WINDOW {
                let Some(line) = self.next()? else { break };
                if !line.bytes.trim_ascii().is_empty() {
                    ciphertexts.push(decoded(&line)?);
                    of.push(lines.len());
                }
                lines.push(line);
            }
            if lines.is_empty() {
                return Ok(());
            }
            anew.done(&mut ciphertexts, |at| named(lines[of[at]].number)).await?;
            let mut made = of.into_iter().zip(&ciphertexts).peekable();
            for (place, line) in lines.iter().enumerate() {
                match made.next_if(|(of, _)| *of == place) {
                    Some((_, ciphertext)) => write(output, &replaced(&line.bytes, ciphertext))?,
                    None => write(output, &line.bytes)?,
                }
            }
        }
    }

    /// The next line with its end; none at the end of the file.
    fn next(&mut self) -> Result<Option<Line>, Failure> {
        let mut bytes = Vec::new();
        let mut limited = (&mut self.input).take(LINE_BYTES as u64 + 1);
        limited.read_until(b'\n', &mut bytes).map_err(|error| Failure::local(format!("reading failed: {error}")))?;
        if bytes.is_empty() {
            return Ok(None);
        }
        self.number += 1;
        if bytes.len() > LINE_BYTES {
            return Err(no_ciphertext(&named(self.number)));
        }
        Ok(Some(Line { number: self.number, bytes }))
    }
}

fn named(number: u64) -> String {
    format!("line {number}")
}

fn decoded(line: &Line) -> Result<Vec<u8>, Failure> {
    STANDARD.decode(line.bytes.trim_ascii()).map_err(|_| no_ciphertext(&named(line.number)))
}

/// The line with another ciphertext in it.
fn replaced(line: &[u8], ciphertext: &[u8]) -> Vec<u8> {
    let before = line.len() - line.trim_ascii_start().len();
    let behind = line.trim_ascii_end().len();
    [&line[..before], base64(ciphertext).as_bytes(), &line[behind..]].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read_with_their_ends_and_their_numbers() {
        let mut lines = Lines::new(&b"AQID\r\n\n  AQ==\nBA=="[..]);
        let mut read = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            read.push((line.number, line.bytes));
        }
        let expected: [(u64, &[u8]); 4] = [(1, b"AQID\r\n"), (2, b"\n"), (3, b"  AQ==\n"), (4, b"BA==")];
        assert_eq!(read, expected.map(|(number, bytes)| (number, bytes.to_vec())));
    }

    #[test]
    fn what_stands_around_a_ciphertext_stays() {
        assert_eq!(replaced(b"  AQID\t\r\n", &[4]), b"  BA==\t\r\n");
        assert_eq!(replaced(b"AQID", &[4]), b"BA==");
    }

    #[test]
    fn a_line_that_is_none_is_named() {
        let mut long = Lines::new(std::io::Cursor::new(vec![b'A'; LINE_BYTES + 1]));
        assert!(long.next().err().unwrap().message.contains("line 1 is no ciphertext"));
        let line = Line { number: 7, bytes: b"no base64!\n".to_vec() };
        assert!(decoded(&line).unwrap_err().message.contains("line 7"));
    }
}
