//! Callers who know what each answer must be.

use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proto::v1::{
    BatchDecryptRequest, BatchEncryptRequest, BatchGenerateDataKeyRequest, BatchReEncryptRequest, DecryptRequest,
    EncryptRequest, GenerateDataKeyRequest, GenerateDataKeyResponse, GenerateRandomRequest, ReEncryptRequest,
    ReEncryptResponse, decrypt_result, encrypt_result, generate_data_key_result, re_encrypt_result,
};
use tokio::task::JoinSet;

use super::checks::patience;
use super::journal::Journal;
use super::rng::Rng;
use super::streams::Open;
use crate::harness::{Caller, Failure, bytes, context};

/// What a caller waits: enough for a hang to be noticed and the call to be repeated in another zone.
pub(super) const DEADLINE: Duration = Duration::from_secs(2);
/// Ciphertexts that a caller keeps from the beginning, and of the latest.
const KEPT: (usize, usize) = (20, 100);

/// A ciphertext whose plaintext is known.
#[derive(Clone, Debug)]
pub(super) struct Known {
    pub(super) ciphertext: Vec<u8>,
    pub(super) plaintext: Vec<u8>,
    pub(super) context: BTreeMap<String, String>,
    /// Encrypted while a zone lied about it and nobody had found that out: perhaps it does not open.
    doubtful: bool,
}

/// The keys that callers use, in the order in which they were made.
pub(super) type Keys = Arc<Mutex<Vec<String>>>;

pub(super) struct Callers {
    tasks: JoinSet<Vec<Known>>,
    stop: Arc<AtomicBool>,
}

impl Callers {
    /// Two on each connection.
    pub(super) fn start(connections: &[Caller], keys: &Keys, journal: &Arc<Journal>, seed: u64) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = JoinSet::new();
        for (number, connection) in connections.iter().chain(connections).enumerate() {
            let number = u64::try_from(number).unwrap();
            let caller = One {
                caller: connection.with_deadline(patience(DEADLINE)),
                keys: Arc::clone(keys),
                journal: Arc::clone(journal),
                rng: Rng::new(seed ^ (number << 32)),
                context: context(&[("caller", &number.to_string())]),
                first: Vec::new(),
                latest: VecDeque::new(),
                stream: None,
            };
            tasks.spawn(caller.run(Arc::clone(&stop)));
        }
        Self { tasks, stop }
    }

    /// Ends them after the calls in hand. What they know, the oldest and the latest.
    pub(super) async fn stop(mut self) -> Vec<Known> {
        self.stop.store(true, Ordering::Relaxed);
        let mut known = Vec::new();
        while let Some(ended) = self.tasks.join_next().await {
            known.extend(ended.unwrap());
        }
        known
    }
}

pub(super) struct One {
    pub(super) caller: Caller,
    keys: Keys,
    pub(super) journal: Arc<Journal>,
    pub(super) rng: Rng,
    pub(super) context: BTreeMap<String, String>,
    first: Vec<Known>,
    latest: VecDeque<Known>,
    pub(super) stream: Option<Open>,
}

impl One {
    async fn run(mut self, stop: Arc<AtomicBool>) -> Vec<Known> {
        while !stop.load(Ordering::Relaxed) {
            match self.rng.below(20) {
                0..4 => self.encrypt().await,
                4..8 => self.decrypt().await,
                8..11 => self.generate_data_key().await,
                11 => self.batch_encrypt().await,
                12 => self.batch_decrypt().await,
                13 => self.batch_generate_data_key().await,
                14 => self.decrypt_what_was_never_encrypted().await,
                15 => self.generate_random().await,
                16 => self.re_encrypt().await,
                17 => self.batch_re_encrypt().await,
                _ => self.burst().await,
            }
        }
        self.hang_up().await;
        self.first.into_iter().chain(self.latest).collect()
    }

    pub(super) fn key(&mut self) -> String {
        let keys = self.keys.lock().unwrap();
        keys[self.rng.below(keys.len())].clone()
    }

    pub(super) fn plaintext(&mut self) -> Vec<u8> {
        let (length, seed) = (self.rng.between(1, 200), self.rng.below(256));
        bytes(usize::try_from(length).unwrap(), u8::try_from(seed).unwrap())
    }

    pub(super) fn known(&mut self) -> Option<Known> {
        let (first, latest) = (self.first.len(), self.latest.len());
        let all = first + latest;
        if all == 0 {
            return None;
        }
        let at = self.rng.below(all);
        self.first.get(at).or_else(|| self.latest.get(at - first)).cloned()
    }

    /// What was answered to an encryption.
    pub(super) fn keep(&mut self, ciphertext: Vec<u8>, plaintext: Vec<u8>, doubtful: bool) {
        self.journal.right();
        let known = Known { ciphertext, plaintext, context: self.context.clone(), doubtful };
        if self.first.len() < KEPT.0 {
            self.first.push(known);
            return;
        }
        self.latest.push_back(known);
        if self.latest.len() > KEPT.1 {
            self.latest.pop_front();
        }
    }

    fn forget(&mut self, known: &Known) {
        self.first.retain(|other| other.ciphertext != known.ciphertext);
        self.latest.retain(|other| other.ciphertext != known.ciphertext);
    }

    async fn encrypt(&mut self) {
        let (key, plaintext, began) = (self.key(), self.plaintext(), self.journal.clock.now());
        match self.caller.encrypt(&key, &plaintext, &self.context).await {
            Ok(ciphertext) => {
                let doubtful = self.journal.is_lied_to("C_Encrypt", began);
                self.keep(ciphertext, plaintext, doubtful);
            }
            Err(failure) => self.journal.failed("Encrypt", began, &failure),
        }
    }

    async fn decrypt(&mut self) {
        let Some(known) = self.known() else { return };
        let began = self.journal.clock.now();
        let opened = self.caller.decrypt(&known.ciphertext, &known.context).await;
        self.compare("Decrypt", &known, began, opened);
    }

    pub(super) fn compare(&mut self, what: &str, known: &Known, began: Instant, opened: Result<Vec<u8>, Failure>) {
        match opened {
            Ok(opened) if opened == known.plaintext => self.journal.right(),
            Ok(_) => self.journal.lied(what, "C_Decrypt", began),
            Err(failure) if known.doubtful && failure.reason == "InvalidCiphertextException" => {
                self.journal.lies.fetch_add(1, Ordering::Relaxed);
                self.journal.right();
                self.forget(known);
            }
            Err(failure) => self.journal.failed(what, began, &failure),
        }
    }

    async fn re_encrypt(&mut self) {
        let Some(known) = self.known() else { return };
        let (request, began) = (self.re_encrypt_request(&known), self.journal.clock.now());
        let made = self.caller.crypto.clone().re_encrypt(self.caller.request(request)).await;
        self.re_encrypted("ReEncrypt", known, began, made.map(tonic::Response::into_inner).map_err(Failure::from));
    }

    pub(super) fn re_encrypt_request(&mut self, known: &Known) -> ReEncryptRequest {
        ReEncryptRequest {
            ciphertext_blob: known.ciphertext.clone().into(),
            source_encryption_context: known.context.clone(),
            destination_key_id: self.key(),
            destination_encryption_context: self.context.clone(),
            ..Default::default()
        }
    }

    /// What comes of it is never doubtful: it was compared with what it was made of.
    pub(super) fn re_encrypted(
        &mut self,
        what: &str,
        known: Known,
        began: Instant,
        made: Result<ReEncryptResponse, Failure>,
    ) {
        match made {
            Ok(made) => self.keep(made.ciphertext_blob.to_vec(), known.plaintext, false),
            Err(failure) if known.doubtful && failure.reason == "InvalidCiphertextException" => {
                self.journal.lies.fetch_add(1, Ordering::Relaxed);
                self.journal.right();
                self.forget(&known);
            }
            Err(failure) => self.journal.failed(what, began, &failure),
        }
    }

    async fn batch_re_encrypt(&mut self) {
        let count = self.rng.below(8) + 1;
        let known: Vec<Known> = (0..count).filter_map(|_| self.known()).collect();
        if known.is_empty() {
            return;
        }
        let items = known.iter().map(|known| self.re_encrypt_request(known)).collect();
        let began = self.journal.clock.now();
        let request = self.caller.request(BatchReEncryptRequest { items });
        let results = match self.caller.crypto.clone().batch_re_encrypt(request).await {
            Ok(response) => response.into_inner().results,
            Err(status) => return self.journal.failed("BatchReEncrypt", began, &status.into()),
        };
        self.count("BatchReEncrypt", known.len(), results.len());
        for (known, result) in known.into_iter().zip(results) {
            let made = match result.result {
                Some(re_encrypt_result::Result::Response(made)) => Ok(made),
                Some(re_encrypt_result::Result::Error(error)) => Err(error.into()),
                None => {
                    self.journal.wrong("an item of BatchReEncrypt has no result".to_owned());
                    continue;
                }
            };
            self.re_encrypted("an item of BatchReEncrypt", known, began, made);
        }
    }

    async fn generate_data_key(&mut self) {
        let (request, began) = (self.data_key_request(), self.journal.clock.now());
        match self.caller.generate_data_key(request.clone()).await {
            Ok(made) => self.keep_data_key(&request, made),
            Err(failure) => self.journal.failed("GenerateDataKey", began, &failure),
        }
    }

    fn data_key_request(&mut self) -> GenerateDataKeyRequest {
        GenerateDataKeyRequest {
            key_id: self.key(),
            number_of_bytes: Some(32),
            encryption_context: self.context.clone(),
            ..Default::default()
        }
    }

    /// Whether it opens is found out later.
    fn keep_data_key(&mut self, request: &GenerateDataKeyRequest, made: GenerateDataKeyResponse) {
        let plaintext = made.plaintext.to_vec();
        if Some(plaintext.len()) != request.number_of_bytes.map(|length| length as usize) {
            self.journal.wrong(format!("a data key has {} bytes", plaintext.len()));
        }
        self.keep(made.ciphertext_blob.to_vec(), plaintext, false);
    }

    async fn batch_encrypt(&mut self) {
        let count = self.rng.below(8) + 1;
        let items: Vec<EncryptRequest> = (0..count)
            .map(|_| EncryptRequest {
                key_id: self.key(),
                plaintext: self.plaintext(),
                encryption_context: self.context.clone(),
                ..Default::default()
            })
            .collect();
        let began = self.journal.clock.now();
        let request = self.caller.request(BatchEncryptRequest { items: items.clone() });
        let results = match self.caller.crypto.clone().batch_encrypt(request).await {
            Ok(response) => response.into_inner().results,
            Err(status) => return self.journal.failed("BatchEncrypt", began, &status.into()),
        };
        self.count("BatchEncrypt", items.len(), results.len());
        let doubtful = self.journal.is_lied_to("C_Encrypt", began);
        for (item, result) in items.into_iter().zip(results) {
            match result.result {
                Some(encrypt_result::Result::Response(made)) => {
                    self.keep(made.ciphertext_blob.to_vec(), item.plaintext, doubtful);
                }
                Some(encrypt_result::Result::Error(error)) => {
                    self.journal.failed("an item of BatchEncrypt", began, &error.into());
                }
                None => self.journal.wrong("an item of BatchEncrypt has no result".to_owned()),
            }
        }
    }

    async fn batch_decrypt(&mut self) {
        let count = self.rng.below(16) + 1;
        let known: Vec<Known> = (0..count).filter_map(|_| self.known()).collect();
        if known.is_empty() {
            return;
        }
        let item = |known: &Known| DecryptRequest {
            ciphertext_blob: known.ciphertext.clone().into(),
            encryption_context: known.context.clone(),
            ..Default::default()
        };
        let began = self.journal.clock.now();
        let request = self.caller.request(BatchDecryptRequest { items: known.iter().map(item).collect() });
        let results = match self.caller.crypto.clone().batch_decrypt(request).await {
            Ok(response) => response.into_inner().results,
            Err(status) => return self.journal.failed("BatchDecrypt", began, &status.into()),
        };
        self.count("BatchDecrypt", known.len(), results.len());
        for (known, result) in known.iter().zip(results) {
            let opened = match result.result {
                Some(decrypt_result::Result::Response(opened)) => Ok(opened.plaintext.to_vec()),
                Some(decrypt_result::Result::Error(error)) => Err(error.into()),
                None => {
                    self.journal.wrong("an item of BatchDecrypt has no result".to_owned());
                    continue;
                }
            };
            self.compare("an item of BatchDecrypt", known, began, opened);
        }
    }

    async fn batch_generate_data_key(&mut self) {
        let items: Vec<GenerateDataKeyRequest> = (0..4).map(|_| self.data_key_request()).collect();
        let began = self.journal.clock.now();
        let request = self.caller.request(BatchGenerateDataKeyRequest { items: items.clone() });
        let results = match self.caller.crypto.clone().batch_generate_data_key(request).await {
            Ok(response) => response.into_inner().results,
            Err(status) => return self.journal.failed("BatchGenerateDataKey", began, &status.into()),
        };
        self.count("BatchGenerateDataKey", items.len(), results.len());
        for (item, result) in items.iter().zip(results) {
            match result.result {
                Some(generate_data_key_result::Result::Response(made)) => self.keep_data_key(item, made),
                Some(generate_data_key_result::Result::Error(error)) => {
                    self.journal.failed("an item of BatchGenerateDataKey", began, &error.into());
                }
                None => self.journal.wrong("an item of BatchGenerateDataKey has no result".to_owned()),
            }
        }
    }

    fn count(&self, what: &str, asked: usize, answered: usize) {
        if asked != answered {
            self.journal.wrong(format!("{what} of {asked} items has {answered} results"));
        }
    }

    /// The right answer to a bad ciphertext is that it is bad, whatever happens to the zones.
    async fn decrypt_what_was_never_encrypted(&mut self) {
        let Some(mut known) = self.known() else { return };
        *known.ciphertext.last_mut().unwrap() ^= 1;
        let began = self.journal.clock.now();
        match self.caller.decrypt(&known.ciphertext, &known.context).await {
            Ok(_) => self.journal.wrong("Decrypt opened a ciphertext that was never made".to_owned()),
            Err(failure) => self.refused("Decrypt", began, &failure),
        }
    }

    /// What was answered to the decryption of a bad ciphertext.
    pub(super) fn refused(&self, what: &str, began: Instant, failure: &Failure) {
        match failure.reason == "InvalidCiphertextException" {
            true => self.journal.right(),
            false => self.journal.failed(&format!("{what}, of a bad ciphertext,"), began, failure),
        }
    }

    async fn generate_random(&mut self) {
        let request = GenerateRandomRequest { number_of_bytes: Some(24), ..Default::default() };
        let began = self.journal.clock.now();
        match self.caller.crypto.clone().generate_random(self.caller.request(request)).await {
            Ok(response) if response.get_ref().plaintext.len() == 24 => self.journal.right(),
            Ok(response) => self.journal.wrong(format!("{} random bytes", response.get_ref().plaintext.len())),
            Err(status) => self.journal.failed("GenerateRandom", began, &status.into()),
        }
    }
}

/// Opens everything that is known, now that every zone is sound.
pub(super) async fn open_all(caller: &Caller, known: &[Known]) {
    for known in known {
        match caller.decrypt(&known.ciphertext, &known.context).await {
            Ok(opened) => assert!(opened == known.plaintext, "a ciphertext of the run opens to other bytes at its end"),
            Err(failure) if known.doubtful && failure.reason == "InvalidCiphertextException" => {}
            Err(failure) => panic!("a ciphertext of the run does not open at its end: {failure:?}"),
        }
    }
}
