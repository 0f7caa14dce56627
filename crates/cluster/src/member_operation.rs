//! What encrypting, decrypting, making data keys and random bytes differ in; [`super::dispatch`] is the same for all.

use std::sync::Arc;

use bytes::Bytes;

use super::KeyRef;
use model::id::KeyVersionId;
use model::secret::Secret;
use protocol::{
    Class, CompareItem, DataKey, DataKeyItem, DecryptItem, EncryptItem, Fault, Op, ReEncryptItem, Reply, Sealed,
};

pub(super) trait MemberOperation {
    /// One item as it travels.
    type Item: Clone + Send + Sync;
    /// What comes of it.
    type Output: Send;
    /// It opens ciphertexts, which may be bad ones; so does whatever has a source, whatever this says.
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
    /// The key of what is opened, where that is not `key`: whoever is asked must hold both.
    pub source: Option<Arc<KeyRef>>,
    /// The item.
    pub item: I,
    /// Members that may be asked, of those that hold the key.
    pub within: u64,
}

impl<I> Task<I> {
    /// Whoever can may do it.
    pub(super) fn anywhere(key: Option<Arc<KeyRef>>, item: I) -> Self {
        Self { key, source: None, item, within: u64::MAX }
    }

    /// Its keys.
    pub(super) fn keys(&self) -> impl Iterator<Item = &Arc<KeyRef>> {
        self.key.iter().chain(&self.source)
    }
}

/// An operation whose output is a ciphertext, and whoever has the item can tell whether it is right.
pub(super) trait Wraps: MemberOperation {
    /// What is asked of whoever looks at the output.
    type Look: MemberOperation;
    /// It is looked at unless the setting says otherwise: its caller would lose something with a ciphertext that is wrong.
    const VERIFIED_BY_DEFAULT: bool;

    /// The question; `key` is the item's.
    fn question(key: KeyVersionId, item: &Self::Item, output: &Self::Output) -> <Self::Look as MemberOperation>::Item;

    /// Whether this is the answer that it must have.
    fn is_right(item: &Self::Item, output: &Self::Output, answer: &<Self::Look as MemberOperation>::Output) -> bool;
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
/// Opens a ciphertext and encrypts what it holds, without showing it.
#[derive(Debug)]
pub struct ReEncrypt;
/// Encrypts what another cluster has opened: the second half of encrypting anew where there are two clusters.
#[derive(Debug)]
pub struct BringIn;
/// Says whether two ciphertexts hold the same.
pub(super) struct Compare;
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
    type Look = Decrypt;
    const VERIFIED_BY_DEFAULT: bool = false;

    fn question(key: KeyVersionId, item: &EncryptItem, output: &Sealed) -> DecryptItem {
        made(key, &item.aad, output)
    }

    fn is_right(item: &EncryptItem, _: &Sealed, answer: &Secret) -> bool {
        answer.expose() == item.plaintext.expose()
    }
}

impl Wraps for GenerateDataKey {
    type Look = Decrypt;
    const VERIFIED_BY_DEFAULT: bool = true;

    fn question(key: KeyVersionId, item: &DataKeyItem, output: &DataKey) -> DecryptItem {
        made(key, &item.aad, &output.sealed)
    }

    fn is_right(_: &DataKeyItem, output: &DataKey, answer: &Secret) -> bool {
        answer.expose() == output.plaintext.expose()
    }
}

impl Wraps for BringIn {
    type Look = Decrypt;
    const VERIFIED_BY_DEFAULT: bool = true;

    fn question(key: KeyVersionId, item: &EncryptItem, output: &Sealed) -> DecryptItem {
        Encrypt::question(key, item, output)
    }

    fn is_right(item: &EncryptItem, output: &Sealed, answer: &Secret) -> bool {
        Encrypt::is_right(item, output, answer)
    }
}

impl Wraps for ReEncrypt {
    type Look = Compare;
    const VERIFIED_BY_DEFAULT: bool = true;

    fn question(key: KeyVersionId, item: &ReEncryptItem, output: &Sealed) -> CompareItem {
        CompareItem { source: item.source.clone(), made: made(key, &item.aad, output) }
    }

    fn is_right(_: &ReEncryptItem, _: &Sealed, same: &bool) -> bool {
        *same
    }
}

/// A ciphertext, to be opened.
fn made(key: KeyVersionId, aad: &Bytes, Sealed { iv, sealed }: &Sealed) -> DecryptItem {
    DecryptItem { key, aad: aad.clone(), iv: *iv, sealed: sealed.clone() }
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

impl MemberOperation for ReEncrypt {
    type Item = ReEncryptItem;
    type Output = Sealed;
    // What it opens is told from what it makes by the fault.
    const DECRYPTS: bool = false;

    fn op(items: Vec<ReEncryptItem>) -> Op {
        Op::ReEncrypt(items)
    }

    fn items(op: &Op) -> &[ReEncryptItem] {
        match op {
            Op::ReEncrypt(items) => items,
            _ => &[],
        }
    }

    fn outputs(reply: Reply) -> Result<Vec<Result<Sealed, Fault>>, Fault> {
        match reply {
            Reply::ReEncrypted(outputs) => Ok(outputs),
            other => Err(fault_of(other)),
        }
    }
}

impl MemberOperation for Compare {
    type Item = CompareItem;
    type Output = bool;
    const DECRYPTS: bool = true;

    fn op(items: Vec<CompareItem>) -> Op {
        Op::Compare(items)
    }

    fn items(op: &Op) -> &[CompareItem] {
        match op {
            Op::Compare(items) => items,
            _ => &[],
        }
    }

    fn outputs(reply: Reply) -> Result<Vec<Result<bool, Fault>>, Fault> {
        match reply {
            Reply::Compared(outputs) => Ok(outputs),
            other => Err(fault_of(other)),
        }
    }
}

impl MemberOperation for BringIn {
    type Item = EncryptItem;
    type Output = Sealed;
    const DECRYPTS: bool = false;

    fn op(items: Vec<EncryptItem>) -> Op {
        Encrypt::op(items)
    }

    fn items(op: &Op) -> &[EncryptItem] {
        Encrypt::items(op)
    }

    fn outputs(reply: Reply) -> Result<Vec<Result<Sealed, Fault>>, Fault> {
        Encrypt::outputs(reply)
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
