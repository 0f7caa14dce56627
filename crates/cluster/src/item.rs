//! Operations on items, as whoever uses a cluster asks for them: a batch of one operation in, an answer for each item
//! out. A further operation is a row of the table here, and what [`super::member_operation`] has to know of it.

use std::sync::Arc;

use super::member_operation::Task;
pub use super::member_operation::{BringIn, Decrypt, Encrypt, GenerateDataKey, ReEncrypt};
use super::{Cluster, Failed, KeyRef};
use model::call_options::CallOptions;
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

/// An operation on items.
pub trait ItemOperation {
    /// An item of it.
    type Item: Send + 'static;
    /// What comes of one.
    type Output: Send + 'static;

    /// A batch of these.
    fn batch(items: Vec<Keyed<Self::Item>>) -> Batch;

    /// The answers to a batch of these; `None` if they are another operation's.
    fn answers(answers: Answers) -> Option<Vec<Result<Self::Output, Failed>>>;
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
            $($(#[$doc])* $name(Vec<Result<$output, Failed>>),)+
        }

        $(impl ItemOperation for $name {
            type Item = $item;
            type Output = $output;

            fn batch(items: Vec<Keyed<$item>>) -> Batch {
                Batch::$name(items)
            }

            fn answers(answers: Answers) -> Option<Vec<Result<$output, Failed>>> {
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
