//! Operations on items, as whoever uses a cluster asks for them: a batch of one operation in, an answer for each item
//! out. A further operation is a row of the table here, and what [`super::member_operation`] has to know of it.

use std::sync::Arc;

use super::member_operation::Task;
pub use super::member_operation::{BringIn, Decrypt, Encrypt, GenerateDataKey, ReEncrypt};
use super::{Cluster, Failed, KeyRef};
use model::call_options::CallOptions;
use model::id::{HsmId, Zone};
use model::secret::Secret;
use protocol::{DataKey, DataKeyItem, DecryptItem, EncryptItem, ReEncryptItem, Sealed};

/// Opens a ciphertext for another cluster: the first half of encrypting anew where there are two.
#[derive(Debug)]
pub struct TakeOut;

/// One item, with the key that it is about.
#[derive(Clone, Debug)]
pub struct Keyed<I> {
    /// The key, which the item names too.
    pub key: Arc<KeyRef>,
    /// The key of what is opened, where the item has a source.
    pub source: Option<Arc<KeyRef>>,
    /// The item as it travels to a worker.
    pub item: I,
}

/// Which member served an item, by its place in the cluster: small, so that each item's answer can say it without
/// allocating. [`Cluster::served_by`] has its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// Whose answer was given out.
    pub member: u8,
    /// Who opened what it encrypted, where that was a member of another cluster: by its place in that one.
    pub opened_by: Option<u8>,
}

impl Served {
    /// By the member at this place; there are never more than 64.
    #[must_use]
    pub fn by(place: usize) -> Self {
        Self { member: u8::try_from(place).unwrap_or(u8::MAX), opened_by: None }
    }
}

/// What came of an item, and in which member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Done<T> {
    /// Which member.
    pub served: Served,
    /// The answer.
    pub output: T,
}

impl<T> Done<T> {
    /// Done by the member at this place.
    #[must_use]
    pub fn by(place: usize, output: T) -> Self {
        Self { served: Served::by(place), output }
    }

    /// The member's place.
    #[must_use]
    pub fn place(&self) -> usize {
        usize::from(self.served.member)
    }
}

/// An operation on items.
pub trait ItemOperation {
    /// An item of it.
    type Item: Send + 'static;
    /// What comes of one.
    type Output: Send + 'static;

    /// A batch of these.
    fn batch(items: Vec<Keyed<Self::Item>>) -> Batch;

    /// The answers to a batch of these; `None` if they are another operation's.
    fn answers(answers: Answers) -> Option<Vec<Result<Done<Self::Output>, Failed>>>;
}

macro_rules! item_operations {
    ($($(#[$doc:meta])* $name:ident: $item:ty => $output:ty, by $way:ident $(::<$of:ty>)?;)+) => {
        /// Items of one operation.
        #[derive(Debug)]
        pub enum Batch {
            $($(#[$doc])* $name(Vec<Keyed<$item>>),)+
        }

        /// The answers to a [`Batch`], in its order.
        #[derive(Debug)]
        pub enum Answers {
            $($(#[$doc])* $name(Vec<Result<Done<$output>, Failed>>),)+
        }

        $(impl ItemOperation for $name {
            type Item = $item;
            type Output = $output;

            fn batch(items: Vec<Keyed<$item>>) -> Batch {
                Batch::$name(items)
            }

            fn answers(answers: Answers) -> Option<Vec<Result<Done<$output>, Failed>>> {
                match answers {
                    Answers::$name(answers) => Some(answers),
                    #[allow(unreachable_patterns, reason = "as long as there is more than one operation")]
                    _ => None,
                }
            }
        })+

        impl Cluster {
            /// Does each item in some HSM that holds its key; repeated elsewhere where one fails, until the deadline.
            pub async fn carry_out(&self, batch: Batch, options: CallOptions) -> Answers {
                match batch {
                    $(Batch::$name(items) => {
                        let task = |Keyed { key, source, item }| Task { source, ..Task::anywhere(Some(key), item) };
                        let tasks = items.into_iter().map(task);
                        Answers::$name(self.dispatcher.$way$(::<$of>)?(tasks.collect(), options).await)
                    })+
                }
            }
        }
    };
}

impl Cluster {
    /// The HSM that served an item of this cluster, and its zone.
    #[must_use]
    pub fn served_by(&self, served: Served) -> Option<(&HsmId, &Zone)> {
        let settings = self.hsms.get(usize::from(served.member))?.settings();
        Some((&settings.hsm, &settings.zone))
    }
}

// An operation, its item, what comes of one, and by which of the dispatcher's ways: `wrap` makes a ciphertext and sees
// that it opens, `unwrap` opens one, `take_out` opens one that nobody will look at again.
item_operations! {
    /// Encrypts bytes.
    Encrypt: EncryptItem => Sealed, by wrap::<Encrypt>;
    /// Opens a ciphertext.
    Decrypt: DecryptItem => Secret, by unwrap;
    /// Makes a data key, and encrypts it.
    GenerateDataKey: DataKeyItem => DataKey, by wrap::<GenerateDataKey>;
    /// Opens a ciphertext and encrypts what it holds, in one member; nothing but ciphertexts comes back.
    ReEncrypt: ReEncryptItem => Sealed, by wrap::<ReEncrypt>;
    /// Opens a ciphertext whose plaintext another cluster is to encrypt: looked at like what is made.
    TakeOut: DecryptItem => Secret, by take_out;
    /// Encrypts what another cluster has opened.
    BringIn: EncryptItem => Sealed, by wrap::<BringIn>;
}
