//! Gathers the signed heads, and says who has signed them.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

use super::finding::{Finding, Findings, Kept};
use crate::files::{Place, Unreadable, open};
use crate::keys::Believed;
use crate::layout::{CHECKPOINT, HEADS};
use crate::note::{Checkpoint, Head, Heads, NOTE_BYTES, Signed};

/// So much of the file of heads is read at once.
const CHUNK: u64 = 1_024 * 1_024;

/// So much that is no head has somebody else put there, and nothing that is behind it is looked at: a file may go on for ever.
const LOST_BYTES: u64 = 4 * CHUNK;

/// What is no head, at the place of the file that is looked at.
#[derive(Default)]
struct Lost {
    /// Where it begins.
    since: Option<u64>,
    /// Another head was begun in it: a crash leaves the beginning of one.
    is_more: bool,
}

/// Who has signed how much.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    /// The key's name.
    pub name: String,
    /// The HSM and its zone; absent for the log's own key.
    pub hsm: Option<(String, String)>,
    /// How many heads.
    pub heads: u64,
    /// The newest of them, by how many records it is of.
    pub newest: Option<u64>,
}

/// Heads that the log's key has signed.
pub(super) struct Gathered {
    /// Sorted by size. Where two are of one size, there is a finding that says so.
    pub(super) heads: Vec<Head>,
    /// As many records the log itself says it has.
    pub(super) own: u64,
    /// How many there were to check.
    pub(super) checked: u64,
    pub(super) signers: Vec<Signer>,
}

struct Gathering<'a> {
    keys: &'a Believed,
    found: &'a mut Findings,
    gathered: Gathered,
    /// Those that are gathered: a head may stand in the file over and over.
    known: HashSet<Head>,
}

pub(super) fn gather(
    place: &Place,
    keys: &Believed,
    outside: Option<&Checkpoint>,
    found: &mut Findings,
) -> Result<Gathered, Unreadable> {
    let log = Signer { name: keys.log.name().to_owned(), hsm: None, heads: 0, newest: None };
    let hsms = keys.hsms.iter().map(|one| Signer {
        name: one.key.name().to_owned(),
        hsm: Some((one.hsm.clone(), one.zone.clone())),
        heads: 0,
        newest: None,
    });
    let signers = std::iter::once(log).chain(hsms).collect();
    let gathered = Gathered { heads: Vec::new(), own: 0, checked: 0, signers };
    let mut gathering = Gathering { keys, found, gathered, known: HashSet::new() };
    // Before the checkpoint: one that is written meanwhile is then the newest.
    gathering.file_of_heads(place)?;
    match place.read(Path::new(CHECKPOINT), NOTE_BYTES)? {
        Some(bytes) => match Checkpoint::from_bytes(&bytes) {
            Ok(checkpoint) => gathering.take(Kept::Checkpoint, &checkpoint),
            Err(_) => gathering.found.push(Finding::Unreadable { kept: Kept::Checkpoint, at: 0 }),
        },
        None => gathering.found.push(Finding::NoCheckpoint),
    }
    gathering.gathered.own = gathering.gathered.heads.iter().map(|head| head.size).max().unwrap_or(0);
    if let Some(outside) = outside {
        gathering.take(Kept::Outside, outside);
    }
    Ok(gathering.end())
}

impl Gathering<'_> {
    fn file_of_heads(&mut self, place: &Place) -> Result<(), Unreadable> {
        let path = place.directory().join(HEADS);
        let opened = open(place.directory(), Path::new(HEADS));
        let Some(mut file) = opened.map_err(Unreadable::at(&path))? else { return Ok(()) };
        let (mut bytes, mut before) = (Vec::new(), 0);
        let mut lost = Lost::default();
        loop {
            let ended = !more(&mut file, &mut bytes).map_err(Unreadable::at(&path))?;
            let used = self.heads_in(&bytes, before, ended, &mut lost);
            bytes.drain(..used);
            before += used as u64;
            let behind = lost.since.map_or(0, |since| before + bytes.len() as u64 - since);
            if ended || behind > LOST_BYTES {
                if let Some(at) = lost.since.filter(|_| lost.is_more || behind > NOTE_BYTES as u64) {
                    self.found.push(Finding::Unreadable { kept: Kept::Heads, at });
                }
                return Ok(());
            }
        }
    }

    /// Takes the heads of this part of the file; says how much of it they were.
    fn heads_in(&mut self, bytes: &[u8], before: u64, ended: bool, lost: &mut Lost) -> usize {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            let mut heads = Heads::new(rest);
            match heads.next() {
                // Where what was read ends with the head, lines of it may follow.
                Some(Ok(_)) if heads.position() == rest.len() && !ended => break,
                Some(Ok(head)) => {
                    if let Some(since) = std::mem::take(lost).since {
                        self.found.push(Finding::Unreadable { kept: Kept::Heads, at: since });
                    }
                    at += heads.position();
                    self.take(Kept::Heads, &head);
                }
                Some(Err(_)) if rest.len() < NOTE_BYTES && !ended => break,
                _ => {
                    // What comes after it may be sound; where nothing does, the last one was being written at a crash.
                    lost.since.get_or_insert(before + at as u64);
                    match next_head(rest, self.keys.log.name()) {
                        Some(skipped) => (at, lost.is_more) = (at + skipped, true),
                        None if ended => break,
                        None => at += rest.len() - NOTE_BYTES.min(rest.len() - 1),
                    }
                }
            }
        }
        at
    }

    /// Takes a head if the log's key has signed it.
    fn take(&mut self, kept: Kept, checkpoint: &Checkpoint) {
        self.gathered.checked += 1;
        let size = checkpoint.head().size;
        if checkpoint.origin() != self.keys.log.name() {
            self.found.push(Finding::OtherLog { kept, origin: checkpoint.origin().to_owned() });
            return;
        }
        let keys = std::iter::once(&self.keys.log).chain(self.keys.hsms.iter().map(|one| &one.key));
        let said: Vec<Signed> = keys.clone().map(|key| checkpoint.signed_by(key)).collect();
        for (key, _) in keys.zip(&said).filter(|(_, said)| **said == Signed::Wrongly) {
            self.found.push(Finding::WrongSignature { kept, size, by: key.name().to_owned() });
        }
        match said.first() {
            Some(Signed::Well) => {}
            Some(Signed::Wrongly) => return,
            _ => return self.found.push(Finding::NotSigned { kept, size }),
        }
        for (signer, _) in self.gathered.signers.iter_mut().zip(&said).filter(|(_, said)| **said == Signed::Well) {
            signer.heads += 1;
            signer.newest = signer.newest.max(Some(size));
        }
        if self.known.insert(checkpoint.head()) {
            self.gathered.heads.push(checkpoint.head());
        }
    }

    fn end(mut self) -> Gathered {
        let heads = &mut self.gathered.heads;
        heads.sort_unstable_by_key(|head| (head.size, head.root));
        heads.dedup();
        for pair in heads.windows(2) {
            if let [one, other] = pair
                && one.size == other.size
            {
                self.found.push(Finding::Fork { size: one.size });
            }
        }
        self.gathered
    }
}

/// Reads on; false where nothing more follows.
fn more(file: &mut File, bytes: &mut Vec<u8>) -> io::Result<bool> {
    Ok(file.by_ref().take(CHUNK).read_to_end(bytes)? > 0)
}

/// Where behind the first line the head of the log begins that is looked at next. Of those that are begun before the next empty
/// line it is the last, since that line ends the text of one alone: otherwise heads that are begun over and over would each be
/// looked through up to there.
fn next_head(bytes: &[u8], origin: &str) -> Option<usize> {
    let line = format!("\n{origin}\n");
    let is_line = |window: &[u8]| window == line.as_bytes();
    let empty = bytes.windows(2).position(|pair| pair == b"\n\n").unwrap_or(bytes.len());
    let (before, behind) = (bytes.get(..=empty).unwrap_or(bytes), bytes.get(empty..).unwrap_or_default());
    let last = before.windows(line.len()).rposition(is_line);
    last.or_else(|| behind.windows(line.len()).position(is_line).map(|at| empty + at)).map(|at| at + 1)
}
