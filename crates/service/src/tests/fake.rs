//! A cluster that lives in memory and fails on demand. Its cipher keeps no secret; it tells keys, IVs and contexts
//! apart, which is all that the service can see of one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::{Semaphore, watch};

use crate::core::hsm_cluster::HsmCluster;
use cluster::item::{Answers, Batch, Done, Keyed};
use cluster::{AuditKey, Error, Failed, Kept, MemberStatus, PlacementMask, Proof};
use model::call_options::CallOptions;
use model::ciphertext::authenticated_data;
use model::context::EncryptionContext;
use model::id::{ClusterId, HsmId, KeyVersionId, Zone};
use model::secret::Secret;
use protocol::{Class, DataKey, DataKeyItem, DecryptItem, EncryptItem, Fault, ReEncryptItem, Sealed};

pub(super) struct Fake {
    pub(super) id: ClusterId,
    members: Vec<(HsmId, Zone)>,
    /// Key objects by member.
    pub(super) tokens: Mutex<Vec<HashMap<KeyVersionId, Bytes>>>,
    /// The next calls of a step in a member fail, as many as are counted here.
    pub(super) faults: Mutex<BTreeMap<(&'static str, usize), usize>>,
    /// Members that cannot be reached.
    pub(super) absent: Mutex<Vec<usize>>,
    /// Versions of keys that the last member takes, where that is known.
    pub(super) most_versions: Mutex<Option<u64>>,
    /// How long each member may take to have a new object everywhere.
    pub(super) settles: Mutex<Duration>,
    /// Versions of which each member has a second object.
    pub(super) doubles: Mutex<Vec<KeyVersionId>>,
    /// Versions that so many of the next lists do not show.
    pub(super) unlisted: Mutex<BTreeMap<KeyVersionId, usize>>,
    /// Lists that were made; each is given out with one permit.
    pub(super) lists: watch::Sender<usize>,
    pub(super) listing: Semaphore,
    /// Each destruction takes this permit while it is carried out.
    pub(super) destroying: Semaphore,
    /// The same of each placing.
    pub(super) placing: Semaphore,
    /// Data operations take one permit each; none are left while it is closed.
    pub(super) admission: Semaphore,
    /// Data operations that have begun.
    pub(super) begun: AtomicUsize,
    /// What was asked for, batch by batch.
    pub(super) asked: Mutex<Vec<(&'static str, usize)>>,
    made: AtomicUsize,
}

const MANY: usize = 1_000_000;

impl Fake {
    /// One member in each of these zones.
    pub(super) fn over(zones: &[&str]) -> Self {
        let member = |(index, zone): (usize, &&str)| (format!("hsm-{index}").as_str().into(), (*zone).into());
        Self {
            id: ClusterId::parse("cluster-abcdefghijk").unwrap(),
            members: zones.iter().enumerate().map(member).collect(),
            tokens: Mutex::new(vec![HashMap::new(); zones.len()]),
            faults: Mutex::default(),
            absent: Mutex::default(),
            most_versions: Mutex::default(),
            settles: Mutex::default(),
            doubles: Mutex::default(),
            unlisted: Mutex::default(),
            lists: watch::Sender::default(),
            listing: Semaphore::new(1),
            destroying: Semaphore::new(1),
            placing: Semaphore::new(1),
            admission: Semaphore::new(MANY),
            begun: AtomicUsize::new(0),
            asked: Mutex::default(),
            made: AtomicUsize::new(1),
        }
    }

    pub(super) fn close_gate(&self) {
        self.admission.forget_permits(MANY);
    }

    pub(super) fn open_gate(&self) {
        self.admission.add_permits(MANY);
    }

    pub(super) fn fail(&self, step: &'static str, member: usize, times: usize) {
        self.faults.lock().unwrap().insert((step, member), times);
    }

    pub(super) fn objects(&self) -> Vec<usize> {
        self.tokens.lock().unwrap().iter().map(HashMap::len).collect()
    }

    fn try_step(&self, step: &'static str, member: usize) -> Result<(), Error> {
        let mut faults = self.faults.lock().unwrap();
        match faults.get_mut(&(step, member)) {
            Some(left) if *left > 0 => {
                *left -= 1;
                Err(Error::NoZone(format!("{step} fails in {member}")))
            }
            _ => Ok(()),
        }
    }

    /// The material of a key, and the first member that has it.
    fn material(&self, version: KeyVersionId, placed: PlacementMask) -> Result<(usize, Bytes), Error> {
        let tokens = self.tokens.lock().unwrap();
        let mut members = (0..tokens.len()).filter(|member| placed.0 & 1 << member != 0);
        members.find_map(|member| Some((member, tokens[member].get(&version)?.clone()))).ok_or(Error::KeyGone)
    }

    fn in_member(&self, member: usize, version: KeyVersionId) -> Result<Bytes, Error> {
        self.tokens.lock().unwrap()[member].get(&version).cloned().ok_or(Error::KeyGone)
    }

    fn seal(&self, key: &[u8], aad: &[u8], plaintext: &[u8]) -> Sealed {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let mut iv = [0; 12];
        iv[4..].copy_from_slice(&number.to_be_bytes());
        let sealed = [plaintext, &tag(key, &iv, aad, plaintext)].concat();
        Sealed { iv, sealed: sealed.into() }
    }

    fn encrypt(&self, Keyed { key, item, .. }: Keyed<EncryptItem>) -> Result<Done<Sealed>, Failed> {
        self.try_step("send", 0).map_err(|error| Failed { error, sent: false })?;
        let (member, key) = self.material(key.version, key.placed)?;
        self.try_step("encrypt", 0)?;
        Ok(Done::by(member, self.seal(&key, &item.aad, item.plaintext.expose())))
    }

    fn decrypt(&self, Keyed { key, item, .. }: Keyed<DecryptItem>) -> Result<Done<Secret>, Failed> {
        let (member, key) = self.material(key.version, key.placed)?;
        let opened = open(&key, &item.iv, &item.aad, &item.sealed).map(Secret::new)?;
        Ok(Done::by(member, opened))
    }

    fn generate_data_key(&self, Keyed { key, item, .. }: Keyed<DataKeyItem>) -> Result<Done<DataKey>, Failed> {
        let (member, key) = self.material(key.version, key.placed)?;
        let plaintext = vec![0x5a; usize::from(item.length)];
        let sealed = self.seal(&key, &item.aad, &plaintext);
        Ok(Done::by(member, DataKey { plaintext: plaintext.into(), sealed }))
    }

    fn re_encrypt(&self, Keyed { key, source, item }: Keyed<ReEncryptItem>) -> Result<Done<Sealed>, Failed> {
        let source = source.expect("what is encrypted anew has a source");
        assert_eq!((source.version, key.version), (item.source.key, item.key));
        let opened = self.decrypt(Keyed { key: source, source: None, item: item.source })?;
        let item = EncryptItem { key: item.key, aad: item.aad, plaintext: opened.output };
        self.encrypt(Keyed { key, source: None, item })
    }

    /// What it was asked for, and how many items that were.
    fn note(&self, batch: &Batch) {
        let asked = match batch {
            Batch::Encrypt(items) => ("encrypt", items.len()),
            Batch::Decrypt(items) => ("decrypt", items.len()),
            Batch::GenerateDataKey(items) => ("data key", items.len()),
            Batch::ReEncrypt(items) => ("re-encrypt", items.len()),
            Batch::TakeOut(items) => ("take out", items.len()),
            Batch::BringIn(items) => ("bring in", items.len()),
        };
        self.asked.lock().unwrap().push(asked);
    }

    async fn pass_gate(&self) {
        self.begun.fetch_add(1, Ordering::SeqCst);
        self.admission.acquire().await.unwrap().forget();
        self.admission.add_permits(1);
    }
}

fn tag(key: &[u8], iv: &[u8], aad: &[u8], plaintext: &[u8]) -> [u8; 16] {
    let all = [key, iv, &aad.len().to_be_bytes(), aad, plaintext].concat();
    digest(&SHA256, &all).as_ref()[..16].try_into().unwrap()
}

fn open(key: &[u8], iv: &[u8], aad: &[u8], sealed: &[u8]) -> Result<Vec<u8>, Error> {
    let (plaintext, found) = sealed.split_at(sealed.len() - 16);
    if tag(key, iv, aad, plaintext) == found { Ok(plaintext.to_vec()) } else { Err(Error::BadCiphertext) }
}

fn proof_aad(version: KeyVersionId) -> Vec<u8> {
    authenticated_data(version, &EncryptionContext::default())
}

impl HsmCluster for Fake {
    fn members(&self) -> Vec<(HsmId, Zone)> {
        self.members.clone()
    }

    fn status(&self) -> Vec<MemberStatus> {
        Vec::new()
    }

    fn most_versions(&self) -> Vec<(HsmId, u64)> {
        let most = *self.most_versions.lock().unwrap();
        self.members.last().zip(most).map(|((hsm, _), most)| (hsm.clone(), most)).into_iter().collect()
    }

    fn settles(&self, _: usize) -> Duration {
        *self.settles.lock().unwrap()
    }

    fn replicates(&self, member: usize) -> bool {
        self.makes_in_place() || !self.settles(member).is_zero()
    }

    fn carry_out(&self, batch: Batch, _: CallOptions) -> BoxFuture<'_, Answers> {
        async move {
            self.note(&batch);
            self.pass_gate().await;
            match batch {
                Batch::Encrypt(items) => Answers::Encrypt(items.into_iter().map(|item| self.encrypt(item)).collect()),
                Batch::Decrypt(items) => Answers::Decrypt(items.into_iter().map(|item| self.decrypt(item)).collect()),
                Batch::GenerateDataKey(items) => {
                    Answers::GenerateDataKey(items.into_iter().map(|item| self.generate_data_key(item)).collect())
                }
                Batch::ReEncrypt(items) => {
                    Answers::ReEncrypt(items.into_iter().map(|item| self.re_encrypt(item)).collect())
                }
                Batch::TakeOut(items) => Answers::TakeOut(items.into_iter().map(|item| self.decrypt(item)).collect()),
                Batch::BringIn(items) => Answers::BringIn(items.into_iter().map(|item| self.encrypt(item)).collect()),
            }
        }
        .boxed()
    }

    fn random(&self, length: u16, _: CallOptions) -> BoxFuture<'_, Result<Done<Secret>, Error>> {
        async move {
            self.pass_gate().await;
            Ok(Done::by(0, Secret::new(vec![4; usize::from(length)])))
        }
        .boxed()
    }

    /// One that stands in several zones by itself.
    fn makes_in_place(&self) -> bool {
        matches!(&self.members[..], [(_, zone)] if zone.is_spread())
    }

    fn reachable_for_creation(&self) -> Result<Vec<usize>, Error> {
        let absent = self.absent.lock().unwrap();
        let reachable: Vec<usize> = (0..self.members.len()).filter(|member| !absent.contains(member)).collect();
        let zones = Zone::count(reachable.iter().map(|member| &self.members[*member].1));
        if zones < 2 { Err(Error::TooFewZones("the rest is absent".into())) } else { Ok(reachable) }
    }

    fn reachable(&self) -> Vec<usize> {
        let absent = self.absent.lock().unwrap();
        (0..self.members.len()).filter(|member| !absent.contains(member)).collect()
    }

    fn make_key(&self, _deadline: Instant) -> BoxFuture<'_, Result<Bytes, Error>> {
        async move {
            self.try_step("make", 0)?;
            Ok(Bytes::from(format!("key number {}", self.made.fetch_add(1, Ordering::Relaxed))))
        }
        .boxed()
    }

    fn place<'a>(
        &'a self,
        member: usize,
        version: KeyVersionId,
        label: &'a str,
        blob: &'a Bytes,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<(), Error>> {
        async move {
            assert!(label.ends_with(&version.key.to_string()), "the label is the key's ARN");
            let _permit = self.placing.acquire().await.unwrap();
            self.try_step("place", member)?;
            let spoiled = self.try_step("spoil", member).is_err();
            let material = if spoiled { Bytes::from_static(b"wrong") } else { blob.clone() };
            self.tokens.lock().unwrap()[member].entry(version).or_insert(material);
            Ok(())
        }
        .boxed()
    }

    fn make_in_place<'a>(
        &'a self,
        member: usize,
        version: KeyVersionId,
        label: &'a str,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<(), Error>> {
        async move {
            assert!(label.ends_with(&version.key.to_string()), "the label is the key's ARN");
            self.try_step("place", member)?;
            let material = Bytes::from(format!("made in place {}", self.made.fetch_add(1, Ordering::Relaxed)));
            self.tokens.lock().unwrap()[member].entry(version).or_insert(material);
            Ok(())
        }
        .boxed()
    }

    fn confirm_in_place(
        &self,
        member: usize,
        version: KeyVersionId,
        _deadline: Instant,
    ) -> BoxFuture<'_, Result<(), Error>> {
        async move {
            self.try_step("confirm", member)?;
            self.in_member(member, version).map(drop)
        }
        .boxed()
    }

    fn make_proof(
        &self,
        member: usize,
        version: KeyVersionId,
        _deadline: Instant,
    ) -> BoxFuture<'_, Result<Proof, Error>> {
        async move {
            self.try_step("proof", member)?;
            let Sealed { iv, sealed } = self.seal(&self.in_member(member, version)?, &proof_aad(version), b"proof");
            Ok(Proof { iv, sealed })
        }
        .boxed()
    }

    fn prove<'a>(
        &'a self,
        member: usize,
        version: KeyVersionId,
        proof: &'a Proof,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<(), Error>> {
        async move {
            self.try_step("prove", member)?;
            if self.try_step("find", member).is_err() {
                let fault = Fault::own(Class::KeyAbsent, "find key", "no session finds it");
                return Err(Error::Hsm { hsm: self.members[member].0.clone(), fault });
            }
            let key = self.in_member(member, version)?;
            open(&key, &proof.iv, &proof_aad(version), &proof.sealed).map(drop)
        }
        .boxed()
    }

    fn destroy(&self, member: usize, version: KeyVersionId, _deadline: Instant) -> BoxFuture<'_, Result<(), Error>> {
        async move {
            let _permit = self.destroying.acquire().await.unwrap();
            self.try_step("destroy", member)?;
            self.tokens.lock().unwrap()[member].remove(&version);
            Ok(())
        }
        .boxed()
    }

    fn keep_proven<'a>(
        &'a self,
        member: usize,
        version: KeyVersionId,
        _: &'a Proof,
        _deadline: Instant,
    ) -> BoxFuture<'a, Result<Kept, Error>> {
        async move {
            self.try_step("keep", member)?;
            if self.try_step("twins", member).is_err() {
                return Ok(Kept::OneMaterial(2));
            }
            self.doubles.lock().unwrap().retain(|double| *double != version);
            Ok(Kept::One)
        }
        .boxed()
    }

    fn list(&self, member: usize, _deadline: Instant) -> BoxFuture<'_, Result<Vec<KeyVersionId>, Error>> {
        async move {
            self.try_step("list", member)?;
            let mut listed: Vec<KeyVersionId> = self.tokens.lock().unwrap()[member].keys().copied().collect();
            listed.extend(self.doubles.lock().unwrap().iter());
            listed.retain(|version| match self.unlisted.lock().unwrap().get_mut(version) {
                Some(lists) if *lists > 0 => {
                    *lists -= 1;
                    false
                }
                _ => true,
            });
            self.lists.send_modify(|lists| *lists += 1);
            self.listing.acquire().await.unwrap().forget();
            self.listing.add_permits(1);
            Ok(listed)
        }
        .boxed()
    }

    fn audit_keys<'a>(&'a self, origin: &'a str, _deadline: Instant) -> BoxFuture<'a, Vec<AuditKey>> {
        let key = |(hsm, zone): &(HsmId, Zone)| AuditKey {
            hsm: hsm.clone(),
            zone: zone.clone(),
            key: audit::note::VerifierKey::ed25519(&format!("{origin}/{hsm}"), &[7; 32]).unwrap(),
            statement: String::new(),
            statement_signature: Vec::new(),
            identity_certificate: String::new(),
        };
        let keys = self.members.iter().map(key).collect();
        async move { keys }.boxed()
    }

    fn sign_checkpoint<'a>(&'a self, text: &'a [u8], _deadline: Instant) -> BoxFuture<'a, Vec<(HsmId, Vec<u8>)>> {
        let signed = self.members.iter().map(|(hsm, _)| (hsm.clone(), text.to_vec())).collect();
        async move { signed }.boxed()
    }
}
