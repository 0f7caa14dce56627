//! What a worker can be asked to do: one operation, one file.

mod ceremony;
mod challenge;
mod change_pin;
mod compare;
mod copy;
mod decrypt;
mod describe;
mod destroy;
mod encrypt;
mod examine;
mod forget;
mod gcm;
mod generate_data_key;
mod keep_proven;
mod list;
mod log_key;
mod login;
mod make_in_place;
mod make_key;
mod measure;
mod one_of_several;
mod place;
mod probe;
mod prove;
mod random;
mod re_encrypt;
mod rewrap;
mod self_test;
mod show_transport;

pub(super) use self::ceremony::without_token;
pub(super) use self::log_key::LogPair;
pub(super) use self::one_of_several::one_of_several;
pub(super) use self::probe::KeyStream;

use super::fault::Failure;
use super::owner::Owner;
use protocol::{Class, Op, Reply};
use telemetry::sampled::{self, Line};

/// Does one operation, for the request with this id.
pub(super) fn perform(owner: &mut Owner, id: u64, op: Op) -> Reply {
    owner.begin(id);
    let role = owner.token.role;
    if !op.allowed_for(role) {
        return fail(owner, Failure::own(Class::Refused, "worker", format!("a {role:?} worker does not do this")));
    }
    // Asked again and again where it fails, and the daemon says why, once.
    let told_elsewhere = matches!(op, Op::LogKey | Op::ShowLogKey);
    let outcome = match op {
        // Neither is done a second time, whatever the session says: each try may be one of a few.
        Op::Login(pin) => login::run(owner, &pin),
        Op::ChangePin { old, new } => change_pin::run(owner, &old, &new),
        Op::Prove { cluster, zone, nonce } => owner.persist(|owner| prove::run(owner, &cluster, &zone, nonce)),
        // Not a second time by itself where several HSMs stand behind the slot: what the first has made need not be shown yet.
        Op::LogKey if owner.token.module.capabilities().topology.replicates() => {
            log_key::ensure(owner).map_err(|failure| owner.left(failure))
        }
        Op::LogKey => owner.persist(log_key::ensure),
        Op::ShowLogKey => owner.persist(log_key::show),
        Op::VouchForLogKey { cluster, vkey } => owner.persist(|owner| log_key::vouch::run(owner, &cluster, &vkey)),
        Op::SignCheckpoint { text } => owner.persist(|owner| log_key::checkpoint::run(owner, &text)),
        Op::HandOnWrappingKey { blob, to } => owner.persist(|owner| rewrap::run(owner, &blob, &to)),
        Op::ShowTransport { cluster, zone, nonce } => {
            owner.persist(|owner| show_transport::run(owner, &cluster, &zone, nonce))
        }
        Op::ChallengeWrappingKey => owner.persist(challenge::make),
        Op::PlaceWrappingKey { blob, challenge } => {
            owner.persist(|owner| ceremony::place_wrapping_key::ensure(owner, blob.as_deref(), &challenge))
        }
        Op::Encrypt(items) => Ok(encrypt::run(owner, items)),
        Op::Decrypt(items) => Ok(decrypt::run(owner, items)),
        Op::GenerateDataKey(items) => Ok(generate_data_key::run(owner, items)),
        Op::ReEncrypt(items) => Ok(re_encrypt::run(owner, items)),
        Op::Compare(items) => Ok(compare::run(owner, items)),
        Op::Random { length } => owner.persist(|owner| random::run(owner, length)),
        Op::SelfTest => owner.persist(self_test::run),
        Op::Examine { sessions } => owner.persist(|owner| examine::run(owner, sessions)),
        Op::Describe => owner.persist(describe::run),
        Op::Measure { what, sessions } => owner.persist(|owner| measure::run(owner, what, sessions)),
        Op::Probe => owner.persist(probe::run),
        Op::Forget(keys) => Ok(forget::run(owner, &keys)),
        Op::Copy { key, blob } => Ok(copy::run(owner, key, blob.as_deref())),
        Op::MakeKey => owner.persist(make_key::run),
        Op::Place { key, label, blob } => owner.persist(|owner| place::run(owner, key, &label, &blob)),
        // Not done a second time by itself.
        Op::MakeInPlace { key, label } => make_in_place::run(owner, key, &label),
        Op::ConfirmInPlace(key) => owner.persist(|owner| make_in_place::confirm(owner, key)),
        Op::KeepProven(proof) => owner.persist(|owner| keep_proven::run(owner, &proof)),
        Op::Destroy(key) => owner.persist(|owner| destroy::run(owner, key)),
        Op::List => owner.persist(list::run),
        Op::Ceremony(step) => owner.persist(|owner| ceremony::run(owner, &step)),
    };
    owner.end();
    match outcome {
        Err(failure) if told_elsewhere => Reply::Failed(failure.into_fault(owner.codes())),
        outcome => outcome.unwrap_or_else(|failure| fail(owner, failure)),
    }
}

fn fail(owner: &Owner, failure: Failure) -> Reply {
    let fault = failure.into_fault(owner.codes());
    // The worker's span says in which HSM.
    if sampled::whole(Line::Hsm, &fault.function) {
        tracing::warn!(%fault, class = ?fault.class, "an operation failed");
    }
    Reply::Failed(fault)
}
