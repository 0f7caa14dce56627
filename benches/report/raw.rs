//! The raw in-token limit: one process for each zone, each looping C_Encrypt on a session object of a token of its own.
//!
//! Nothing that the daemon does can be faster than this: it is the module with nothing around it, in as many
//! instances as the daemon has zones, with the allocator that the daemon's workers have.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use model::clock::Clock;

use super::{Outcome, PLAINTEXT_BYTES, said};

/// PIN of tokens that live as long as this run and hold no key.
const PIN: &str = "0000";
const LABEL: &str = "raw-limit";
/// As long as the daemon's own: format, key id and version.
const AAD: [u8; 21] = [0; 21];
/// Nanoseconds that this thread has run, before anything else.
const RUN_TIME: &str = "/proc/thread-self/schedstat";
/// Encryptions between two looks at the clock.
const STRIDE: u64 = 256;
/// Most keys of one process.
const MOST_KEYS: usize = 10_000;

/// What came of one round.
pub(super) struct Round {
    /// Encryptions per second over all processes.
    pub(super) rate: f64,
    /// The least share of a processor that one of them had. A loop that waits for nothing has a whole one, unless
    /// something else runs on the machine.
    pub(super) share: f64,
}

/// Less than this of a processor for a loop that waits for nothing, and the figures are somebody else's too.
const LEAST_SHARE: f64 = 0.95;

/// Why figures say nothing about keystored when a loop had this share of a processor; absent when they do.
pub(super) fn disturbed(share: f64) -> Option<String> {
    (share < LEAST_SHARE).then(|| {
        format!(
            "VOID: something else ran on this machine; a raw loop had {:.0} % of a processor where it needs all of one. \
             Measure again when nothing else runs.",
            share * 100.0
        )
    })
}

/// The processes, waiting for the next round.
pub(super) struct RawLimit {
    loops: Vec<Loop>,
    /// What the module says it is.
    pub(super) module: String,
}

/// One of them.
pub(super) struct Loop {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl RawLimit {
    /// Starts a process for each of `zones` zones, with a fresh token each, under `dir`.
    pub(super) fn start(program: &Path, dir: &Path, module: &Path, zones: usize) -> Outcome<Self> {
        let (mut loops, mut found) = (Vec::new(), String::new());
        for zone in 0..zones {
            let conf = softhsm_conf(&dir.join(format!("raw-{zone}")))?;
            let mut command = Command::new(program);
            command.args([OsStr::new("raw-limit"), module.as_os_str()]).env("SOFTHSM2_CONF", &conf);
            let mut one = Loop::start(&mut command)?;
            found = one.answer()?;
            loops.push(one);
        }
        Ok(Self { loops, module: found })
    }

    /// Lets all of them loop at once, each over one key.
    pub(super) fn round(&mut self, length: Duration) -> Outcome<Round> {
        self.round_over(1, length)
    }

    /// The same over so many keys, picked uniformly: each process has its part of them, as a zone has that gets the same
    /// keys again and again.
    pub(super) fn round_over(&mut self, keys: usize, length: Duration) -> Outcome<Round> {
        let part = keys.div_ceil(self.loops.len().max(1));
        for one in &mut self.loops {
            one.order(&format!("{} {part}", length.as_millis()))?;
        }
        let mut round = Round { rate: 0.0, share: 1.0 };
        for one in &mut self.loops {
            let answer = one.answer()?;
            let figures: Result<Vec<f64>, _> = answer.split(' ').map(str::parse).collect();
            let [count, nanos, ran] = figures.map_err(said("reading a round"))?[..] else {
                return Err("a raw-limit process answered nonsense".to_owned());
            };
            round.rate += count * 1e9 / nanos;
            round.share = round.share.min(ran / nanos);
        }
        Ok(round)
    }
}

impl Loop {
    /// Starts it. Its first answer says what the module is.
    pub(super) fn start(command: &mut Command) -> Outcome<Self> {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().map_err(said("starting a raw-limit process"))?;
        let (Some(orders), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err("a raw-limit process has no pipes".to_owned());
        };
        Ok(Self { child, orders: Some(orders), answers: BufReader::new(answers) })
    }

    /// Has it do a round.
    pub(super) fn order(&mut self, order: &str) -> Outcome<()> {
        let orders = self.orders.as_mut().ok_or("a raw-limit process has been ended")?;
        writeln!(orders, "{order}").map_err(said("ordering a round"))
    }

    /// Its next line.
    pub(super) fn answer(&mut self) -> Outcome<String> {
        let mut line = String::new();
        match self.answers.read_line(&mut line) {
            Ok(0) => Err("a raw-limit process has ended; its words are above".to_owned()),
            Ok(_) => Ok(line.trim_end().to_owned()),
            Err(error) => Err(format!("reading from a raw-limit process: {error}")),
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        // The end of its orders is the end of its work: it logs out and leaves.
        drop(self.orders.take());
        let _ = self.child.wait();
    }
}

/// Such a process. Orders come line by line: a number of milliseconds and one of keys each.
pub(super) fn run(module: &OsStr, clock: &Clock) -> Outcome<()> {
    let (pkcs11, session, key) = begin(module)?;
    let mut keys = vec![key];
    for order in std::io::stdin().lines() {
        let order = order.map_err(said("reading an order"))?;
        let (length, part) = order.split_once(' ').ok_or("an order is two numbers")?;
        let length = Duration::from_millis(length.parse().map_err(said("reading an order"))?);
        let part: usize = part.parse().map_err(said("reading an order"))?;
        while keys.len() < part.min(MOST_KEYS) {
            keys.push(new_key(&session)?);
        }
        let keys = keys.get(..part).ok_or("an order is for more keys than there can be")?;
        let ran_before = run_time()?;
        let (count, taken) = loop_for(&session, keys, length, clock)?;
        println!("{count} {} {}", taken.as_nanos(), run_time()? - ran_before);
    }
    session.logout().map_err(said("C_Logout"))?;
    drop(session);
    pkcs11.finalize().map_err(said("C_Finalize"))
}

/// Loads the module, makes a token with a key, and says on standard output what the module is.
pub(super) fn begin(module: &OsStr) -> Outcome<(Pkcs11, Session, ObjectHandle)> {
    let pkcs11 = Pkcs11::new(Path::new(module)).map_err(said("loading the module"))?;
    let flags = CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK);
    pkcs11.initialize(flags).map_err(said("C_Initialize"))?;
    let session = new_token(&pkcs11)?;
    let key = new_key(&session)?;
    let info = pkcs11.get_library_info().map_err(said("C_GetInfo"))?;
    let version = info.library_version();
    println!("{}, {} {version}", info.manufacturer_id().trim(), info.library_description().trim());
    Ok((pkcs11, session, key))
}

/// A SoftHSM without tokens in a directory of its own; its configuration.
pub(super) fn softhsm_conf(home: &Path) -> Outcome<PathBuf> {
    let tokens = home.join("tokens");
    fs::create_dir_all(&tokens).map_err(said("making a token directory"))?;
    let conf = home.join("softhsm2.conf");
    let text = format!("directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n", tokens.display());
    fs::write(&conf, text).map_err(said("writing softhsm2.conf"))?;
    Ok(conf)
}

fn run_time() -> Outcome<u64> {
    let text = fs::read_to_string(RUN_TIME).map_err(said("reading this thread's run time"))?;
    let nanos = text.split(' ').next().unwrap_or_default();
    nanos.parse().map_err(said("reading this thread's run time"))
}

fn new_token(pkcs11: &Pkcs11) -> Outcome<Session> {
    let pin: AuthPin = AuthPin::new(PIN.to_owned().into());
    let empty = pkcs11.get_slots_with_token().map_err(said("C_GetSlotList"))?;
    let empty = empty.first().ok_or("the module shows no slot for a new token")?;
    pkcs11.init_token(*empty, &pin, LABEL).map_err(said("C_InitToken"))?;
    // The slot has another number now.
    let slot = find(pkcs11)?;
    let session = pkcs11.open_rw_session(slot).map_err(said("C_OpenSession"))?;
    session.login(UserType::So, Some(&pin)).map_err(said("C_Login as SO"))?;
    session.init_pin(&pin).map_err(said("C_InitPIN"))?;
    session.logout().map_err(said("C_Logout"))?;
    session.login(UserType::User, Some(&pin)).map_err(said("C_Login"))?;
    Ok(session)
}

/// The slot with the new token.
pub(super) fn find(pkcs11: &Pkcs11) -> Outcome<Slot> {
    for slot in pkcs11.get_slots_with_initialized_token().map_err(said("C_GetSlotList"))? {
        if pkcs11.get_token_info(slot).map_err(said("C_GetTokenInfo"))?.label().trim() == LABEL {
            return Ok(slot);
        }
    }
    Err("the new token is not in the list of slots".to_owned())
}

fn new_key(session: &Session) -> Outcome<ObjectHandle> {
    let template = [
        Attribute::Token(false),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Encrypt(true),
        Attribute::Decrypt(true),
        Attribute::ValueLen(32.into()),
    ];
    session.generate_key(&Mechanism::AesKeyGen, &template).map_err(said("C_GenerateKey"))
}

fn loop_for(session: &Session, keys: &[ObjectHandle], length: Duration, clock: &Clock) -> Outcome<(u64, Duration)> {
    let start = clock.now();
    let mut count = 0;
    loop {
        for _ in 0..STRIDE {
            count += 1;
            encrypt(session, keys[pick(count, keys.len())], 0, count)?;
        }
        let taken = clock.now() - start;
        if taken >= length {
            return Ok((count, taken));
        }
    }
}

/// Which of so many keys: each as often as another, and neighbours far apart.
fn pick(count: u64, keys: usize) -> usize {
    let spread = count.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    ((spread * keys as u64) >> 32) as usize
}

/// One encryption, with an IV that no other of the same round has.
pub(super) fn encrypt(session: &Session, key: ObjectHandle, thread: u32, count: u64) -> Outcome<()> {
    let mut iv = [0; 12];
    iv[..4].copy_from_slice(&thread.to_be_bytes());
    iv[4..].copy_from_slice(&count.to_be_bytes());
    let parameters = GcmParams::new(&mut iv, &AAD, 128.into()).map_err(said("AES-GCM"))?;
    let plaintext = [7; PLAINTEXT_BYTES];
    let sealed = session.encrypt(&Mechanism::AesGcm(parameters), key, &plaintext).map_err(said("C_Encrypt"))?;
    std::hint::black_box(sealed);
    Ok(())
}
