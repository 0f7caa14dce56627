//! kmsuser's PIN in an HSM, as it is on record, and what keeps the record.

use std::pin::Pin as Pinned;

use bytes::Bytes;

use crate::id::{HsmId, KeyStoreId};

/// kmsuser's PIN in one HSM, and what is known of it. What follows from it is decided in `cluster::kmsuser`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pin {
    /// The PIN in the token, as far as is known; sealed.
    pub current: Bytes,
    /// The PIN that a rotation was about to set; sealed.
    pub pending: Option<Bytes>,
    /// The PIN that an operator has told, beside one that a token has taken; sealed.
    pub offered: Option<Bytes>,
    /// A token has taken `current`, which may be known to nobody else.
    pub current_proven: bool,
    /// Which tokens have taken `current`, where the PIN belongs to the whole cluster: a mark of each, the latest last.
    pub taken_by: Vec<String>,
    /// The token refused `current`.
    pub current_refused: bool,
    /// The token refused `pending`.
    pub pending_refused: bool,
    /// The token refused `offered`.
    pub offered_refused: bool,
    /// `offered` was told after the security officer had set the PIN: it is tried before the others.
    pub offered_first: bool,
    /// An attempt to log in that has no outcome.
    pub attempt: Option<Candidate>,
    /// Attempts in a row that were refused or had no outcome.
    pub failures: u32,
    /// The next login is followed by a rotation.
    pub rotation_due: bool,
    /// Milliseconds since the Unix epoch.
    pub rotated_at: Option<i64>,
    /// When an operator said last that the security officer had cleared the token's own count. Milliseconds since the
    /// Unix epoch.
    pub reset_at: Option<i64>,
}

/// One of the PINs that a token may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Candidate {
    /// [`Pin::current`].
    Current,
    /// [`Pin::pending`].
    Pending,
    /// [`Pin::offered`].
    Offered,
}

impl Candidate {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Current, Self::Pending, Self::Offered];
}

impl Pin {
    /// The first PIN that an operator has told.
    #[must_use]
    pub fn given(sealed: Bytes) -> Self {
        Self {
            current: sealed,
            pending: None,
            offered: None,
            current_proven: false,
            taken_by: Vec::new(),
            current_refused: false,
            pending_refused: false,
            offered_refused: false,
            offered_first: false,
            attempt: None,
            failures: 0,
            rotation_due: false,
            rotated_at: None,
            reset_at: None,
        }
    }

    /// One of the PINs, sealed; `None` where it is not on record.
    #[must_use]
    pub fn sealed(&self, candidate: Candidate) -> Option<&Bytes> {
        match candidate {
            Candidate::Current => Some(&self.current),
            Candidate::Pending => self.pending.as_ref(),
            Candidate::Offered => self.offered.as_ref(),
        }
    }

    /// Attempts in a row that count as failed: those without an outcome may have been.
    #[must_use]
    pub fn spent(&self) -> u32 {
        self.failures.saturating_add(u32::from(self.attempt.is_some()))
    }
}

/// What is to be known of one PIN, in the place of what was read.
#[derive(Clone, Debug)]
pub struct PinChange {
    /// The HSM, or what stands for all of a cluster.
    pub hsm: HsmId,
    /// What was read; `None` where nothing is on record.
    pub before: Option<Pin>,
    /// What is to be known.
    pub after: Pin,
}

/// Keeps what is known of PINs. Whoever works on a PIN records each step before he takes it.
pub trait PinRecords: Send + Sync {
    /// The PINs of a key store's HSMs.
    fn pins<'a>(&'a self, key_store: &'a KeyStoreId) -> Recording<'a, Vec<(HsmId, Pin)>>;

    /// Records what is known of one PIN now. Durable when it returns. Fails with [`PinRecordError::Changed`] when
    /// something else is on record than was read.
    fn replace_pin<'a>(&'a self, key_store: &'a KeyStoreId, change: PinChange) -> Recording<'a, ()>;
}

/// What reading or changing a record comes to.
pub type Recording<'a, T> = Pinned<Box<dyn Future<Output = Result<T, PinRecordError>> + Send + 'a>>;

/// Why a record could not be read or changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PinRecordError {
    /// Another record is there than whoever works on the PIN has read.
    #[error("the record of kmsuser's PIN of HSM {0} was changed meanwhile; it is read again")]
    Changed(HsmId),
    /// The metadata cannot be read or changed; the sentence says why.
    #[error("{0}")]
    Metadata(String),
}
