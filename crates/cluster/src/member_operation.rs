//! What encrypting, decrypting, making data keys and random bytes differ in; [`super::dispatch`] is the same for all.

use std::sync::Arc;

use bytes::Bytes;

use super::KeyRef;
use model::secret::Secret;
use protocol::{Class, DataKey, DataKeyItem, DecryptItem, EncryptItem, Fault, Op, Reply, Sealed};

pub(super) trait MemberOperation {
    /// One item as it travels.
    type Item: Clone + Send + Sync;
    /// What comes of it.
    type Output: Send;
    /// It opens ciphertexts, which may be bad ones.
    const DECRYPTS: bool;

    /// The request for some items.
    fn op(items: Vec<Self::Item>) -> Op;

    /// The items of a request that [`MemberOperation::op`] made.
    fn items(op: &Op) -> &[Self::Item];

    /// The answers of a reply to [`MemberOperation::op`], item by item; an error is the whole request's.
    fn outputs(reply: Reply) -> Result<Vec<Result<Self::Output, Fault>>, Fault>;
}

/// One item with its key, before it is sent.
#[derive(Clone)]
pub(super) struct Task<I> {
    /// The key; none for random bytes.
    pub key: Option<Arc<KeyRef>>,
    /// The item.
    pub item: I,
    /// Members that may be asked, of those that hold the key.
    pub within: u64,
}

impl<I> Task<I> {
    /// Whoever can may do it.
    pub(super) fn anywhere(key: Option<Arc<KeyRef>>, item: I) -> Self {
        Self { key, item, within: u64::MAX }
    }
}

/// An operation whose output is a ciphertext of bytes that are known.
pub(super) trait Wraps: MemberOperation {
    /// The bytes are a data key of the token's own making.
    const MAKES_DATA_KEYS: bool;

    /// The additional authenticated data of an item.
    fn aad(item: &Self::Item) -> &Bytes;

    /// The ciphertext, and what it has to open to.
    fn known<'a>(item: &'a Self::Item, output: &'a Self::Output) -> (&'a Sealed, &'a Secret);
}

/// Encrypts bytes.
#[derive(Debug)]
pub struct Encrypt;
/// Opens a ciphertext.
#[derive(Debug)]
pub struct Decrypt;
/// Makes a data key, and encrypts it.
#[derive(Debug)]
pub struct GenerateDataKey;
/// Makes random bytes.
pub(super) struct Random;

impl MemberOperation for Encrypt {
    type Item = EncryptItem;
    type Output = Sealed;
    const DECRYPTS: bool = false;

    fn op(items: Vec<EncryptItem>) -> Op {
        Op::Encrypt(items)
    }

    fn items(op: &Op) -> &[EncryptItem] {
        match op {
            Op::Encrypt(items) => items,
            _ => &[],
        }
    }

    fn outputs(reply: Reply) -> Result<Vec<Result<Sealed, Fault>>, Fault> {
        match reply {
            Reply::Encrypted(outputs) => Ok(outputs),
            other => Err(fault_of(other)),
        }
    }
}

impl Wraps for Encrypt {
    const MAKES_DATA_KEYS: bool = false;

    fn aad(item: &EncryptItem) -> &Bytes {
        &item.aad
    }

    fn known<'a>(item: &'a EncryptItem, output: &'a Sealed) -> (&'a Sealed, &'a Secret) {
        (output, &item.plaintext)
    }
}

impl Wraps for GenerateDataKey {
    const MAKES_DATA_KEYS: bool = true;

    fn aad(item: &DataKeyItem) -> &Bytes {
        &item.aad
    }

    fn known<'a>(_: &'a DataKeyItem, output: &'a DataKey) -> (&'a Sealed, &'a Secret) {
        (&output.sealed, &output.plaintext)
    }
}

impl MemberOperation for Decrypt {
    type Item = DecryptItem;
    type Output = Secret;
    const DECRYPTS: bool = true;

    fn op(items: Vec<DecryptItem>) -> Op {
        Op::Decrypt(items)
    }

    fn items(op: &Op) -> &[DecryptItem] {
        match op {
            Op::Decrypt(items) => items,
            _ => &[],
        }
    }

    fn outputs(reply: Reply) -> Result<Vec<Result<Secret, Fault>>, Fault> {
        match reply {
            Reply::Decrypted(outputs) => Ok(outputs),
            other => Err(fault_of(other)),
        }
    }
}

impl MemberOperation for GenerateDataKey {
    type Item = DataKeyItem;
    type Output = DataKey;
    const DECRYPTS: bool = false;

    fn op(items: Vec<DataKeyItem>) -> Op {
        Op::GenerateDataKey(items)
    }

    fn items(op: &Op) -> &[DataKeyItem] {
        match op {
            Op::GenerateDataKey(items) => items,
            _ => &[],
        }
    }

    fn outputs(reply: Reply) -> Result<Vec<Result<DataKey, Fault>>, Fault> {
        match reply {
            Reply::DataKeys(outputs) => Ok(outputs),
            other => Err(fault_of(other)),
        }
    }
}

impl MemberOperation for Random {
    type Item = u16;
    type Output = Secret;
    const DECRYPTS: bool = false;

    fn op(items: Vec<u16>) -> Op {
        Op::Random { length: items.first().copied().unwrap_or_default() }
    }

    fn items(op: &Op) -> &[u16] {
        match op {
            Op::Random { length } => std::slice::from_ref(length),
            _ => &[],
        }
    }

    fn outputs(reply: Reply) -> Result<Vec<Result<Secret, Fault>>, Fault> {
        match reply {
            Reply::Random(bytes) => Ok(vec![Ok(bytes)]),
            other => Err(fault_of(other)),
        }
    }
}

/// The fault that a reply carries which is not the one that was asked for.
pub(super) fn fault_of(reply: Reply) -> Fault {
    match reply {
        Reply::Failed(fault) => fault,
        _ => Fault::own(Class::Token, "reply", "the worker answered something else than it was asked"),
    }
}
