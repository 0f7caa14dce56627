//! All that was given out, and that each zone opens it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use proto::v1::{
    BatchDecryptRequest, BatchEncryptRequest, DecryptRequest, EncryptRequest, GenerateDataKeyRequest, ReEncryptRequest,
    decrypt_result, encrypt_result,
};
use tokio::task::JoinSet;

use crate::harness::{Caller, Failure, bytes, context};

/// What a caller waits while an HSM fails: enough for that to be noticed, and the call to be repeated by another one, also where
/// other tests want the processors.
const DEADLINE: Duration = Duration::from_secs(20);
/// Items of a batch.
const ITEMS: usize = 64;
/// Where a ciphertext has its IV.
const IV: std::ops::Range<usize> = 21..33;

/// A ciphertext, and what it must open to.
#[derive(Clone)]
pub(super) struct Given {
    sealed: Vec<u8>,
    plaintext: Vec<u8>,
    context: BTreeMap<String, String>,
}

/// All of a run.
#[derive(Clone, Default)]
pub(super) struct Ledger(Arc<Mutex<Vec<Given>>>);

impl Ledger {
    pub(super) fn all(&self) -> Vec<Given> {
        self.0.lock().unwrap().clone()
    }

    fn last(&self) -> Given {
        self.0.lock().unwrap().last().unwrap().clone()
    }

    fn add(&self, sealed: Vec<u8>, plaintext: Vec<u8>, context: &BTreeMap<String, String>) {
        self.0.lock().unwrap().push(Given { sealed, plaintext, context: context.clone() });
    }

    /// Each way to have something encrypted under a key, from the shortest plaintext to the longest.
    pub(super) async fn encrypt_in_every_way(&self, caller: &Caller, key: &str, other: &str) {
        for (round, length) in (0_u8..).zip([1, 15, 16, 17, 32, 1_000, 4_096]) {
            self.encrypt(caller, key, bytes(length, round)).await.unwrap();
            self.data_key(caller, key).await.unwrap();
        }
        // The longest context that fits, whose header HSMs get as additional data.
        let longest = context(&[("tenant", &"x".repeat(8_000))]);
        let sealed = caller.encrypt(key, b"known to one tenant", &longest).await.unwrap();
        self.add(sealed, b"known to one tenant".to_vec(), &longest);
        self.batch(caller, key).await;
        let last = self.last();
        let request = ReEncryptRequest {
            ciphertext_blob: last.sealed.into(),
            source_encryption_context: last.context,
            destination_key_id: other.to_owned(),
            ..Default::default()
        };
        let anew = caller.crypto.clone().re_encrypt(caller.request(request)).await.unwrap().into_inner();
        self.add(anew.ciphertext_blob.to_vec(), last.plaintext, &context(&[]));
    }

    async fn encrypt(&self, caller: &Caller, key: &str, plaintext: Vec<u8>) -> Result<(), Failure> {
        let context = context(&[("length", &plaintext.len().to_string())]);
        let sealed = caller.encrypt(key, &plaintext, &context).await?;
        self.add(sealed, plaintext, &context);
        Ok(())
    }

    async fn data_key(&self, caller: &Caller, key: &str) -> Result<(), Failure> {
        let request =
            GenerateDataKeyRequest { key_id: key.to_owned(), number_of_bytes: Some(32), ..Default::default() };
        let made = caller.generate_data_key(request).await?;
        self.add(made.ciphertext_blob.to_vec(), made.plaintext.to_vec(), &context(&[]));
        Ok(())
    }

    async fn batch(&self, caller: &Caller, key: &str) {
        let item = |number: usize| EncryptRequest {
            key_id: key.to_owned(),
            plaintext: bytes(number + 1, 7),
            encryption_context: context(&[("item", &number.to_string())]),
            ..Default::default()
        };
        let items: Vec<EncryptRequest> = (0..ITEMS).map(item).collect();
        let request = caller.request(BatchEncryptRequest { items: items.clone() });
        let results = caller.crypto.clone().batch_encrypt(request).await.unwrap().into_inner().results;
        assert_eq!(results.len(), items.len());
        for (item, result) in items.into_iter().zip(results) {
            match result.result.unwrap() {
                encrypt_result::Result::Response(made) => {
                    self.add(made.ciphertext_blob.to_vec(), item.plaintext, &item.encryption_context);
                }
                encrypt_result::Result::Error(error) => panic!("{error:?}"),
            }
        }
    }

    /// No key has met one IV twice.
    pub(super) fn has_no_iv_twice(&self) {
        let all = self.all();
        let ivs: BTreeSet<&[u8]> = all.iter().map(|given| &given.sealed[IV]).collect();
        assert_eq!(ivs.len(), all.len());
    }
}

/// Opens all of it.
pub(super) async fn open(caller: &Caller, given: &[Given], with: &str) {
    for some in given.chunks(ITEMS) {
        let item = |given: &Given| DecryptRequest {
            ciphertext_blob: given.sealed.clone().into(),
            encryption_context: given.context.clone(),
            ..Default::default()
        };
        let request = caller.request(BatchDecryptRequest { items: some.iter().map(item).collect() });
        let results = caller.crypto.clone().batch_decrypt(request).await.unwrap().into_inner().results;
        assert_eq!(results.len(), some.len());
        for (given, result) in some.iter().zip(results) {
            match result.result.unwrap() {
                decrypt_result::Result::Response(opened) => assert!(opened.plaintext == given.plaintext, "{with}"),
                decrypt_result::Result::Error(error) => panic!("{with}: what was given out does not open: {error:?}"),
            }
        }
    }
}

/// What is no ciphertext of a key, though it was one before somebody changed it, is told from a key that is broken.
pub(super) async fn altered_ones_are_the_callers_fault(caller: &Caller, given: &Given) {
    for at in [0, given.sealed.len() - 1 - given.plaintext.len(), given.sealed.len() - 1, IV.start] {
        let mut altered = given.sealed.clone();
        altered[at] ^= 1;
        let refused = caller.decrypt(&altered, &given.context).await.unwrap_err();
        assert_eq!(refused.reason, "InvalidCiphertextException", "byte {at}: {refused:?}");
    }
}

/// Callers who go on while HSMs fail, and keep all that they are given.
pub(super) struct Going {
    tasks: JoinSet<Vec<Failure>>,
    stop: Arc<AtomicBool>,
}

impl Going {
    pub(super) fn start(caller: &Caller, key: &str, ledger: &Ledger) -> Self {
        let (stop, mut tasks) = (Arc::new(AtomicBool::new(false)), JoinSet::new());
        for number in 0..2_u8 {
            let (caller, key, ledger) = (caller.with_deadline(DEADLINE), key.to_owned(), ledger.clone());
            let stop = Arc::clone(&stop);
            tasks.spawn(async move {
                let mut failures = Vec::new();
                while !stop.load(Ordering::Relaxed) {
                    failures.extend(ledger.encrypt(&caller, &key, bytes(200, number)).await.err());
                    failures.extend(ledger.data_key(&caller, &key).await.err());
                    let some = ledger.last();
                    match caller.decrypt(&some.sealed, &some.context).await {
                        Ok(opened) => assert!(opened == some.plaintext),
                        Err(failure) => failures.push(failure),
                    }
                }
                failures
            });
        }
        Self { tasks, stop }
    }

    /// Ends them; what failed.
    pub(super) async fn stop(mut self) -> Vec<Failure> {
        self.stop.store(true, Ordering::Relaxed);
        let mut failures = Vec::new();
        while let Some(ended) = self.tasks.join_next().await {
            failures.extend(ended.unwrap());
        }
        failures
    }
}
