//! Has ciphertexts encrypted anew, as far as that is needed.

use std::collections::BTreeMap;
use std::time::Duration;

use super::plan::{Counts, Plan, Step};
use crate::failure::Failure;
use client::Client;
use model::ciphertext::Ciphertext;
use model::id::KeyVersionId;
use proto::v1::ReEncryptRequest;

/// Most ciphertexts of one call.
const CALL_ITEMS: usize = 256;
/// Most bytes of one call, contexts included: a quarter of what a request may have.
const CALL_BYTES: usize = 1 << 20;
/// What an item takes beside its ciphertext and its contexts.
const ITEM_BYTES: usize = 512;
/// How often an item is asked for again that the service could not do at the moment, and the pause before the first time;
/// the next ones are twice as long each.
const TRIES: u32 = 6;
const PAUSE: Duration = Duration::from_millis(100);

pub(super) struct Anew<'a> {
    client: &'a Client,
    /// Of all of them; empty: the key that each names.
    key: String,
    context: BTreeMap<String, String>,
    plan: Plan,
    counts: Counts,
}

impl<'a> Anew<'a> {
    pub(super) fn new(client: &'a Client, key: String, context: BTreeMap<String, String>) -> Self {
        let plan = Plan::new(!key.is_empty());
        Self { client, key, context, plan, counts: Counts::default() }
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// Brings ciphertexts to where they are to be, each in its place. `name` says which one it is that cannot.
    pub(super) async fn done(
        &mut self,
        ciphertexts: &mut [Vec<u8>],
        name: impl Fn(usize) -> String,
    ) -> Result<(), Failure> {
        let version = |(at, bytes): (usize, &Vec<u8>)| {
            let parsed = Ciphertext::parse(bytes).map(|ciphertext| ciphertext.key_version);
            parsed.map_err(|_| no_ciphertext(&name(at)))
        };
        let versions = ciphertexts.iter().enumerate().map(version).collect::<Result<Vec<_>, _>>()?;
        let mut left: Vec<usize> = (0..ciphertexts.len()).collect();
        while !left.is_empty() {
            let steps = self.plan.steps(&left.iter().map(|at| versions[*at]).collect::<Vec<_>>());
            let (mut now, mut later) = (Vec::new(), Vec::new());
            for (at, step) in left.into_iter().zip(steps) {
                match step {
                    Step::Keep => self.counts.current += 1,
                    Step::Rewrap => now.push(at),
                    Step::Wait => later.push(at),
                }
            }
            for part in self.parts(ciphertexts, now) {
                let made = self.call(ciphertexts, &versions, &part, &name).await?;
                for (at, (made, under)) in part.into_iter().zip(made) {
                    self.plan.learn(under);
                    // It was asked for only because nothing was known.
                    if under == versions[at] {
                        self.counts.current += 1;
                    } else {
                        ciphertexts[at] = made;
                        self.counts.rewrapped += 1;
                    }
                }
            }
            left = later;
        }
        Ok(())
    }

    /// What goes into one call each.
    fn parts(&self, ciphertexts: &[Vec<u8>], items: Vec<usize>) -> Vec<Vec<usize>> {
        let context: usize = self.context.iter().map(|(name, value)| name.len() + value.len() + 16).sum();
        let (mut parts, mut bytes) = (Vec::<Vec<usize>>::new(), 0);
        for at in items {
            let weight = ciphertexts[at].len() + 2 * context + ITEM_BYTES;
            match parts.last_mut() {
                Some(part) if part.len() < CALL_ITEMS && bytes + weight <= CALL_BYTES => {
                    part.push(at);
                    bytes += weight;
                }
                _ => {
                    parts.push(vec![at]);
                    bytes = weight;
                }
            }
        }
        parts
    }

    /// Has items encrypted anew; those that the service cannot do at the moment again, for a while.
    async fn call(
        &self,
        ciphertexts: &[Vec<u8>],
        versions: &[KeyVersionId],
        items: &[usize],
        name: &impl Fn(usize) -> String,
    ) -> Result<Vec<(Vec<u8>, KeyVersionId)>, Failure> {
        let mut made: Vec<Option<(Vec<u8>, KeyVersionId)>> = items.iter().map(|_| None).collect();
        let mut pause = PAUSE;
        for attempt in 1..=TRIES {
            let open: Vec<usize> = (0..items.len()).filter(|place| made[*place].is_none()).collect();
            let requests = open.iter().map(|place| self.request(&ciphertexts[items[*place]], versions[items[*place]]));
            let results = match self.client.batch_re_encrypt(requests.collect()).await {
                Ok(results) => results,
                Err(error) if error.retryable && attempt < TRIES => Vec::new(),
                Err(error) => return Err(error.into()),
            };
            for (place, result) in open.into_iter().zip(results) {
                match result {
                    Ok(response) => {
                        let bytes = response.ciphertext_blob.to_vec();
                        let under = Ciphertext::parse(&bytes).map(|ciphertext| ciphertext.key_version);
                        let under = under.map_err(|_| {
                            Failure::local(
                                "the service's answer is no ciphertext; is this a keystored of another version?",
                            )
                        })?;
                        made[place] = Some((bytes, under));
                    }
                    Err(error) if error.retryable && attempt < TRIES => {}
                    Err(error) => {
                        let failure = Failure::from(error);
                        let which = name(items[place]);
                        let message = match failure.message.is_empty() {
                            true => format!("{which}; nothing was written"),
                            false => format!("{which}: {}; nothing was written", failure.message),
                        };
                        return Err(Failure { message, ..failure });
                    }
                }
            }
            if made.iter().all(Option::is_some) {
                break;
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        Ok(made.into_iter().flatten().collect())
    }

    fn request(&self, ciphertext: &[u8], version: KeyVersionId) -> ReEncryptRequest {
        let destination_key_id = if self.key.is_empty() { version.key.to_string() } else { self.key.clone() };
        ReEncryptRequest {
            ciphertext_blob: ciphertext.to_vec().into(),
            source_encryption_context: self.context.clone(),
            destination_key_id,
            destination_encryption_context: self.context.clone(),
            ..ReEncryptRequest::default()
        }
    }
}

pub(super) fn no_ciphertext(name: &str) -> Failure {
    Failure::local(format!("{name} is no ciphertext of this service; nothing was written"))
        .with_hint("the file holds one ciphertext on each line, in base64 as `encrypt` prints it, or one as it is")
}
