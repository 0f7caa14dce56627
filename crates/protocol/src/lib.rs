//! What crosses the border between the daemon and its HSM workers.
//!
//! Frames on a stream socket: u32 length, little-endian, then one message in postcard encoding. Many frames travel in
//! one write; requests are taken in the order in which they arrive and answered in any order. A key is named by its
//! key version id, never by a PKCS#11 handle: handles stay inside the worker and die with it.
//!
//! Both sides are always the same binary, so messages carry no version.

#![forbid(unsafe_code)]

mod ceremony;
mod ckr;
mod diagnosis;
mod fault;
mod frame;
mod items;
mod log_key;
mod reply;
mod start;
mod wrapping;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

pub use ceremony::{CeremonyOp, Inspected, Pair, TokenSeen};
pub use diagnosis::{Described, Library, Measure, MechanismSeen, SlotSeen, Speed, TokenDescribed};
pub use fault::{Class, Fault};
pub use frame::{FrameError, decode_frame, encode_frame};
pub use items::{CompareItem, DataKey, DataKeyItem, DecryptItem, EncryptItem, ReEncryptItem, Sealed};
pub use log_key::{LogKeyAlgorithm, LogPublicKey};
pub use start::{CeremonyObjects, LoggedIn, OPEN_FILES, Ready, Role, Start, Token, UserFlags};
pub use wrapping::{Challenge, ShownTransport, TransportKey};

use self::items::{Batch, FIXED_BYTES};
use model::id::{ClusterId, KeyVersionId, Zone};
use model::profile::examination::Examined;
use model::secret::Secret;

/// Largest frame that either side accepts, in bytes. Far above what [`CHUNK_ITEMS`] items can need.
pub const MAX_FRAME_BYTES: usize = 8 << 20;
/// Most items that one request carries; larger batches are split over frames, sessions and zones.
pub const CHUNK_ITEMS: usize = 64;
/// From so many keys on it matters whether a worker that keeps copies has met them before: each one that is new costs
/// it a copy, and a proof in each second.
pub const MANY_KEYS: usize = 16;

/// What the parent says. The first message to a worker is always `Start`.
#[derive(Debug, Serialize, Deserialize)]
pub enum ToWorker {
    /// Load the module, find the token, answer `Ready`. Logging in is a request of its own.
    Start(Box<Start>),
    /// Do something; answered by one `Reply` with the same id.
    Request {
        /// Chosen by the parent, increasing.
        id: u64,
        /// What to do.
        op: Op,
    },
}

/// What the worker says.
#[derive(Debug, Serialize, Deserialize)]
pub enum FromWorker {
    /// Start-up is done; requests are taken from now on.
    Ready(Box<Ready>),
    /// Start-up failed for good after its own retries; the worker leaves after this.
    Failed(Fault),
    /// The request with this id needs a search through all objects of the token before it can be done: it takes as long
    /// as a request of [`Kind::Place`] may. Said at most once for a request, before its reply.
    Searching {
        /// The request's id.
        id: u64,
    },
    /// The token has taken the PIN of the login that is in hand; what is left of that is a look at the token's objects.
    PinTaken,
    /// These versions are used again and again, and there is no hot copy of them: the worker wants them wrapped, to make
    /// some of. Answered by an `Op::Copy` for each, or not at all; a worker that goes on wanting one says so again.
    Wants {
        /// The versions.
        keys: Vec<KeyVersionId>,
    },
    /// The answer to the request with this id.
    Reply {
        /// The request's id.
        id: u64,
        /// What came of it.
        reply: Reply,
    },
}

/// What a worker can be asked to do.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[allow(clippy::large_enum_variant, reason = "passed in an Arc")]
pub enum Op {
    /// Log in as kmsuser and list the key objects; answered by `LoggedIn`. Tried once, whatever comes of it. Every
    /// role.
    Login(Secret),
    /// Sign a statement of membership with the token's identity key; answered by `Signature`. What is not named here
    /// the worker knows by itself. Every role.
    Prove {
        /// The cluster.
        cluster: ClusterId,
        /// The HSM's zone.
        zone: Zone,
        /// Random, and new for each request.
        nonce: [u8; 32],
    },
    /// Find the token's log key, which signs heads of audit logs and nothing else, or make it; answered by `LogKey`. A
    /// key that was not made in the token or may have left it is refused, and so are two. Control role.
    LogKey,
    /// Find the token's log key, and make none; answered by `LogKey`. Control role.
    ShowLogKey,
    /// Sign, with the token's identity key, that the log key of this name is the token's; answered by `Signature`. The
    /// worker puts the statement together, and refuses any name but that of the log key in its token. Control role.
    VouchForLogKey {
        /// The cluster.
        cluster: ClusterId,
        /// The key as notes name it, `ORIGIN/HSM+ID+KEY`.
        vkey: String,
    },
    /// Sign the head of an audit log with the log key; answered by `Signature`. Any other text is refused. Data role,
    /// so that no making of a key is waited for.
    SignCheckpoint {
        /// What is signed: a checkpoint of C2SP's tlog-checkpoint, without signatures.
        text: Bytes,
    },
    /// C_SetPIN; answered by `Done`. Tried once. Control role.
    ChangePin {
        /// The PIN in force.
        old: Secret,
        /// The PIN to come.
        new: Secret,
    },
    /// Show the token's transport key and sign, with its identity key, that the token holds the private half; answered
    /// by `Transport`. What is not named here the worker knows by itself. Control role.
    ShowTransport {
        /// The cluster.
        cluster: ClusterId,
        /// The HSM's zone.
        zone: Zone,
        /// Random, and new for each request.
        nonce: [u8; 32],
    },
    /// Open a blob of the ceremony as a session object, make sure that it holds the token's own cluster wrapping key,
    /// and wrap that to another token's transport key; answered by `Blob`. Control role.
    HandOnWrappingKey {
        /// For this token, from the ceremony folder.
        blob: Bytes,
        /// The other token's.
        to: TransportKey,
    },
    /// Make what only a holder of the cluster wrapping key can answer; answered by `Challenge`. Control role.
    ChallengeWrappingKey,
    /// Unwrap a blob as this token's cluster wrapping key, unless it holds one, and only if it answers the challenge.
    /// One that the token holds already has to answer it too. Answered by `Done`. Control role.
    PlaceWrappingKey {
        /// For this token. Absent: it must hold the key.
        blob: Option<Bytes>,
        /// From a member.
        challenge: Challenge,
    },
    /// Encrypt each item; answered by `Encrypted`. Data role.
    Encrypt(Vec<EncryptItem>),
    /// Decrypt each item; answered by `Decrypted`. Data role.
    Decrypt(Vec<DecryptItem>),
    /// Make a data key for each item and encrypt it; answered by `DataKeys`. Data role.
    GenerateDataKey(Vec<DataKeyItem>),
    /// Open the ciphertext of each item and encrypt what it holds; answered by `ReEncrypted`. The plaintext does not leave
    /// the worker. Data role.
    ReEncrypt(Vec<ReEncryptItem>),
    /// Open both ciphertexts of each item and say whether they hold the same; answered by `Compared`. Data role.
    Compare(Vec<CompareItem>),
    /// Random bytes, the token's XOR the operating system's; answered by `Random`. Data role.
    Random {
        /// How many.
        length: u16,
    },
    /// Whether AES-GCM is what it must be: the IV that is given and no other, a tag that is checked. Answered by
    /// `Done`. Every role.
    SelfTest,
    /// Which of the HSM's capabilities hold in truth, found with objects that are gone afterwards; answered by
    /// `Examined`. Data and control role.
    Examine {
        /// So many sessions a process of this HSM is to have.
        sessions: u16,
    },
    /// What the module and its token say of themselves; answered by `Described`. Control role.
    Describe,
    /// How fast the token does something, for a fraction of a second; answered by `Measured`. Control role.
    Measure {
        /// The operation that is measured.
        what: Measure,
        /// In so many sessions beside each other.
        sessions: u16,
    },
    /// Token info, then a round trip with the canary key's token object; answered by `Done`. Every role.
    Probe,
    /// Drop hot copies and handles of these versions at once; answered by `Done`. Data and control role.
    Forget(Vec<KeyVersionId>),
    /// Make a hot copy of a version, if it is used by now and there is none; answered by `Done`, whatever becomes of it:
    /// without a copy the token's object goes on being used. Data role.
    Copy {
        /// The version.
        key: KeyVersionId,
        /// From `MakeKey`. Absent: there is none; the token may be able to copy its object.
        blob: Option<Bytes>,
    },
    /// Make a random AES-256 session key, wrap it under the cluster wrapping key, forget it; answered by `Blob`.
    /// Control role.
    MakeKey,
    /// Unwrap a blob as the token object of a version; answered by `Done`. An object of that version that is already
    /// there is left alone. Control role.
    Place {
        /// Becomes CKA_ID.
        key: KeyVersionId,
        /// Becomes CKA_LABEL: the key's ARN.
        label: String,
        /// From `MakeKey`, of any token of the cluster.
        blob: Bytes,
    },
    /// Make a random AES-256 key as the token object of a version, which nobody can take out of the token; answered by
    /// `Done`. An object of that version that is already there is left alone. Control role.
    MakeInPlace {
        /// Becomes CKA_ID.
        key: KeyVersionId,
        /// Becomes CKA_LABEL: the key's ARN.
        label: String,
    },
    /// Make sure that the token holds one object of a version, which was made in it and never could leave it; answered
    /// by `Done`. Control role.
    ConfirmInPlace(KeyVersionId),
    /// Of several token objects of a version, destroy those that do not open its proof ciphertext, which is this item; answered by
    /// `Done` when one is left, also when there were not several, and by `OneMaterial` when several are left. Nothing is destroyed
    /// unless it is clear of each of them. Control role.
    KeepProven(DecryptItem),
    /// Destroy the token object of a version; answered by `Done`, also when there is none. Control role.
    Destroy(KeyVersionId),
    /// List the versions that the token holds; answered by `Keys`. Control role.
    List,
    /// A step of the ceremony. Ceremony role.
    Ceremony(CeremonyOp),
}

/// A worker's answer.
#[derive(Debug, Serialize, Deserialize)]
pub enum Reply {
    /// To `Encrypt`, item by item.
    Encrypted(Vec<Result<Sealed, Fault>>),
    /// To `Decrypt`, item by item.
    Decrypted(Vec<Result<Secret, Fault>>),
    /// To `GenerateDataKey`, item by item.
    DataKeys(Vec<Result<DataKey, Fault>>),
    /// To `ReEncrypt`, item by item.
    ReEncrypted(Vec<Result<Sealed, Fault>>),
    /// To `Compare`, item by item: whether both hold the same.
    Compared(Vec<Result<bool, Fault>>),
    /// To `Random`.
    Random(Secret),
    /// It is done.
    Done,
    /// To `Login`.
    LoggedIn(Box<LoggedIn>),
    /// To `Prove` and `VouchForLogKey`: r and s, 32 bytes each. To `SignCheckpoint`: likewise of P-256, over the SHA-256
    /// of the text; of Ed25519 the 64 bytes over the text itself.
    Signature(Bytes),
    /// To `LogKey` and `ShowLogKey`.
    LogKey(LogPublicKey),
    /// To `MakeKey` and `HandOnWrappingKey`.
    Blob(Bytes),
    /// To `ShowTransport`.
    Transport(Box<ShownTransport>),
    /// To `ChallengeWrappingKey`.
    Challenge(Box<Challenge>),
    /// To `Examine`.
    Examined(Box<Examined>),
    /// To `Describe`.
    Described(Box<Described>),
    /// To `Measure`.
    Measured(Speed),
    /// To `KeepProven`: so many objects are left, and each opens the proof.
    OneMaterial(u64),
    /// To `List`: each version as often as there are objects of it.
    Keys(Vec<KeyVersionId>),
    /// To `CeremonyOp::Discover`.
    Tokens(Vec<TokenSeen>),
    /// To `CeremonyOp::Inspect`.
    Inspected(Box<Inspected>),
    /// To `CeremonyOp::MakeIdentityPair`: an uncompressed point of P-256.
    IdentityKey(Bytes),
    /// To `CeremonyOp::MakeTransportPair`.
    TransportKey(TransportKey),
    /// To `CeremonyOp::MakeWrappingKey`.
    Blobs(Vec<Bytes>),
    /// The whole request failed.
    Failed(Fault),
}

/// To which limit an operation belongs. The kill limit counts from when a session thread took the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Encrypt, decrypt, random, probe, copy.
    Crypto,
    /// Unwrap, destroy, list, prove, show.
    Place,
    /// Key generation.
    Generate,
    /// Login and PIN change: killing one of these can destroy a token.
    Login,
}

impl Op {
    /// To which limit it belongs.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Encrypt(_) | Self::Decrypt(_) | Self::GenerateDataKey(_) | Self::Random { .. } => Kind::Crypto,
            Self::ReEncrypt(_) | Self::Compare(_) => Kind::Crypto,
            Self::Probe | Self::Forget(_) | Self::Copy { .. } => Kind::Crypto,
            // A proof looks for its key among all objects of the token, which takes long where there are many.
            Self::Place { .. } | Self::ConfirmInPlace(_) | Self::Destroy(_) | Self::List => Kind::Place,
            Self::Prove { .. } | Self::ShowTransport { .. } => Kind::Place,
            Self::VouchForLogKey { .. } => Kind::Place,
            // It looks as the making does, among all objects of the token.
            Self::ShowLogKey => Kind::Generate,
            // Tokens that sign slowly are no broken ones, and whoever asks waits for less than this.
            Self::SignCheckpoint { .. } => Kind::Place,
            // Several operations in a row, at the start of a worker alone.
            Self::SelfTest => Kind::Place,
            // For a fraction of a second, and longer than that only where one call takes longer.
            Self::Describe | Self::Measure { .. } => Kind::Place,
            // Each object is tried several times, and an HSM with too much to do may take long each time.
            Self::KeepProven(_) => Kind::Generate,
            // Some hundred calls.
            Self::Examine { .. } => Kind::Generate,
            Self::MakeKey | Self::MakeInPlace { .. } | Self::LogKey | Self::ChallengeWrappingKey => Kind::Generate,
            Self::HandOnWrappingKey { .. } | Self::PlaceWrappingKey { .. } => Kind::Generate,
            Self::Login(_) | Self::ChangePin { .. } => Kind::Login,
            Self::Ceremony(CeremonyOp::InitToken { .. } | CeremonyOp::InitUserPin { .. }) => Kind::Login,
            Self::Ceremony(CeremonyOp::Inspect | CeremonyOp::Discover | CeremonyOp::StoreCertificate { .. }) => {
                Kind::Place
            }
            Self::Ceremony(_) => Kind::Generate,
        }
    }

    /// Which role does it.
    #[must_use]
    pub fn allowed_for(&self, role: Role) -> bool {
        match self {
            Self::Encrypt(_) | Self::Decrypt(_) | Self::GenerateDataKey(_) | Self::Random { .. } => role == Role::Data,
            Self::ReEncrypt(_) | Self::Compare(_) | Self::SignCheckpoint { .. } | Self::Copy { .. } => {
                role == Role::Data
            }
            Self::SelfTest | Self::Probe | Self::Login(_) | Self::Prove { .. } => true,
            Self::ChangePin { .. } | Self::ShowTransport { .. } | Self::ChallengeWrappingKey => role == Role::Control,
            Self::HandOnWrappingKey { .. } | Self::PlaceWrappingKey { .. } => role == Role::Control,
            Self::LogKey | Self::ShowLogKey | Self::VouchForLogKey { .. } => role == Role::Control,
            Self::Describe | Self::Measure { .. } => role == Role::Control,
            Self::Examine { .. } => role != Role::Ceremony,
            Self::Forget(_) => role != Role::Ceremony,
            Self::MakeKey | Self::Place { .. } | Self::Destroy(_) | Self::List => role == Role::Control,
            Self::MakeInPlace { .. } | Self::ConfirmInPlace(_) | Self::KeepProven(_) => role == Role::Control,
            Self::Ceremony(_) => role == Role::Ceremony,
        }
    }

    /// Its items, where it has any. An operation that has comes here, so that what follows from it is not forgotten.
    fn batch(&self) -> Option<&dyn Batch> {
        match self {
            Self::Encrypt(items) => Some(items),
            Self::Decrypt(items) => Some(items),
            Self::GenerateDataKey(items) => Some(items),
            Self::ReEncrypt(items) => Some(items),
            Self::Compare(items) => Some(items),
            Self::Login(_)
            | Self::Prove { .. }
            | Self::LogKey
            | Self::ShowLogKey
            | Self::VouchForLogKey { .. }
            | Self::SignCheckpoint { .. }
            | Self::ChangePin { .. }
            | Self::ShowTransport { .. }
            | Self::HandOnWrappingKey { .. }
            | Self::ChallengeWrappingKey
            | Self::PlaceWrappingKey { .. }
            | Self::Random { .. }
            | Self::SelfTest
            | Self::Examine { .. }
            | Self::Describe
            | Self::Measure { .. }
            | Self::Probe
            | Self::Forget(_)
            | Self::Copy { .. }
            | Self::MakeKey
            | Self::Place { .. }
            | Self::MakeInPlace { .. }
            | Self::ConfirmInPlace(_)
            | Self::KeepProven(_)
            | Self::Destroy(_)
            | Self::List
            | Self::Ceremony(_) => None,
        }
    }

    /// Number of items, 1 where the operation has none.
    #[must_use]
    pub fn items(&self) -> usize {
        self.batch().map_or(1, Batch::count)
    }

    /// The key of an item; `None` where there is no such item, or the operation has no key.
    #[must_use]
    pub fn key(&self, item: usize) -> Option<KeyVersionId> {
        self.batch()?.key(item)
    }

    /// Bytes that it holds in memory while it waits, roughly.
    #[must_use]
    pub fn weight(&self) -> usize {
        self.batch().map_or(FIXED_BYTES, Batch::weight)
    }

    /// It changes nothing in the token, so that nobody needs it whose reply nobody waits for.
    #[must_use]
    pub fn has_no_effect(&self) -> bool {
        self.batch().is_some() || matches!(self, Self::Random { .. } | Self::SignCheckpoint { .. })
    }
}
