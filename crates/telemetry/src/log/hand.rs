//! The hand that writes lines to a stream which may refuse them, and notes in the stream itself what it is missing.

use std::io::{self, ErrorKind, Write};

use super::now;

/// Lines that a stream is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Gap {
    /// How many.
    pub(super) lines: u64,
    /// When the first of them was lost: RFC 3339, in UTC.
    pub(super) since: String,
}

impl Gap {
    /// One line, now.
    pub(super) fn begin() -> Self {
        Self { lines: 1, since: now() }
    }
}

/// Writes whole lines. One that could not be written is missing, and the next that can be comes after one that says so.
pub(super) struct Hand<W> {
    out: W,
    /// The line that tells of a gap.
    tell: fn(&Gap) -> Vec<u8>,
    gap: Option<Gap>,
    /// The stream ends within a line, the rest of which was refused.
    torn: bool,
}

/// What became of a line.
pub(super) struct Put {
    /// Missing lines of which the stream was told first.
    pub(super) told: u64,
    /// Why the line was not written, or the one that tells of others.
    pub(super) failed: Option<io::Error>,
}

impl<W: Write> Hand<W> {
    pub(super) fn new(out: W, tell: fn(&Gap) -> Vec<u8>) -> Self {
        Self { out, tell, gap: None, torn: false }
    }

    /// Whether the stream is missing lines of which it has not been told.
    pub(super) fn owes(&self) -> bool {
        self.gap.is_some()
    }

    /// Notes lines that were lost on their way here, after all that was written and before all that will be.
    pub(super) fn misses(&mut self, gap: Gap) {
        match &mut self.gap {
            Some(earlier) => earlier.lines = earlier.lines.saturating_add(gap.lines),
            none => *none = Some(gap),
        }
    }

    /// Writes a line, which has its newline. Where it fails, the line is missing.
    pub(super) fn put(&mut self, line: &[u8]) -> Put {
        let mut put = self.pay();
        if put.failed.is_none() {
            put.failed = self.write(line).err();
        }
        if put.failed.is_some() {
            self.misses(Gap::begin());
        }
        put
    }

    /// Tells the stream what it is missing, if it takes that.
    pub(super) fn pay(&mut self) -> Put {
        let Some(gap) = &self.gap else { return Put { told: 0, failed: None } };
        let (line, lines) = ((self.tell)(gap), gap.lines);
        match self.write(&line) {
            Ok(()) => {
                self.gap = None;
                Put { told: lines, failed: None }
            }
            Err(error) => Put { told: 0, failed: Some(error) },
        }
    }

    fn write(&mut self, line: &[u8]) -> io::Result<()> {
        // What is torn ends here, so that what follows is a line of its own.
        let lines: &[&[u8]] = if self.torn { &[b"\n", line] } else { &[line] };
        for mut rest in lines.iter().copied() {
            while !rest.is_empty() {
                match self.out.write(rest) {
                    Ok(0) => return Err(ErrorKind::WriteZero.into()),
                    Ok(taken) => {
                        rest = rest.get(taken..).unwrap_or_default();
                        self.torn = !rest.is_empty();
                    }
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use super::*;

    /// A stream that takes so many bytes in each call, or fails.
    #[derive(Default)]
    struct Script {
        steps: VecDeque<Result<usize, ErrorKind>>,
        written: Vec<u8>,
    }

    impl Write for &mut Script {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let most = self.steps.pop_front().unwrap_or(Ok(usize::MAX))?;
            let taken = most.min(bytes.len());
            self.written.extend_from_slice(&bytes[..taken]);
            Ok(taken)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn tell(gap: &Gap) -> Vec<u8> {
        format!("({} missing)\n", gap.lines).into_bytes()
    }

    /// Puts three lines into a stream that behaves so: what is in it, and how many failed.
    fn written(steps: impl IntoIterator<Item = Result<usize, ErrorKind>>) -> (String, usize) {
        let mut script = Script { steps: steps.into_iter().collect(), ..Script::default() };
        let mut hand = Hand::new(&mut script, tell);
        let failed = ["one\n", "two\n", "three\n"].iter().filter(|line| hand.put(line.as_bytes()).failed.is_some());
        let failed = failed.count();
        (String::from_utf8(script.written).unwrap(), failed)
    }

    #[test]
    fn a_line_may_take_several_writes() {
        assert_eq!(written([Ok(1), Err(ErrorKind::Interrupted), Ok(2)]), ("one\ntwo\nthree\n".to_owned(), 0));
    }

    #[test]
    fn what_is_missing_is_told_where_it_is_missing() {
        let full = || Err(ErrorKind::StorageFull);
        assert_eq!(written([full()]), ("(1 missing)\ntwo\nthree\n".to_owned(), 1));
        assert_eq!(written([full(), full()]), ("(2 missing)\nthree\n".to_owned(), 2));
        assert_eq!(written([Ok(4), full()]), ("one\n(1 missing)\nthree\n".to_owned(), 1));
        // Told, and then the line fails: that is another gap.
        assert_eq!(written([full(), Ok(12), full()]), ("(1 missing)\n(1 missing)\nthree\n".to_owned(), 2));
    }

    #[test]
    fn a_torn_line_spoils_no_other() {
        let full = || Err(ErrorKind::StorageFull);
        assert_eq!(written([Ok(2), full()]), ("on\n(1 missing)\ntwo\nthree\n".to_owned(), 1));
        assert_eq!(written([Ok(2), full(), full()]), ("on\n(2 missing)\nthree\n".to_owned(), 2));
        // Even the line that tells of others can be torn.
        assert_eq!(written([full(), Ok(3), full()]), ("(1 \n(2 missing)\nthree\n".to_owned(), 2));
        assert_eq!(written([Ok(0)]), ("(1 missing)\ntwo\nthree\n".to_owned(), 1));
    }

    #[test]
    fn what_was_lost_on_the_way_is_told_too() {
        let mut script = Script::default();
        let mut hand = Hand::new(&mut script, tell);
        hand.misses(Gap { lines: 3, since: "then".to_owned() });
        hand.misses(Gap { lines: 4, since: "later".to_owned() });
        assert!(hand.owes());
        assert_eq!(hand.gap.as_ref().unwrap().since, "then");
        assert_eq!(hand.pay().told, 7);
        assert!(!hand.owes());
        assert_eq!(script.written, b"(7 missing)\n");
    }
}
