//! What may be wrong with a log, each so that a person knows where to look.

use std::fmt;

/// From where a head is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kept {
    /// The file `checkpoint`.
    Checkpoint,
    /// The file `heads`.
    Heads,
    /// Elsewhere, by whoever checks.
    Outside,
}

impl fmt::Display for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Checkpoint => "the checkpoint",
            Self::Heads => "a head of the file heads",
            Self::Outside => "the head kept elsewhere",
        })
    }
}

/// Something that is not as it should be. Records are numbered from 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// There is no checkpoint.
    NoCheckpoint,
    /// A head cannot be read.
    Unreadable {
        /// Where the head was kept.
        kept: Kept,
        /// From which byte of the file on.
        at: u64,
    },
    /// A head is another log's.
    OtherLog {
        /// Where the head was kept.
        kept: Kept,
        /// What the other log calls itself.
        origin: String,
    },
    /// A head has no signature by the log's key.
    NotSigned {
        /// Where the head was kept.
        kept: Kept,
        /// Of how many records.
        size: u64,
    },
    /// A signature is not that of the key that it names.
    WrongSignature {
        /// Where the head was kept.
        kept: Kept,
        /// Of how many records.
        size: u64,
        /// The key's name.
        by: String,
    },
    /// Two signed heads say different things of one number of records.
    Fork {
        /// Of how many records.
        size: u64,
    },
    /// A signed head says something else than a newer one about the records that both are about.
    Contradiction {
        /// Of how many records.
        size: u64,
    },
    /// Records are not what was recorded: changed, or others put in their place.
    Altered {
        /// The first.
        first: u64,
        /// How many.
        count: u64,
    },
    /// Records are not there.
    Missing {
        /// The first.
        first: u64,
        /// How many.
        count: u64,
    },
    /// Something stands before a record that was not recorded there.
    Inserted {
        /// The record.
        before: u64,
        /// How many.
        count: u64,
    },
    /// A record stands in another's place.
    Moved {
        /// Its number.
        number: u64,
        /// The number of the record whose place that is.
        at: u64,
    },
    /// A bundle holds no records that can be read.
    Bundle {
        /// The first record.
        first: u64,
        /// How many.
        count: u64,
    },
    /// Among these records something was changed, and the hashes over them too.
    Within {
        /// The first.
        first: u64,
        /// Behind the last one.
        end: u64,
    },
    /// Among these records something was changed, and every hash that is not signed with it.
    Between {
        /// As many records are as the last head says that fits.
        first: u64,
        /// As many the next one is about, which does not fit.
        end: u64,
    },
    /// There are fewer records than a signed head says.
    Fewer {
        /// So many.
        there: u64,
        /// It says.
        signed: u64,
    },
    /// A tile of hashes is not there, or not what the records make.
    Tile {
        /// Its level.
        level: u8,
        /// Which of that level.
        index: u64,
        /// It is not there.
        missing: bool,
    },
    /// The log's directory and the archive both have records, and not the same.
    Copies {
        /// The first.
        first: u64,
        /// How many.
        count: u64,
    },
    /// Something more, or something else, stands in the log's files than was signed, in none of the ways above.
    Otherwise,
}

impl Finding {
    /// Whether it is about what was recorded, rather than about what vouches for it.
    #[must_use]
    pub const fn is_of_records(&self) -> bool {
        matches!(
            self,
            Self::Altered { .. }
                | Self::Missing { .. }
                | Self::Inserted { .. }
                | Self::Moved { .. }
                | Self::Bundle { .. }
                | Self::Within { .. }
                | Self::Between { .. }
                | Self::Fewer { .. }
                | Self::Copies { .. }
                | Self::Otherwise
        )
    }
}

/// `record 7 is` or `records 7 to 9 are`.
fn records(first: u64, count: u64) -> String {
    match count {
        1 => format!("record {first} is"),
        _ => format!("records {first} to {} are", first.saturating_add(count).saturating_sub(1)),
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoCheckpoint => f.write_str("there is no checkpoint"),
            Self::Unreadable { kept, at } => write!(f, "{kept} cannot be read, from byte {at} on"),
            Self::OtherLog { kept, origin } => write!(f, "{kept} is another log's: {origin}"),
            Self::NotSigned { kept, size } => write!(f, "{kept}, of {size} records, is not signed by the log's key"),
            Self::WrongSignature { kept, size, by } => {
                write!(f, "{kept}, of {size} records, has a signature that is said to be of {by} and is not")
            }
            Self::Fork { size } => {
                write!(f, "there are two signed heads of {size} records that differ: somebody was shown another log")
            }
            Self::Contradiction { size } => write!(
                f,
                "the signed head of {size} records is not one of the records that newer signed heads are of: somebody was \
                 shown another log"
            ),
            Self::Altered { first, count } => write!(f, "{} not what was recorded", records(*first, *count)),
            Self::Missing { first, count } => write!(f, "{} missing", records(*first, *count)),
            Self::Inserted { before, count: 1 } => {
                write!(f, "before record {before} stands one that was not recorded there")
            }
            Self::Inserted { before, count } => {
                write!(f, "before record {before} stand {count} that were not recorded there")
            }
            Self::Moved { number, at } => write!(f, "record {number} was moved to the place of record {at}"),
            Self::Bundle { first, count } => write!(f, "{} in a bundle that cannot be read", records(*first, *count)),
            Self::Within { first, end } => write!(
                f,
                "among records {first} to {} something was altered, and the tile of their hashes too: which of them cannot \
                 be told",
                end.saturating_sub(1)
            ),
            Self::Between { first, end } => write!(
                f,
                "among records {first} to {} something was altered, missing or inserted, and the hashes of them all made \
                 anew: the signed head of {first} records fits, that of {end} does not; only a head between the two that \
                 was kept elsewhere can tell more, and of what comes after record {} nothing can be told",
                end.saturating_sub(1),
                end.saturating_sub(1)
            ),
            Self::Fewer { there, signed } => {
                write!(f, "there are {there} records, and a signed head of {signed}")
            }
            Self::Tile { level, index, missing } => {
                let what = if *missing { "is missing" } else { "is not what the records make" };
                write!(f, "tile {index} of level {level} {what}")
            }
            Self::Copies { first, count } => write!(
                f,
                "{} in the log's directory and in the archive, and not the same there",
                records(*first, *count)
            ),
            Self::Otherwise => f.write_str(
                "all records are as they were signed, and something that was not signed stands with them: at the end of a \
                 bundle, or in place of a tile",
            ),
        }
    }
}

/// Findings, of which no more are kept than anybody reads.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) found: Vec<Finding>,
    pub(super) more: u64,
}

impl Findings {
    const MOST: usize = 1_000;

    pub(super) const fn is_empty(&self) -> bool {
        self.found.is_empty()
    }

    pub(super) fn push(&mut self, finding: Finding) {
        if self.found.len() < Self::MOST {
            self.found.push(finding);
        } else {
            self.more += 1;
        }
    }
}
