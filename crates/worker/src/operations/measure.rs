//! How fast the token does something, in one session or in several beside each other. For a fraction of a second, so that
//! whatever else this worker has to do waits no longer than that.

use std::thread;
use std::time::{Duration, Instant};

use cryptoki::mechanism::Mechanism;
use cryptoki::object::{Attribute, ObjectHandle};
use cryptoki::session::Session;

use super::examine::{Bench, templates};
use super::gcm;
use super::self_test::AAD;
use crate::fault::Failure;
use crate::module::Module;
use crate::objects;
use crate::owner::Owner;
use crate::template::{self, Kind, Use};
use model::ciphertext::IV_BYTES;
use model::clock::Clock;
use model::profile::examination::KeyWrapBy;
use protocol::{Class, Measure, Reply, Speed};

/// How long one thing is measured.
const FOR: Duration = Duration::from_millis(100);
/// Most times that it is done in a session.
const MOST: u64 = 5_000;
/// Most sessions beside each other.
const SESSIONS: u16 = 16;
/// What is encrypted.
const PLAINTEXT: [u8; 32] = [0x5a; 32];

/// What is worked with.
struct Things {
    what: Measure,
    key: ObjectHandle,
    wrapping: ObjectHandle,
    blob: Vec<u8>,
    sealed: ([u8; IV_BYTES], Vec<u8>),
    generated: Vec<Attribute>,
    unwrapped: Vec<Attribute>,
}

pub(super) fn run(owner: &mut Owner, what: Measure, sessions: u16) -> Result<Reply, Failure> {
    owner.token_info()?;
    let mut bench = Bench::open(owner)?;
    let things = prepare(&mut bench, what)?;
    let (module, clock) = (bench.module(), &owner.token.clock);
    let hands: Vec<Session> =
        (0..sessions.clamp(1, SESSIONS)).map(|_| bench.session()).collect::<Result<_, Failure>>()?;
    let begun = clock.now();
    let times = beside_each_other(&things, module, hands, clock, begun + FOR)?;
    let nanos = u64::try_from(clock.now().saturating_duration_since(begun).as_nanos()).unwrap_or(u64::MAX);
    Ok(Reply::Measured(Speed { times, nanos }))
}

fn prepare(bench: &mut Bench<'_>, what: Measure) -> Result<Things, Failure> {
    let of = bench.of();
    let by = KeyWrapBy { number: of.wrap.key_wrap, value_len: of.wrap.value_len };
    let generated = templates::passing(of);
    let (key, wrapping) = (bench.generate(&generated)?, bench.generate(&templates::wrapping(of))?);
    let session = bench.session()?;
    let blob = match what {
        Measure::Unwrap => bench.module().extra().wrap_key(&session, &bench.module().key_wrap()?, wrapping, key)?,
        _ => Vec::new(),
    };
    let sealed = match what {
        Measure::Decrypt => seal(bench.module(), &session, key)?,
        _ => ([0; IV_BYTES], Vec::new()),
    };
    let unwrapped = templates::unwrapped(of, by, false, Use::Key(Kind::Encryption), []);
    Ok(Things { what, key, wrapping, blob, sealed, generated, unwrapped })
}

/// How often it was done over all sessions.
fn beside_each_other(
    things: &Things,
    module: &Module,
    hands: Vec<Session>,
    clock: &Clock,
    until: Instant,
) -> Result<u64, Failure> {
    thread::scope(|scope| {
        let mut running = Vec::new();
        for session in hands {
            let work = move || again_and_again(things, module, &session, clock, until);
            // On panic: the worker ends, and the daemon starts another.
            let spawned = thread::Builder::new().name("measure".to_owned()).spawn_scoped(scope, work);
            running.push(spawned.map_err(|error| Failure::own(Class::Token, "thread", error.to_string()))?);
        }
        let mut times = 0;
        for thread in running {
            // A panic would have ended the process.
            times += thread.join().unwrap_or(Ok(0))?;
        }
        Ok(times)
    })
}

fn again_and_again(
    things: &Things,
    module: &Module,
    session: &Session,
    clock: &Clock,
    until: Instant,
) -> Result<u64, Failure> {
    let mut times = 0;
    while times < MOST && (times == 0 || clock.now() < until) {
        once(things, module, session)?;
        times += 1;
    }
    Ok(times)
}

fn once(things: &Things, module: &Module, session: &Session) -> Result<(), Failure> {
    match things.what {
        Measure::Encrypt => seal(module, session, things.key).map(drop),
        Measure::Decrypt => {
            let (iv, sealed) = &things.sealed;
            gcm::open(module, session, things.key, *iv, AAD, sealed).map(drop)
        }
        Measure::Generate => {
            let made = session.generate_key(&Mechanism::AesKeyGen, &things.generated)?;
            Ok(session.destroy_object(made)?)
        }
        Measure::Wrap => {
            Ok(module.extra().wrap_key(session, &module.key_wrap()?, things.wrapping, things.key).map(drop)?)
        }
        Measure::Unwrap => {
            let made = session.unwrap_key(&module.key_wrap()?, things.wrapping, &things.blob, &things.unwrapped)?;
            Ok(session.destroy_object(made)?)
        }
        Measure::Random => Ok(session.generate_random_slice(&mut [0; 32])?),
        Measure::Find => {
            let nowhere = [Attribute::Token(true), Attribute::Label(template::NOWHERE.as_bytes().to_vec())];
            objects::find(session, &nowhere).map(drop)
        }
        Measure::GetAttribute => Ok(module.extra().identity(session, things.key).map(drop)?),
    }
}

fn seal(module: &Module, session: &Session, key: ObjectHandle) -> Result<([u8; IV_BYTES], Vec<u8>), Failure> {
    let mut iv = [0; IV_BYTES];
    Bench::random(&mut iv)?;
    gcm::seal(module, session, key, iv, AAD, &PLAINTEXT)
}
