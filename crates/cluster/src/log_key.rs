//! The log keys of members: each token has one of its own, which signs heads of audit logs and nothing else.
//!
//! A task for each member has the token make it, beside what the member serves: nothing waits for it, and a member without
//! one serves as the others do; only its signature is missing.
//!
//! Where several HSMs stand behind a member's slot, a pair that somebody has made may not be shown yet, and a second one would be
//! there to stay. So one that is not shown is made only after the time that it would have had to show up.

#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use audit::keys::{der_of_fixed, statement};
use audit::note::{Malformed, VerifierKey};
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ED25519, UnparsedPublicKey, VerificationAlgorithm};
use bytes::Bytes;
use futures_util::future::join_all;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::Cluster;
use super::dispatch::Dispatcher;
use super::member::Member;
use super::member_operation::fault_of;
use super::port::Port;
use model::clock::Clock;
use model::id::{ClusterId, HsmId, Zone};
use model::lock::MutexExt as _;
use model::profile::Topology;
use pki::identity::{PublicKey, pem_of, public_key_of};
use protocol::{LogKeyAlgorithm, LogPublicKey, Op, Reply};
use supervisor::{State, Status};
use telemetry::watchdog::{Heartbeat, Task, Watchdog};

/// A member whose workers are not all there by then has its key made all the same.
const SETTLE: Duration = Duration::from_secs(10);
/// For making a key; network HSMs take seconds.
const PATIENCE: Duration = Duration::from_secs(60);
/// Before a token that had no key, or has not signed, is asked again: the first and the longest pause.
const PAUSES: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(300));

/// The log key of a member, with what vouches for it.
#[derive(Clone, Debug)]
pub struct AuditKey {
    /// The HSM.
    pub hsm: HsmId,
    /// Its zone.
    pub zone: Zone,
    /// The key: `ORIGIN/HSM` is its name.
    pub key: VerifierKey,
    /// What the token's identity key has signed: [`audit::keys::statement`].
    pub statement: String,
    /// That signature: ECDSA with SHA-256, DER.
    pub statement_signature: Vec<u8>,
    /// The certificate of the identity key, PEM.
    pub identity_certificate: String,
}

impl Cluster {
    /// The log keys of members that have one, as far as the members were reached: each named for the log of this origin,
    /// and vouched for by its token's identity key. A token makes its key shortly after it was let in; until then, and
    /// where it cannot, it is left out, and whoever wants it asks again. Cheap where nothing has changed.
    pub async fn audit_keys(&self, origin: &str, deadline: Instant) -> Vec<AuditKey> {
        self.dispatcher.audit_keys(&self.id, origin, deadline).await
    }

    /// Has every member that has a log key sign the head of an audit log, all of them at once. Those that have answered
    /// well by the deadline, with 64 bytes of Ed25519 or DER of ECDSA over the text's SHA-256.
    ///
    /// By data workers: control workers make keys and search tokens, which takes longer than a head can wait, and calls are
    /// kept apart from that for the same reason. A signature is as much work as a call, once a second.
    pub async fn sign_checkpoint(&self, text: &[u8], deadline: Instant) -> Vec<(HsmId, Vec<u8>)> {
        self.dispatcher.sign_checkpoint(text, deadline).await
    }
}

/// What is known of a member's log key.
#[derive(Default)]
pub(super) struct Kept {
    known: Mutex<Known>,
    /// Wakes its task: the token does not sign with the key that is known.
    doubted: Notify,
}

#[derive(Default)]
struct Known {
    public: Option<LogPublicKey>,
    /// The statement about it, and the certificate in the token by then.
    vouched: Option<(AuditKey, Bytes)>,
    /// What the log was told last, if anything: what is the trouble, or that there is none.
    told: Option<Option<String>>,
}

impl Kept {
    fn public(&self) -> Option<LogPublicKey> {
        self.known.lock_anyway().public.clone()
    }

    /// Whether it was not known.
    fn learn(&self, public: LogPublicKey) -> bool {
        let mut known = self.known.lock_anyway();
        let new = known.public.as_ref() != Some(&public);
        if new {
            *known = Known { public: Some(public), vouched: None, told: known.told.take() };
        }
        new
    }

    /// Whether this is news.
    fn is_news(&self, trouble: Option<&str>) -> bool {
        let mut known = self.known.lock_anyway();
        let news = known.told.as_ref().is_none_or(|told| told.as_deref() != trouble);
        if news {
            known.told = Some(trouble.map(str::to_owned));
        }
        news
    }
}

/// Starts the tasks of all members. They end when the set is dropped or the supervisors are gone.
pub(super) fn keep<P: Port>(dispatcher: &Arc<Dispatcher<P>>, watchdog: &Watchdog, tasks: &mut JoinSet<()>) {
    for member in &dispatcher.members {
        let (member, clock, hsm) = (Arc::clone(member), dispatcher.clock.clone(), member.hsm.to_string());
        // On panic: started again, and asks the token again.
        tasks.spawn(watchdog.clone().restarted(
            Task::LogKey,
            hsm,
            || (),
            move |heartbeat| have_made(Arc::clone(&member), clock.clone(), heartbeat),
        ));
    }
}

/// Asks for the key whenever another control worker has come, and again where there was none or it has not signed.
async fn have_made<P: Port>(member: Arc<Member<P>>, clock: Clock, heartbeat: Heartbeat) {
    let mut status = member.port.watch();
    let ready = |status: &Arc<Status>| status.state == State::Serving && status.control_ready;
    let workers = member.port.settings().data_workers;
    let settles = member.replication().map_or(Duration::ZERO, Topology::settles);
    let (mut pause, mut lost) = (PAUSES.0, false);
    loop {
        if heartbeat.idle(status.wait_for(|status| ready(status))).await.is_err() {
            return;
        }
        // What is half made would be met by workers that are being let in.
        let all = |status: &Arc<Status>| !ready(status) || status.data_ready >= workers;
        let _ = heartbeat.idle(timeout(SETTLE, status.wait_for(all))).await;
        if std::mem::take(&mut lost) {
            // A token that hangs in this must not cost one control worker after the other.
            heartbeat.idle(sleep(pause)).await;
        }
        while ready(&member.port.status()) {
            let ask = |op: Op| member.port.call(Arc::new(op), (clock.now() + PATIENCE).into());
            let asked = async {
                if !settles.is_zero() {
                    match ask(Op::ShowLogKey).await {
                        Ok(Reply::LogKey(_)) => {}
                        Ok(_) => sleep(settles).await,
                        // Whoever does not even answer that is asked for no more before the pause.
                        Err(error) => return Err(error),
                    }
                }
                ask(Op::LogKey).await
            };
            let made = match heartbeat.idle(asked).await {
                Ok(Reply::LogKey(public)) => Ok(public),
                Ok(other) => Err(fault_of(other).to_string()),
                Err(error) => {
                    lost = error.was_sent();
                    Err(error.to_string())
                }
            };
            pause = (pause * 2).min(PAUSES.1);
            let has_it = made.is_ok();
            match made {
                Ok(public) => {
                    if member.log_key.learn(public) {
                        pause = PAUSES.0;
                    }
                    tell(&member, None);
                }
                Err(why) => tell(&member, Some(&why)),
            }
            let again = async {
                if has_it {
                    member.log_key.doubted.notified().await;
                }
                sleep(pause).await;
            };
            let next = async {
                tokio::select! {
                    () = again => {}
                    _ = status.wait_for(|status| !ready(status)) => {}
                }
            };
            heartbeat.idle(next).await;
        }
    }
}

/// Tells the log once, whatever is asked again.
fn tell<P: Port>(member: &Member<P>, trouble: Option<&str>) {
    if !member.log_key.is_news(trouble) {
        return;
    }
    let (hsm, zone) = (&member.hsm, &member.zone);
    match trouble {
        Some(why) => {
            tracing::warn!(%hsm, %zone, why, "the HSM does not sign heads of the audit log; it serves all the same")
        }
        None => tracing::info!(%hsm, %zone, "the HSM signs heads of the audit log"),
    }
}

impl<P: Port> Dispatcher<P> {
    async fn sign_checkpoint(&self, text: &[u8], deadline: Instant) -> Vec<(HsmId, Vec<u8>)> {
        let op = Arc::new(Op::SignCheckpoint { text: Bytes::copy_from_slice(text) });
        let asked = self.members.iter().map(|member| async {
            // One whose key is not known could be believed to sign with any.
            let public = member.log_key.public()?;
            let trouble = match member.port.call(Arc::clone(&op), deadline.into()).await {
                Ok(Reply::Signature(signature)) if has_signed(&public, text, &signature) => {
                    return Some((member.hsm.clone(), in_notes(&public, &signature)));
                }
                Ok(Reply::Signature(_)) => "its signature is not of the log key that its token had".to_owned(),
                Ok(other) => fault_of(other).to_string(),
                // It is away, or has much to do; what that is about others tell.
                Err(_) => return None,
            };
            tell(member, Some(&trouble));
            member.log_key.doubted.notify_one();
            None
        });
        join_all(asked).await.into_iter().flatten().collect()
    }

    async fn audit_keys(&self, cluster: &ClusterId, origin: &str, deadline: Instant) -> Vec<AuditKey> {
        let asked = self.members.iter().map(|member| async {
            let public = member.log_key.public()?;
            let key = named(origin, &member.hsm, &public);
            let key = key.inspect_err(|error| tell(member, Some(&error.to_string()))).ok()?;
            let found = member.port.status().ready.clone();
            let known = member.log_key.known.lock_anyway().vouched.clone();
            match (known, &found) {
                (Some((vouched, by)), Some(found)) if vouched.key == key && found.identity.as_ref() == Some(&by) => {
                    return Some(vouched);
                }
                (Some((vouched, _)), None) if vouched.key == key => return Some(vouched),
                _ => {}
            }
            let found = found?;
            let identity = found.identity.clone()?;
            let op = Op::VouchForLogKey { cluster: cluster.clone(), vkey: key.to_string() };
            let trouble = match member.port.call(Arc::new(op), deadline.into()).await {
                Ok(Reply::Signature(signature)) => {
                    let statement = statement(cluster, &member.hsm, &found.serial, &key);
                    match vouches(&identity, &statement, &signature) {
                        true => {
                            let vouched = AuditKey {
                                hsm: member.hsm.clone(),
                                zone: member.zone.clone(),
                                key,
                                statement,
                                statement_signature: der_of_fixed(&signature),
                                identity_certificate: pem_of(&identity),
                            };
                            let mut known = member.log_key.known.lock_anyway();
                            known.vouched = Some((vouched.clone(), identity));
                            return Some(vouched);
                        }
                        false => "its token has not signed that the log key is its own".to_owned(),
                    }
                }
                Ok(other) => fault_of(other).to_string(),
                Err(_) => return None,
            };
            tell(member, Some(&trouble));
            member.log_key.doubted.notify_one();
            None
        });
        join_all(asked).await.into_iter().flatten().collect()
    }
}

fn named(
    origin: &str,
    hsm: &HsmId,
    LogPublicKey { algorithm, public }: &LogPublicKey,
) -> Result<VerifierKey, Malformed> {
    let name = format!("{origin}/{hsm}");
    match algorithm {
        LogKeyAlgorithm::Ed25519 => VerifierKey::ed25519(&name, public),
        LogKeyAlgorithm::EcdsaP256 => VerifierKey::p256(&name, public),
    }
}

/// One wrong line of a head is as good as tampering to who checks it, so nothing is passed on unseen.
fn has_signed(LogPublicKey { algorithm, public }: &LogPublicKey, text: &[u8], signature: &[u8]) -> bool {
    let algorithm: &dyn VerificationAlgorithm = match algorithm {
        LogKeyAlgorithm::Ed25519 => &ED25519,
        LogKeyAlgorithm::EcdsaP256 => &ECDSA_P256_SHA256_FIXED,
    };
    UnparsedPublicKey::new(algorithm, public).verify(text, signature).is_ok()
}

/// As it stands in notes.
fn in_notes(public: &LogPublicKey, signature: &[u8]) -> Vec<u8> {
    match public.algorithm {
        LogKeyAlgorithm::Ed25519 => signature.to_vec(),
        LogKeyAlgorithm::EcdsaP256 => der_of_fixed(signature),
    }
}

/// Whether the key of this certificate, which the token has proven to hold when it was let in, has signed the statement.
fn vouches(identity: &[u8], statement: &str, signature: &[u8]) -> bool {
    let Ok(PublicKey::P256(point)) = public_key_of(identity) else { return false };
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(statement.as_bytes(), signature).is_ok()
}
