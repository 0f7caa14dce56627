//! What stands around each call: the count, the rules in force, the fault, the real function.

use std::env;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use cryptoki_sys::*;
use libloading::Library;
use rustix::time::{ClockId, clock_gettime};

use crate::codes::code;
use crate::control::{RULES, STATE, place};
use crate::decide::{Met, chance, decide};
use crate::iv::{Appended, IV_BYTES};
use crate::network;
use crate::personality::{self, Below, Process};
use crate::rules::{Fault, Plain, Rules};
use crate::state::{self, State};

/// How often the rules are looked at again, at most.
const LOOK: Duration = Duration::from_millis(1);

/// Where a function leaves bytes.
#[derive(Clone, Copy)]
pub(crate) enum Output {
    /// Nowhere.
    None,
    /// In a buffer, and says how many. Without a buffer it only says how many it would be.
    Sized {
        /// The buffer.
        buffer: *mut CK_BYTE,
        /// How many.
        length: *mut CK_ULONG,
    },
    /// In a buffer that it fills.
    Filled {
        /// The buffer.
        buffer: *mut CK_BYTE,
        /// How many.
        length: CK_ULONG,
    },
    /// The same for a ciphertext.
    Sealed {
        /// Of the operation.
        session: CK_SESSION_HANDLE,
        /// The buffer.
        buffer: *mut CK_BYTE,
        /// How many.
        length: *mut CK_ULONG,
    },
    /// Nowhere, but an operation with these parameters has begun.
    Begun {
        /// Of the operation.
        session: CK_SESSION_HANDLE,
        /// Its parameters.
        mechanism: *mut CK_MECHANISM,
        /// It encrypts.
        encrypts: bool,
    },
    /// Handles of objects that a search has found, and how many of them; there is room for `most`.
    Found {
        /// The handles.
        handles: *mut CK_OBJECT_HANDLE,
        /// For so many.
        most: CK_ULONG,
        /// How many.
        count: *mut CK_ULONG,
    },
    /// In a description of the token, which holds no bytes to spoil but has the flags of its user.
    TokenInfo(*mut CK_TOKEN_INFO),
}

impl Output {
    fn is_question(self) -> bool {
        matches!(self, Self::Sized { buffer, .. } | Self::Sealed { buffer, .. } if buffer.is_null())
    }

    fn has_bytes(self) -> bool {
        matches!(self, Self::Sized { .. } | Self::Sealed { .. } | Self::Filled { .. })
    }

    /// What a token says of a user that it has locked.
    fn show_locked(self) {
        if let Self::TokenInfo(info) = self
            && !info.is_null()
        {
            // SAFETY: the caller's own, which the function has just filled with success.
            unsafe { (*info).flags |= CKF_USER_PIN_LOCKED };
        }
    }

    /// What a search shows that has no end.
    fn show_more(self) -> bool {
        let Self::Found { handles, most, count } = self else { return false };
        if handles.is_null() || count.is_null() {
            return false;
        }
        for at in 0..most {
            // SAFETY: the caller's own, with room for so many.
            unsafe { handles.add(at as usize).write(at + 1) };
        }
        // SAFETY: the caller's own.
        unsafe { *count = most };
        true
    }

    fn spoil(self) {
        let (buffer, length) = match self {
            Self::None | Self::Begun { .. } | Self::Found { .. } | Self::TokenInfo(_) => return,
            // SAFETY: the caller's own, which the function has just written to with success.
            Self::Sized { buffer, length } | Self::Sealed { buffer, length, .. } => (buffer, unsafe { *length }),
            Self::Filled { buffer, length } => (buffer, length),
        };
        if !buffer.is_null() && length > 0 {
            // SAFETY: within what the function has just written.
            unsafe { *buffer.add(length as usize / 2) ^= 0x55 };
        }
    }
}

/// The module in this process.
struct Chaos {
    real: &'static CK_FUNCTION_LIST,
    /// The same under the habits of another HSM.
    layered: CK_FUNCTION_LIST,
    process: &'static Process,
    state: &'static State,
    file: PathBuf,
    rules: Mutex<Known>,
    /// Open sessions of this process.
    sessions: AtomicUsize,
    /// Those in which a ciphertext is followed by its IV.
    appended: Appended,
}

/// The rules as they were last read.
struct Known {
    rules: Arc<Rules>,
    /// What tells whether the file is still the same.
    mark: Option<(i64, i64, u64, u64)>,
    looked: Option<u64>,
    /// How often rules had been set by then.
    set: u64,
}

static CHAOS: OnceLock<Result<Chaos, String>> = OnceLock::new();

/// Loads the real module, once.
pub(crate) fn load() -> Result<(), String> {
    CHAOS.get_or_init(Chaos::new).as_ref().map(|_| ()).map_err(Clone::clone)
}

/// Does one call.
///
/// `handle` is its first argument where that is a number, as a session's handle is.
pub(crate) fn around(
    function: &'static str,
    handle: Option<CK_SESSION_HANDLE>,
    output: Output,
    call: impl Fn(&CK_FUNCTION_LIST) -> CK_RV,
) -> CK_RV {
    let Some(Ok(chaos)) = CHAOS.get() else { return CKR_CRYPTOKI_NOT_INITIALIZED };
    let Some(at) = place(function) else { return CKR_FUNCTION_NOT_SUPPORTED };
    let call = |real: &CK_FUNCTION_LIST| match output {
        Output::Sealed { session, buffer, length } => chaos.appended.seal(session, buffer, length, || call(real)),
        _ => call(real),
    };
    if let Output::Begun { session, .. } = output {
        chaos.appended.forget(session);
    }
    // A question about a length is no operation: the call with the buffer follows.
    let number = match output.is_question() {
        true => 0,
        false => chaos.state.calls[at].fetch_add(1, Ordering::AcqRel) + 1,
    };
    let rules = chaos.rules();
    let met = if number == 0 { None } else { decide(&rules, function, number) };
    let forward = || chaos.forward(function, handle, number, &rules, &call);
    let Some(met) = met else { return forward() };
    let hit = || chaos.state.injected[at].fetch_add(1, Ordering::AcqRel);
    match met.fault {
        Fault::Plain(Plain::WrongBytes) => {
            let result = forward();
            if result == CKR_OK && output.has_bytes() {
                hit();
                output.spoil();
            }
            result
        }
        Fault::Plain(Plain::LostToken) => match function {
            "C_GetInfo" | "C_GetSlotList" | "C_GetSlotInfo" => forward(),
            _ => {
                hit();
                CKR_TOKEN_NOT_PRESENT
            }
        },
        Fault::Plain(Plain::PinLocked) => match function {
            "C_Login" | "C_SetPIN" => {
                hit();
                CKR_PIN_LOCKED
            }
            "C_GetTokenInfo" => {
                let result = forward();
                if result == CKR_OK {
                    hit();
                    output.show_locked();
                }
                result
            }
            _ => forward(),
        },
        Fault::Plain(fault @ (Plain::IvRandom | Plain::IvWrittenBack | Plain::IvAppended | Plain::IvFixed)) => {
            let Output::Begun { session, mechanism, encrypts } = output else { return forward() };
            let own = drawn_iv(rules.seed, number);
            let begun = chaos.appended.begin(*fault, encrypts, session, mechanism, own, forward);
            match begun {
                Some(result) => {
                    hit();
                    result
                }
                None => forward(),
            }
        }
        Fault::Plain(Plain::EndlessSearch) => {
            let result = forward();
            if result == CKR_OK && output.show_more() {
                hit();
            }
            result
        }
        Fault::SessionLimit { session_limit } => {
            if function == "C_OpenSession" && chaos.sessions.load(Ordering::Acquire) >= *session_limit {
                hit();
                return CKR_SESSION_COUNT;
            }
            forward()
        }
        Fault::Code { code: name } => {
            hit();
            if met.after_call {
                forward();
            }
            code(name).unwrap_or(CKR_GENERAL_ERROR)
        }
        Fault::Delay { delay_ms } => {
            hit();
            let delay = delay_ms.of(met.chance);
            if met.after_call {
                let result = forward();
                thread::sleep(delay);
                return result;
            }
            thread::sleep(delay);
            forward()
        }
        Fault::Talk { talk: words, times } => {
            hit();
            talk(words, *times);
            forward()
        }
        Fault::Plain(Plain::Hang) => {
            hit();
            while chaos.still(function, number) {
                thread::sleep(LOOK * 5);
            }
            // What hung may have something to say when it goes on.
            if let Some(Met { fault: Fault::Talk { talk: words, times }, .. }) =
                decide(&chaos.rules(), function, number)
            {
                talk(words, *times);
            }
            forward()
        }
        Fault::Plain(Plain::Crash) => {
            hit();
            if met.after_call {
                forward();
            }
            process::abort()
        }
    }
}

impl Chaos {
    fn new() -> Result<Self, String> {
        let variable = |name: &str| env::var_os(name).ok_or_else(|| format!("{name} is not set"));
        let (module, dir) = (variable("CHAOS_HSM_MODULE")?, PathBuf::from(variable("CHAOS_HSM_DIR")?));
        let state = state::open(&dir.join(STATE)).map_err(|error| format!("{}: {error}", dir.display()))?;
        let rules = Mutex::new(Known { rules: Arc::default(), mark: None, looked: None, set: 0 });
        let (real, file) = (real(Path::new(&module))?, dir.join(RULES));
        let layered = personality::layered(real);
        // As long as the module, which is never unloaded.
        let process = Box::leak(Box::default());
        let (sessions, appended) = (AtomicUsize::new(0), Appended::default());
        Ok(Self { real, layered, process, state, file, rules, sessions, appended })
    }

    /// Calls the real function, with the habits of another HSM; on the clock of the network HSM where one is played.
    fn forward(
        &self,
        function: &'static str,
        handle: Option<CK_SESSION_HANDLE>,
        number: u64,
        rules: &Rules,
        call: &impl Fn(&CK_FUNCTION_LIST) -> CK_RV,
    ) -> CK_RV {
        let served = rules.network.filter(|_| number > 0 && is_operation(function));
        let done = served.map(|network| {
            let drawn = chance(&[rules.seed, number], function);
            let service = network::service(network.service_ms * 1e6, network.distribution, drawn);
            network::journal(&self.state.servers[..network.at_once], now(), service as u64)
        });
        let result = match &rules.personality {
            None => call(self.real),
            Some(personality) => {
                let (real, state, process) = (self.real, self.state, self.process);
                let (personality, sessions) = (Arc::clone(personality), self.sessions.load(Ordering::Acquire));
                let below = Below { real, state, process, personality, sessions, now };
                personality::through(&below, function, handle, number > 0, || call(&self.layered))
            }
        };
        if let Some(rest) = done.and_then(|done| done.checked_sub(now())) {
            thread::sleep(Duration::from_nanos(rest));
        }
        self.count_sessions(function, result);
        result
    }

    fn count_sessions(&self, function: &str, result: CK_RV) {
        let sessions = &self.sessions;
        match function {
            _ if result != CKR_OK => {}
            "C_OpenSession" => drop(sessions.fetch_add(1, Ordering::AcqRel)),
            "C_CloseSession" => {
                let _ = sessions.fetch_update(Ordering::AcqRel, Ordering::Acquire, |open| open.checked_sub(1));
            }
            "C_CloseAllSessions" | "C_Finalize" => sessions.store(0, Ordering::Release),
            _ => {}
        }
    }

    /// Whether a call would hang now.
    fn still(&self, function: &str, number: u64) -> bool {
        let rules = self.rules();
        decide(&rules, function, number).is_some_and(|met| matches!(met.fault, Fault::Plain(Plain::Hang)))
    }

    /// The rules in force. Those that make no sense leave the ones before in force.
    fn rules(&self) -> Arc<Rules> {
        let mut known = self.rules.lock().unwrap_or_else(PoisonError::into_inner);
        // A file that somebody else writes is looked at now and then; what was set is in force at once.
        let (now, set) = (now(), self.state.rules_set.load(Ordering::Acquire));
        if set == known.set && known.looked.is_some_and(|looked| u128::from(now - looked) < LOOK.as_nanos()) {
            return Arc::clone(&known.rules);
        }
        // Files that are written within one tick of the clock may be told apart by nothing.
        let is_new = std::mem::replace(&mut known.set, set) != set;
        known.looked = Some(now);
        let mark = fs::metadata(&self.file).ok().map(|meta| (meta.mtime(), meta.mtime_nsec(), meta.size(), meta.ino()));
        if is_new || mark != known.mark {
            known.mark = mark;
            match Rules::parse(&fs::read_to_string(&self.file).unwrap_or_default()) {
                Ok(rules) => known.rules = Arc::new(rules),
                Err(error) => talk(&format!("chaos-hsm: {}: {error}\n", self.file.display()), 1),
            }
        }
        Arc::clone(&known.rules)
    }
}

fn real(module: &Path) -> Result<&'static CK_FUNCTION_LIST, String> {
    let named = |error: &dyn std::fmt::Display| format!("{}: {error}", module.display());
    // SAFETY: loading a module runs its initialisers. Whoever names it wants that.
    let library = unsafe { Library::new(module) }.map_err(|error| named(&error))?;
    // SAFETY: the standard gives this symbol this type.
    let list =
        unsafe { library.get::<unsafe extern "C" fn(*mut *mut CK_FUNCTION_LIST) -> CK_RV>(b"C_GetFunctionList\0") };
    let list = *list.map_err(|error| named(&error))?;
    let mut found = std::ptr::null_mut();
    // SAFETY: the pointer is one to write to.
    let result = unsafe { list(&raw mut found) };
    if result != CKR_OK || found.is_null() {
        return Err(named(&format!("C_GetFunctionList says 0x{result:x}")));
    }
    // Calls may be inside until the process ends.
    std::mem::forget(library);
    // SAFETY: not null, and of a library that is never unloaded.
    Ok(unsafe { &*found })
}

/// Says something on standard error as C code does: without a look at what becomes of it.
fn talk(words: &str, times: u64) {
    for _ in 0..times {
        let _ = std::io::stderr().write_all(words.as_bytes());
    }
}

/// An IV for a call: another one for each, and the same for the same seed.
fn drawn_iv(seed: u64, number: u64) -> [u8; IV_BYTES] {
    let mut iv = [0; IV_BYTES];
    for (at, byte) in iv.iter_mut().enumerate() {
        *byte = (chance(&[seed, number, at as u64], "iv") * 256.0) as u8;
    }
    iv
}

/// What costs a network HSM time.
fn is_operation(function: &str) -> bool {
    matches!(
        function,
        "C_Encrypt"
            | "C_Decrypt"
            | "C_Sign"
            | "C_Verify"
            | "C_GenerateRandom"
            | "C_GenerateKey"
            | "C_WrapKey"
            | "C_UnwrapKey"
    )
}

/// The same for all processes.
fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    (now.tv_sec as u64) * 1_000_000_000 + now.tv_nsec as u64
}
