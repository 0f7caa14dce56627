//! Signed notes and the heads that are written in them, as C2SP's signed-note and tlog-checkpoint have them.
//!
//! A note is a text and lines with signatures of it. A head's text is the log's origin, how many records there are, and the
//! root over them. [`signed_note`] and [`tlog_tiles`] read and print both; which key has signed, and whether it has, is
//! decided here, because they know one kind of key and tokens have two.

mod key;
#[cfg(test)]
mod tests;

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

pub use self::key::{Algorithm, LogKey, VerifierKey};
use super::files::MOST_RECORDS;

/// Longest note that is read. The longest that is written is far shorter: a line for each zone.
pub const NOTE_BYTES: usize = 64 * 1_024;

/// Begins a line with a signature, and no other: names have no spaces.
const DASH: &str = "\u{2014} ";

/// Why something is no note, no head or no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// Names are not empty and hold neither space, plus nor control character.
    #[error("not a name that keys of notes can have")]
    Name,
    /// Neither Ed25519 nor ECDSA with P-256, or no key at all.
    #[error("not a public key of Ed25519 or P-256 as it stands in notes")]
    Key,
    /// The key is another than the one of that id.
    #[error("the id is not the key's")]
    Id,
    /// No line with a signature.
    #[error("not a line with a signature")]
    Line,
    /// Not a signed note.
    #[error("not a signed note")]
    Note,
    /// A signed note, but no head.
    #[error("not the head of a log")]
    Head,
    /// No key could be made.
    #[error("the operating system gives no random bytes")]
    Random,
}

/// Who has signed, and the signature: a line of a note.
#[derive(Clone, PartialEq, Eq)]
pub struct Line {
    name: String,
    id: u32,
    signature: Vec<u8>,
}

impl Line {
    /// A line of this key. An empty signature is none.
    pub fn new(name: &str, id: u32, signature: Vec<u8>) -> Result<Self, Malformed> {
        if signature.is_empty() {
            return Err(Malformed::Line);
        }
        sound_name(name)?;
        Ok(Self { name: name.to_owned(), id, signature })
    }

    /// The name of the key.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The id of the key.
    #[must_use]
    pub const fn id(&self) -> u32 {
        self.id
    }

    /// What it has signed with: 64 bytes of Ed25519, or DER of ECDSA.
    #[must_use]
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }

    /// Reads a line without its end.
    fn parse(line: &str) -> Result<Self, Malformed> {
        let read = signed_note::Signature::from_bytes(line.as_bytes()).map_err(|_| Malformed::Line)?;
        Self::new(read.name(), read.id(), read.signature().to_vec())
    }
}

impl fmt::Display for Line {
    /// As it stands in a note, with its end.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let payload = [&self.id.to_be_bytes(), self.signature.as_slice()].concat();
        writeln!(f, "{DASH}{} {}", self.name, STANDARD.encode(payload))
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Line({}+{:08x})", self.name(), self.id())
    }
}

/// How many records there are, and the root of the tree over them.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Head {
    /// How many records there are.
    pub size: u64,
    /// RFC 6962's Merkle tree hash.
    pub root: [u8; 32],
}

impl Head {
    /// The head of a log without records.
    pub const EMPTY: Self = Self { size: 0, root: tlog_tiles::tlog::EMPTY_HASH.0 };
}

impl fmt::Debug for Head {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Head({}, {})", self.size, tlog_tiles::tlog::Hash(self.root))
    }
}

/// A head as it was signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    origin: String,
    head: Head,
    text: Vec<u8>,
    lines: Vec<Line>,
}

impl Checkpoint {
    /// The text that is signed.
    pub fn text_of(origin: &str, head: &Head) -> Result<Vec<u8>, Malformed> {
        sound_name(origin)?;
        let root = tlog_tiles::tlog::Hash(head.root);
        tlog_tiles::checkpoint::Checkpoint::new(origin, head.size, root, "")
            .map(|checkpoint| checkpoint.to_bytes())
            .map_err(|_| Malformed::Head)
    }

    /// A head with the lines of those who have signed [`Self::text_of`] it.
    pub fn new(origin: &str, head: Head, lines: Vec<Line>) -> Result<Self, Malformed> {
        let text = Self::text_of(origin, &head)?;
        Ok(Self { origin: origin.to_owned(), head, text, lines })
    }

    /// Reads a head with its signatures. Nothing is said of whether they are good.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > NOTE_BYTES {
            return Err(Malformed::Note);
        }
        let note = signed_note::Note::from_bytes(bytes).map_err(|_| Malformed::Note)?;
        let read = tlog_tiles::checkpoint::Checkpoint::from_bytes(note.text()).map_err(|_| Malformed::Head)?;
        sound_name(read.origin())?;
        if read.size() > MOST_RECORDS {
            return Err(Malformed::Head);
        }
        let lines = lines_of(bytes).map_err(|_| Malformed::Note)?;
        Ok(Self {
            origin: read.origin().to_owned(),
            head: Head { size: read.size(), root: read.hash().0 },
            text: note.text().to_vec(),
            lines,
        })
    }

    /// As it stands in a file.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.text.clone();
        bytes.push(b'\n');
        for line in &self.lines {
            bytes.extend(line.to_string().into_bytes());
        }
        bytes
    }

    /// Which log it is.
    #[must_use]
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// What is signed.
    #[must_use]
    pub const fn head(&self) -> Head {
        self.head
    }

    /// What is signed, byte by byte.
    #[must_use]
    pub fn text(&self) -> &[u8] {
        &self.text
    }

    /// Who has signed.
    #[must_use]
    pub fn lines(&self) -> &[Line] {
        &self.lines
    }

    /// Adds the signature of one more.
    pub fn push(&mut self, line: Line) {
        self.lines.push(line);
    }

    /// What this key says of it.
    #[must_use]
    pub fn signed_by(&self, key: &VerifierKey) -> Signed {
        let mut signed = Signed::Not;
        for line in self.lines.iter().filter(|line| line.name() == key.name() && line.id() == key.id()) {
            // One wrong line is enough: whoever wrote it wanted it taken for the key's.
            if !key.verify(&self.text, line) {
                return Signed::Wrongly;
            }
            signed = Signed::Well;
        }
        signed
    }
}

/// What a key says of a note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signed {
    /// There is no line of it.
    Not,
    /// It has signed.
    Well,
    /// There is a line of that name and id, and the signature is not the key's.
    Wrongly,
}

/// The heads of a file that has one after the other; ends with the first thing that is none.
pub struct Heads<'a> {
    rest: &'a [u8],
    at: usize,
}

impl<'a> Heads<'a> {
    /// Reads what a file holds.
    #[must_use]
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes, at: 0 }
    }

    /// How many bytes those were that have been given out.
    #[must_use]
    pub const fn position(&self) -> usize {
        self.at
    }
}

impl Iterator for Heads<'_> {
    type Item = Result<Checkpoint, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let read = end_of_note(self.rest)
            .and_then(|end| self.rest.split_at_checked(end))
            .ok_or(Malformed::Note)
            .and_then(|(note, rest)| Ok((Checkpoint::from_bytes(note)?, note.len(), rest)));
        match read {
            Ok((checkpoint, length, rest)) => {
                self.rest = rest;
                self.at += length;
                Some(Ok(checkpoint))
            }
            Err(why) => {
                self.rest = &[];
                Some(Err(why))
            }
        }
    }
}

/// Where the first note ends: behind the lines that follow its first empty line.
fn end_of_note(bytes: &[u8]) -> Option<usize> {
    let within = bytes.get(..NOTE_BYTES).unwrap_or(bytes);
    let mut at = within.windows(2).position(|pair| pair == b"\n\n")? + 2;
    let first = at;
    while let Some(rest) = within.get(at..).filter(|rest| rest.starts_with(DASH.as_bytes())) {
        at += rest.iter().position(|byte| *byte == b'\n')? + 1;
    }
    (at > first).then_some(at)
}

/// The lines with signatures of a note that has been read as one: the library keeps them to itself.
fn lines_of(note: &[u8]) -> Result<Vec<Line>, Malformed> {
    let text = std::str::from_utf8(note).map_err(|_| Malformed::Note)?;
    let (_, lines) = text.rsplit_once("\n\n").ok_or(Malformed::Note)?;
    lines.lines().map(Line::parse).collect()
}

/// Names are also shown to people: nothing that a terminal acts on stands in one.
fn sound_name(name: &str) -> Result<(), Malformed> {
    let sound = signed_note::is_key_name_valid(name) && !name.chars().any(char::is_control);
    if sound { Ok(()) } else { Err(Malformed::Name) }
}

/// Signs heads beside the log: the zones' HSMs.
pub trait Cosigner: Send + Sync {
    /// Lines of all who are there to sign this text. Blocks; answers within two seconds, with nothing where nobody is there.
    fn cosign(&self, text: &[u8]) -> Vec<Line>;
}

impl Cosigner for () {
    fn cosign(&self, _text: &[u8]) -> Vec<Line> {
        Vec::new()
    }
}
