//! A proof that one record is in a log, which can be checked without the rest of the log: C2SP's tlog-proof.
//!
//! The record itself goes with it, as the format's extra data, so that one file is all that an auditor needs beside the keys.

mod growth;
#[cfg(test)]
mod tests;

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tlog_tiles::tlog::{self, Hash, HashReader, check_record, node_hash, record_hash, split_stored_hash_index};

pub use self::growth::{Grown, check_growth, prove_growth};
use super::files::{Place, Unreadable, WIDTH};
use super::keys::Believed;
use super::layout::{CHECKPOINT, FULL, HEIGHT, RECORD_BYTES};
use super::note::{Checkpoint, Head, NOTE_BYTES, Signed};
use super::read::Records;

/// The first line.
const TITLE: &str = "c2sp.org/tlog-proof@v1";
/// Longest proof that is read: a record in base64, a hash for each level, a head.
const PROOF_BYTES: usize = RECORD_BYTES * 2 + NOTE_BYTES + 64 * 64;
/// Most hashes of a proof.
const LEVELS: usize = 63;

/// Why there is no proof, or none that holds.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// A file of the log cannot be read.
    #[error("cannot read {0}")]
    Unreadable(#[from] Unreadable),
    /// There is no signed head, or it cannot be read.
    #[error("the log has no checkpoint that can be read")]
    NoCheckpoint,
    /// Nobody vouches for the record yet, or there is none.
    #[error("the newest signed head is of {0} records: it does not vouch for what is behind them")]
    NotVouched(u64),
    /// The record, or a tile, is not there.
    #[error("{0} is not there")]
    Missing(&'static str),
    /// The log's files do not make the head's root.
    #[error("the log's files do not make what was signed: verify the log")]
    Contradiction,
    /// Not a proof.
    #[error("not a proof of C2SP's tlog-proof, version 1: {0}")]
    Malformed(&'static str),
    /// Another log's.
    #[error("a proof of another log: {0}")]
    OtherLog(String),
    /// The head is not signed.
    #[error("the head is not signed by the log's key, or a signature is wrong")]
    NotSigned,
    /// There is no record to check.
    #[error("the proof does not hold the record, and none was given")]
    NoRecord,
    /// It does not hold.
    #[error("the record is not in the log that the head is of")]
    Untrue,
    /// It does not hold, of two heads.
    #[error(
        "the log that the newest head is of does not begin with what the kept head is of: something before it was changed"
    )]
    Fork,
}

/// What a proof proves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// The record's number.
    pub number: u64,
    /// The record.
    pub record: Vec<u8>,
    /// The head that it is under.
    pub head: Head,
    /// The names of the keys that have signed the head; the log's own is the first.
    pub signers: Vec<String>,
}

/// A proof that has been read and not checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proof {
    /// Extra data; ours have the record there.
    pub extra: Option<Vec<u8>>,
    /// The record's number.
    pub number: u64,
    /// From the record's neighbour up to the root's child.
    pub hashes: Vec<[u8; 32]>,
    /// The signed head.
    pub checkpoint: Checkpoint,
}

/// The newest signed head of a log, as it stands in its file.
pub fn checkpoint(place: &Place) -> Result<Checkpoint, ProofError> {
    let bytes = place.read(Path::new(CHECKPOINT), NOTE_BYTES)?.ok_or(ProofError::NoCheckpoint)?;
    Checkpoint::from_bytes(&bytes).map_err(|_| ProofError::NoCheckpoint)
}

/// Proves a record of the log in this directory.
pub fn prove(directory: &Path, number: u64) -> Result<String, ProofError> {
    prove_at(&Place::new(directory), number)
}

/// Proves a record of a log whose older bundles may be in an archive.
pub fn prove_at(place: &Place, number: u64) -> Result<String, ProofError> {
    let checkpoint = checkpoint(place)?;
    let Head { size, root } = checkpoint.head();
    if number >= size {
        return Err(ProofError::NotVouched(size));
    }
    let mut records = Records::from(place, number)?;
    let record = records.next()?.ok_or(ProofError::Missing("the record"))?.bytes.to_vec();
    let tiles = Tiles { place, size };
    let hashes = tlog::prove_record(size, number, &tiles).map_err(|_| ProofError::Missing("a tile"))?;
    check_record(&hashes, size, Hash(root), number, record_hash(&record)).map_err(|_| ProofError::Contradiction)?;
    let hashes = hashes.into_iter().map(|hash| hash.0).collect();
    Ok(Proof { extra: Some(record), number, hashes, checkpoint }.to_text())
}

/// Checks a proof. Where it does not hold the record, it is given.
pub fn check(proof: &[u8], keys: &Believed, record: Option<&[u8]>) -> Result<Proven, ProofError> {
    let Proof { extra, number, hashes, checkpoint } = Proof::parse(proof)?;
    let signers = signers(&checkpoint, keys)?;
    let record = record.map(<[u8]>::to_vec).or(extra).ok_or(ProofError::NoRecord)?;
    let head = checkpoint.head();
    let hashes = hashes.into_iter().map(Hash).collect();
    check_record(&hashes, head.size, Hash(head.root), number, record_hash(&record)).map_err(|_| ProofError::Untrue)?;
    Ok(Proven { number, record, head, signers })
}

/// Who has signed a head of this log, the log itself among them.
fn signers(checkpoint: &Checkpoint, keys: &Believed) -> Result<Vec<String>, ProofError> {
    if checkpoint.origin() != keys.log.name() {
        return Err(ProofError::OtherLog(checkpoint.origin().to_owned()));
    }
    let all: Vec<_> = std::iter::once(&keys.log).chain(keys.hsms.iter().map(|hsm| &hsm.key)).collect();
    let said: Vec<Signed> = all.iter().map(|key| checkpoint.signed_by(key)).collect();
    if said.first() != Some(&Signed::Well) || said.contains(&Signed::Wrongly) {
        return Err(ProofError::NotSigned);
    }
    let signed = all.iter().zip(&said).filter(|(_, said)| **said == Signed::Well);
    Ok(signed.map(|(key, _)| key.name().to_owned()).collect())
}

impl Proof {
    /// As it stands in a file.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut lines = vec![TITLE.to_owned()];
        lines.extend(self.extra.as_ref().map(|extra| format!("extra {}", STANDARD.encode(extra))));
        lines.push(format!("index {}", self.number));
        lines.extend(self.hashes.iter().map(|hash| STANDARD.encode(hash)));
        lines.push(String::new());
        lines.join("\n") + "\n" + &String::from_utf8_lossy(&self.checkpoint.to_bytes())
    }

    /// Reads a proof. Nothing is said of whether it holds.
    pub fn parse(bytes: &[u8]) -> Result<Self, ProofError> {
        use ProofError::Malformed;
        if bytes.len() > PROOF_BYTES {
            return Err(Malformed("it is too long"));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| Malformed("not UTF-8"))?;
        let (head, checkpoint) = text.split_once("\n\n").ok_or(Malformed("no empty line"))?;
        let checkpoint =
            Checkpoint::from_bytes(checkpoint.as_bytes()).map_err(|_| Malformed("no signed head follows"))?;
        let mut lines = head.split('\n').peekable();
        if lines.next() != Some(TITLE) {
            return Err(Malformed("another first line"));
        }
        let extra = match lines.peek().and_then(|line| line.strip_prefix("extra ")) {
            Some(extra) => {
                lines.next();
                Some(STANDARD.decode(extra).map_err(|_| Malformed("its extra data is not base64"))?)
            }
            None => None,
        };
        let index = lines.next().and_then(|line| line.strip_prefix("index ")).ok_or(Malformed("no index"))?;
        let number: u64 = index.parse().map_err(|_| Malformed("no index"))?;
        if number.to_string() != index {
            return Err(Malformed("no index"));
        }
        let mut hashes = Vec::new();
        for line in lines {
            let hash = STANDARD.decode(line).ok().and_then(|hash| <[u8; 32]>::try_from(hash).ok());
            hashes.push(hash.ok_or(Malformed("a line that is no hash"))?);
            if hashes.len() > LEVELS {
                return Err(Malformed("too many hashes"));
            }
        }
        Ok(Self { extra, number, hashes, checkpoint })
    }
}

/// Finds hashes of the tree in tiles.
struct Tiles<'a> {
    place: &'a Place,
    size: u64,
}

impl HashReader for Tiles<'_> {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, tlog::Error> {
        indexes.iter().map(|index| self.hash(*index).ok_or(tlog::Error::InvalidTile)).collect()
    }
}

impl Tiles<'_> {
    /// The hash of a complete subtree: 2^height records, the number of such before it.
    fn hash(&self, index: u64) -> Option<Hash> {
        let (height, number) = split_stored_hash_index(index);
        let level = height / HEIGHT;
        let below = height % HEIGHT;
        // Among the hashes of that level, those that are under it.
        let first = number << below;
        let width = self.size.checked_shr(u32::from(level * HEIGHT))?.checked_sub(first / FULL * FULL)?.min(FULL);
        let tile = self.place.tile(level, first / FULL, width as usize).ok()??;
        let start = (first % FULL) as usize;
        over(tile.get(start..start + (1 << below)).filter(|hashes| hashes.len() <= WIDTH)?)
    }
}

/// The hash over these, as many as a power of two.
fn over(hashes: &[Hash]) -> Option<Hash> {
    match hashes {
        [] => None,
        [one] => Some(*one),
        _ => {
            let (left, right) = hashes.split_at(hashes.len() / 2);
            Some(node_hash(over(left)?, over(right)?))
        }
    }
}
