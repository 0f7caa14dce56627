//! Members with log keys of their own, and members that have trouble with theirs.

use std::sync::atomic::{AtomicUsize, Ordering};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _};
use pki::identity::{ClusterAuthority, Kind, der_of};
use protocol::{Class, Fault, Ready};

use super::*;
use crate::fake::{Act, Bench, Fake};
use audit::note::{Checkpoint, Head};

const NO_HEDGE: Duration = Duration::from_secs(60);
const ORIGIN: &str = "kms.example/audit";

fn cluster() -> ClusterId {
    "cluster-abcdefghijk".into()
}

/// What a sound token has.
struct TokenKeys {
    hsm: HsmId,
    serial: String,
    identity: EcdsaKeyPair,
    ed25519: Ed25519KeyPair,
    p256: Option<EcdsaKeyPair>,
}

impl TokenKeys {
    /// Puts one behind a member, and shows its certificate.
    fn behind(member: &Fake, p256: bool) -> Arc<Self> {
        let make = || EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let hsm = member.settings().hsm.clone();
        let token = Arc::new(Self {
            serial: format!("serial-{hsm}"),
            hsm,
            identity: make(),
            ed25519: Ed25519KeyPair::generate().unwrap(),
            p256: p256.then(make),
        });
        let now = Clock::system().calendar();
        let authority = ClusterAuthority::generate(&cluster(), now).unwrap();
        let point = PublicKey::P256(token.identity.public_key().as_ref().to_vec());
        let certificate = authority.issue(Kind::Identity, &point, &token.hsm, &token.serial, now).unwrap();
        member.show(Ready {
            serial: token.serial.clone(),
            label: String::new(),
            module: String::new(),
            user: Default::default(),
            identity: Some(der_of(&certificate).unwrap().into()),
            abilities: Default::default(),
            degraded: Vec::new(),
        });
        let behind = Arc::clone(&token);
        member.script(move |op| behind.act(op));
        token
    }

    fn public(&self) -> LogPublicKey {
        match &self.p256 {
            None => {
                let public = Bytes::copy_from_slice(self.ed25519.public_key().as_ref());
                LogPublicKey { algorithm: LogKeyAlgorithm::Ed25519, public }
            }
            Some(key) => {
                let public = Bytes::copy_from_slice(key.public_key().as_ref());
                LogPublicKey { algorithm: LogKeyAlgorithm::EcdsaP256, public }
            }
        }
    }

    fn act(&self, op: &Op) -> Act {
        let ecdsa = |key: &EcdsaKeyPair, text: &[u8]| {
            let signature = key.sign(&SystemRandom::new(), text).unwrap();
            Act::Say(Reply::Signature(Bytes::copy_from_slice(signature.as_ref())))
        };
        match op {
            Op::LogKey | Op::ShowLogKey => Act::Say(Reply::LogKey(self.public())),
            Op::VouchForLogKey { cluster, vkey } => {
                let statement = model::identity::log_key_statement(cluster, &self.hsm, &self.serial, vkey);
                ecdsa(&self.identity, statement.as_bytes())
            }
            Op::SignCheckpoint { text } => match &self.p256 {
                None => {
                    let signature = self.ed25519.sign(text);
                    Act::Say(Reply::Signature(Bytes::copy_from_slice(signature.as_ref())))
                }
                Some(key) => ecdsa(key, text),
            },
            _ => Act::Well,
        }
    }
}

struct Keyed {
    bench: Bench,
    _tasks: JoinSet<()>,
}

impl Keyed {
    /// Over members that have their scripts.
    async fn over(bench: Bench, members: u64) -> Self {
        let mut tasks = JoinSet::new();
        keep(&bench.dispatcher, &Watchdog::new(bench.clock.clone()), &mut tasks);
        let known =
            || bench.dispatcher.members.iter().filter(|member| member.log_key.public().is_some()).count() as u64;
        bench.until("the keys are known", || known() == members).await;
        Self { bench, _tasks: tasks }
    }

    fn soon(&self) -> Instant {
        self.bench.within(20_000).deadline
    }

    async fn keys(&self) -> Vec<AuditKey> {
        self.bench.dispatcher.audit_keys(&cluster(), ORIGIN, self.soon()).await
    }

    async fn sign(&self, text: &[u8]) -> Vec<(HsmId, Vec<u8>)> {
        self.bench.dispatcher.sign_checkpoint(text, self.soon()).await
    }
}

fn head() -> Vec<u8> {
    Checkpoint::text_of(ORIGIN, &Head { size: 7, root: [7; 32] }).unwrap()
}

#[tokio::test]
async fn every_member_signs_and_is_vouched_for() {
    let bench = Bench::new(2, None, NO_HEDGE);
    TokenKeys::behind(&bench.members[0], false);
    TokenKeys::behind(&bench.members[1], true);
    let keyed = Keyed::over(bench, 2).await;
    let keys = keyed.keys().await;
    let named: Vec<_> = keys.iter().map(|key| key.key.name()).collect();
    assert_eq!(named, ["kms.example/audit/a", "kms.example/audit/b"]);
    for key in &keys {
        let certificate = der_of(&key.identity_certificate).unwrap();
        let Ok(PublicKey::P256(point)) = public_key_of(&certificate) else { panic!() };
        let verified = UnparsedPublicKey::new(&aws_lc_rs::signature::ECDSA_P256_SHA256_ASN1, point)
            .verify(key.statement.as_bytes(), &key.statement_signature);
        assert!(verified.is_ok(), "{}", key.statement);
        let hsm = &key.hsm;
        let said = format!("keystored audit log key v1\ncluster-abcdefghijk\n{hsm}\nserial-{hsm}\n{}\n", key.key);
        assert_eq!(key.statement, said);
    }
    let lines = keyed.sign(&head()).await;
    assert_eq!(lines.len(), 2);
    for ((hsm, signature), key) in lines.into_iter().zip(&keys) {
        assert_eq!(hsm, key.hsm);
        assert!(key.key.verify(&head(), &key.key.line(signature).unwrap()));
    }
    // Nothing has changed: nobody is asked.
    let calls = |keyed: &Keyed| keyed.bench.members.iter().map(Fake::calls).sum::<usize>();
    let before = calls(&keyed);
    assert_eq!(keyed.keys().await.len(), 2);
    assert_eq!(calls(&keyed), before);
}

#[tokio::test]
async fn a_member_without_a_key_serves_and_the_others_sign() {
    let bench = Bench::new(2, None, NO_HEDGE);
    TokenKeys::behind(&bench.members[0], false);
    let (asked, counted) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (asks, counts) = (Arc::clone(&asked), Arc::clone(&counted));
    bench.members[1].script(move |op| match op {
        Op::LogKey => {
            asks.fetch_add(1, Ordering::Relaxed);
            Act::Say(Reply::Failed(Fault::own(Class::Refused, "log key", "two of them")))
        }
        Op::SignCheckpoint { .. } | Op::VouchForLogKey { .. } => {
            counts.fetch_add(1, Ordering::Relaxed);
            Act::Well
        }
        _ => Act::Well,
    });
    let keyed = Keyed::over(bench, 1).await;
    keyed.bench.until("the other one was asked", || asked.load(Ordering::Relaxed) > 0).await;
    assert_eq!(keyed.keys().await.len(), 1);
    assert_eq!(keyed.sign(&head()).await.len(), 1);
    assert_eq!(counted.load(Ordering::Relaxed), 0, "it has nothing to sign with");
    assert_eq!(keyed.bench.healths(), [crate::Health::Healthy; 2]);
    assert_eq!(keyed.bench.encrypt(&[crate::fake::key(0b10)], 1_000).await.len(), 1);
}

#[tokio::test]
async fn one_that_hangs_or_lies_takes_nothing_from_the_others() {
    let bench = Bench::new(3, None, NO_HEDGE);
    let tokens: Vec<_> = bench.members.iter().map(|member| TokenKeys::behind(member, false)).collect();
    let keyed = Keyed::over(bench, 3).await;
    let hangs = Arc::clone(&tokens[0]);
    keyed.bench.members[0].script(move |op| match op {
        Op::SignCheckpoint { .. } => Act::Hang,
        other => hangs.act(other),
    });
    // It has another key than it has shown.
    let _other = TokenKeys::behind(&keyed.bench.members[1], false);
    let deadline = keyed.bench.within(1_000).deadline;
    let lines = keyed.bench.dispatcher.sign_checkpoint(&head(), deadline).await;
    assert_eq!(lines.iter().map(|(hsm, _)| hsm.as_str()).collect::<Vec<_>>(), ["c"]);
    assert!(keyed.bench.clock.now() < deadline + Duration::from_secs(30));
    // Who has signed with another key is asked for it again.
    let member = &keyed.bench.dispatcher.members[1];
    let shown = tokens[1].public();
    keyed.bench.until("its new key is known", || member.log_key.public().is_some_and(|key| key != shown)).await;
    let lines = keyed.bench.dispatcher.sign_checkpoint(&head(), keyed.bench.within(1_000).deadline).await;
    assert_eq!(lines.iter().map(|(hsm, _)| hsm.as_str()).collect::<Vec<_>>(), ["b", "c"]);
}

#[tokio::test]
async fn a_statement_that_the_identity_key_has_not_signed_is_not_passed_on() {
    let bench = Bench::new(2, None, NO_HEDGE);
    let tokens: Vec<_> = bench.members.iter().map(|member| TokenKeys::behind(member, false)).collect();
    let keyed = Keyed::over(bench, 2).await;
    let (a, b) = (Arc::clone(&tokens[0]), Arc::clone(&tokens[1]));
    keyed.bench.members[0].script(move |op| match op {
        Op::VouchForLogKey { .. } => b.act(op),
        other => a.act(other),
    });
    let keys = keyed.keys().await;
    assert_eq!(keys.iter().map(|key| key.hsm.as_str()).collect::<Vec<_>>(), ["b"]);
}

/// Where several HSMs stand behind the slot: what a worker has made that died may not be shown yet.
#[tokio::test]
async fn one_that_may_not_be_shown_yet_is_waited_for_before_another_is_made() {
    // Where it is shown, the wait below would end long before the time is over.
    for (shown, settles) in [(false, Duration::from_millis(200)), (true, Duration::from_secs(600))] {
        let member = Fake::alone("a", &["zone-a", "zone-b"], settles);
        let token = TokenKeys::behind(&member, false);
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (noted, clock) = (Arc::clone(&asked), Clock::system());
        member.script(move |op| {
            match op {
                Op::ShowLogKey => noted.lock().unwrap().push(("shown", clock.now())),
                Op::LogKey => noted.lock().unwrap().push(("made", clock.now())),
                _ => {}
            }
            match op {
                Op::ShowLogKey if !shown => Act::Say(Reply::Failed(Fault::own(Class::Refused, "log key", "none"))),
                other => token.act(other),
            }
        });
        let verify = crate::Verify { wraps: model::profile::VerifyWraps::None, unwraps: false };
        let _keyed = Keyed::over(Bench::of(vec![member], None, NO_HEDGE, verify), 1).await;
        let asked = asked.lock().unwrap();
        assert_eq!([asked[0].0, asked[1].0], ["shown", "made"]);
        assert!(shown || asked[1].1.duration_since(asked[0].1) >= settles, "it is made too early");
    }
}

/// A worker that was lost in the looking would be so in the making, one after the other.
#[tokio::test]
async fn one_that_cannot_look_for_its_key_is_not_asked_to_make_one() {
    let member = Fake::alone("a", &["zone-a", "zone-b"], Duration::from_millis(1));
    let asked = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&asked);
    member.script(move |op| match op {
        Op::ShowLogKey => {
            noted.lock().unwrap().push("shown");
            Act::Fail(supervisor::CallError::WorkerLost)
        }
        Op::LogKey => {
            noted.lock().unwrap().push("made");
            Act::Well
        }
        _ => Act::Well,
    });
    let verify = crate::Verify { wraps: model::profile::VerifyWraps::None, unwraps: false };
    let keyed = Keyed::over(Bench::of(vec![member], None, NO_HEDGE, verify), 0).await;
    let told = || keyed.bench.dispatcher.members[0].log_key.known.lock().unwrap().told.is_some();
    keyed.bench.until("its trouble is told", told).await;
    assert_eq!(*asked.lock().unwrap(), ["shown"]);
}

#[test]
fn the_log_is_told_once_of_what_is_and_of_each_change() {
    let kept = Kept::default();
    let said = [None, None, Some("why"), Some("why"), Some("another"), None].map(|trouble| kept.is_news(trouble));
    assert_eq!(said, [true, false, true, false, true, true]);
}
