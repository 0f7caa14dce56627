//! A token, and both ways to it: through the module, and past it straight to SoftHSM, which is loaded once in a process, so
//! that handles are good for both.

use std::env;
use std::ffi::c_void;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::ptr;

use chaos_hsm::Control;
use cryptoki_sys::*;
use tempfile::TempDir;
use toml::Table;

/// The user's PIN.
pub(crate) const PIN: &str = "12345678";
/// The SO's.
pub(crate) const SO_PIN: &str = "87654321";

/// Calls a function of a module.
macro_rules! call {
    ($list:expr, $name:ident($($argument:expr),* $(,)?)) => {{
        let function = $list.$name.unwrap();
        // SAFETY: buffers are as long as is said, and live until the call has returned.
        match unsafe { function($($argument),*) } {
            cryptoki_sys::CKR_OK => Ok(()),
            code => Err(code),
        }
    }};
}
pub(crate) use call;

/// A test that is played in a process of its own, with these settings.
macro_rules! played {
    ($name:ident, $settings:expr, |$hsm:ident| $body:block) => {
        #[test]
        fn $name() {
            let test = concat!(module_path!(), "::", stringify!($name));
            crate::rig::play(test, $settings, |$hsm: &crate::rig::Hsm| $body);
        }
    };
}
pub(crate) use played;

type List = &'static CK_FUNCTION_LIST;
type Session = CK_SESSION_HANDLE;
type Object = CK_OBJECT_HANDLE;

/// An attribute of a template.
pub(crate) type Attribute = (CK_ATTRIBUTE_TYPE, Vec<u8>);

pub(crate) struct Hsm {
    /// The module.
    pub(crate) chaos: List,
    /// SoftHSM.
    pub(crate) real: List,
    pub(crate) slot: CK_SLOT_ID,
    pub(crate) control: Control,
    settings: std::cell::Cell<u32>,
}

/// AES-GCM as a caller has it.
#[derive(Clone)]
pub(crate) struct Gcm {
    pub(crate) mechanism: CK_MECHANISM_TYPE,
    pub(crate) iv: Option<Vec<u8>>,
    pub(crate) bits: CK_ULONG,
    pub(crate) aad: Vec<u8>,
}

/// With this IV and its bits.
pub(crate) fn gcm(iv: &[u8]) -> Gcm {
    let bits = iv.len() as CK_ULONG * 8;
    Gcm { mechanism: CKM_AES_GCM, iv: Some(iv.to_vec()), bits, aad: b"aad".to_vec() }
}

/// Without an IV.
pub(crate) fn gcm_null() -> Gcm {
    Gcm { mechanism: CKM_AES_GCM, iv: None, bits: 0, aad: b"aad".to_vec() }
}

impl Gcm {
    pub(crate) fn with<T>(&mut self, function: impl FnOnce(*mut CK_MECHANISM) -> T) -> T {
        let mut parameters = CK_GCM_PARAMS {
            pIv: self.iv.as_mut().map_or(ptr::null_mut(), |iv| iv.as_mut_ptr()),
            ulIvLen: self.iv.as_ref().map_or(0, |iv| iv.len() as CK_ULONG),
            ulIvBits: self.bits,
            pAAD: self.aad.as_mut_ptr(),
            ulAADLen: self.aad.len() as CK_ULONG,
            ulTagBits: 128,
        };
        let at = (&raw mut parameters).cast();
        let length = size_of::<CK_GCM_PARAMS>() as CK_ULONG;
        let mut mechanism = CK_MECHANISM { mechanism: self.mechanism, pParameter: at, ulParameterLen: length };
        function(&raw mut mechanism)
    }
}

/// A mechanism without parameters.
pub(crate) fn plain(mechanism: CK_MECHANISM_TYPE) -> CK_MECHANISM {
    CK_MECHANISM { mechanism, pParameter: ptr::null_mut(), ulParameterLen: 0 }
}

pub(crate) fn truth(type_: CK_ATTRIBUTE_TYPE, truth: bool) -> Attribute {
    (type_, vec![CK_BBOOL::from(truth)])
}

pub(crate) fn number(type_: CK_ATTRIBUTE_TYPE, number: CK_ULONG) -> Attribute {
    (type_, number.to_ne_bytes().to_vec())
}

pub(crate) fn bytes(type_: CK_ATTRIBUTE_TYPE, bytes: &[u8]) -> Attribute {
    (type_, bytes.to_vec())
}

/// Calls `function` with a template.
pub(crate) fn with_template<T>(of: &[Attribute], function: impl FnOnce(*mut CK_ATTRIBUTE, CK_ULONG) -> T) -> T {
    let mut values: Vec<Vec<u8>> = of.iter().map(|(_, value)| value.clone()).collect();
    let mut attributes: Vec<_> = of
        .iter()
        .zip(&mut values)
        .map(|((type_, _), value)| CK_ATTRIBUTE {
            type_: *type_,
            pValue: value.as_mut_ptr().cast(),
            ulValueLen: value.len() as CK_ULONG,
        })
        .collect();
    function(attributes.as_mut_ptr(), attributes.len() as CK_ULONG)
}

/// Plays a test, or has it played.
pub(crate) fn play(test: &str, settings: &str, body: impl FnOnce(&Hsm)) {
    // The harness knows it without the program's name.
    let test = test.split_once("::").unwrap().1;
    if env::var("CHAOS_HSM_PLAY").is_ok_and(|played| played == test) {
        body(&Hsm::new(settings));
        println!("played: {test}");
        return;
    }
    let dir = TempDir::with_prefix("chaos-hsm-").unwrap();
    fs::create_dir(dir.path().join("tokens")).unwrap();
    let tokens = dir.path().join("tokens");
    let conf = format!("directories.tokendir = {}\nobjectstore.backend = file\n", tokens.display());
    fs::write(dir.path().join("softhsm2.conf"), conf).unwrap();
    let output = again(test, dir.path());
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{out}{err}", output.status);
    assert!(out.contains(&format!("played: {test}")), "it was not played: {out}{err}");
}

/// What the other tests have done in another process over the same directory; by itself it does nothing.
#[test]
fn elsewhere() {
    let Ok(what) = env::var("CHAOS_HSM_ELSEWHERE") else { return };
    let hsm = Hsm::attach();
    let session = hsm.session();
    match what.split_once(' ') {
        Some(("login", pin)) => println!("elsewhere: {:x?}", hsm.login(session, pin)),
        Some(("find", label)) => {
            call!(hsm.real, C_Login(session, CKU_USER, PIN.as_ptr().cast_mut(), 8)).unwrap();
            println!("elsewhere: {}", hsm.find(session, &[bytes(CKA_LABEL, label.as_bytes())]).len());
        }
        _ => panic!("{what} is nothing to do"),
    }
}

fn again(test: &str, dir: &Path) -> Output {
    let mut child = Command::new(env::current_exe().unwrap());
    child.args(["--exact", test, "--nocapture"]).env("CHAOS_HSM_PLAY", test);
    child.env("SOFTHSM2_CONF", dir.join("softhsm2.conf")).env("CHAOS_HSM_DIR", dir.join("chaos"));
    child.env("CHAOS_HSM_MODULE", softhsm()).output().unwrap()
}

fn softhsm() -> &'static str {
    let places = ["/usr/lib/softhsm/libsofthsm2.so", "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so"];
    places.into_iter().find(|path| Path::new(path).exists()).expect("SoftHSM is installed (make deps)")
}

/// Beside this program, or one above.
fn module() -> PathBuf {
    let here = env::current_exe().unwrap();
    let mut places = here.ancestors().skip(1).take(2).map(|dir| dir.join("libchaos_hsm.so"));
    places.find(|path| path.exists()).expect("the module was built with this test")
}

fn load(path: &Path) -> List {
    type Get = unsafe extern "C" fn(*mut *mut CK_FUNCTION_LIST) -> CK_RV;
    let mut list = ptr::null_mut();
    // SAFETY: a module, its one symbol as the standard has it, and a library that is never unloaded.
    unsafe {
        let library = Box::leak(Box::new(libloading::Library::new(path).unwrap()));
        assert_eq!(library.get::<Get>(b"C_GetFunctionList\0").unwrap()(&raw mut list), CKR_OK);
        &*list
    }
}

/// The module's directory.
pub(crate) fn dir() -> PathBuf {
    PathBuf::from(env::var("CHAOS_HSM_DIR").unwrap())
}

impl Hsm {
    fn new(settings: &str) -> Self {
        let real = load(Path::new(softhsm()));
        call!(real, C_Initialize(ptr::null_mut())).unwrap();
        let mut slot = 0;
        let mut count = 1;
        call!(real, C_GetSlotList(CK_TRUE, &raw mut slot, &raw mut count)).unwrap();
        let mut label = *b"chaos                           ";
        let (so, user) = (SO_PIN.as_ptr().cast_mut(), PIN.as_ptr().cast_mut());
        call!(real, C_InitToken(slot, so, 8, label.as_mut_ptr())).unwrap();
        let mut slots = [0; 8];
        let mut count = slots.len() as CK_ULONG;
        call!(real, C_GetSlotList(CK_TRUE, slots.as_mut_ptr(), &raw mut count)).unwrap();
        let initialised = |slot: &CK_SLOT_ID| info(real, *slot).flags & CKF_TOKEN_INITIALIZED != 0;
        let slot = slots[..count as usize].iter().copied().find(initialised).unwrap();
        let session = open(real, slot, CKF_RW_SESSION).unwrap();
        call!(real, C_Login(session, CKU_SO, so, 8)).unwrap();
        call!(real, C_InitPIN(session, user, 8)).unwrap();
        call!(real, C_Finalize(ptr::null_mut())).unwrap();

        Control::open(&dir()).unwrap().set(settings).unwrap();
        Self::attach()
    }

    /// To a token that is there.
    fn attach() -> Self {
        let (chaos, real) = (load(&module()), load(Path::new(softhsm())));
        // Without that SoftHSM takes it that there is one thread.
        let mut arguments = CK_C_INITIALIZE_ARGS { flags: CKF_OS_LOCKING_OK, ..CK_C_INITIALIZE_ARGS::default() };
        call!(chaos, C_Initialize((&raw mut arguments).cast())).unwrap();
        let mut slots = [0; 8];
        let mut count = slots.len() as CK_ULONG;
        call!(real, C_GetSlotList(CK_TRUE, slots.as_mut_ptr(), &raw mut count)).unwrap();
        let initialised = |slot: &CK_SLOT_ID| info(real, *slot).flags & CKF_TOKEN_INITIALIZED != 0;
        let slot = slots[..count as usize].iter().copied().find(initialised).unwrap();
        Self { chaos, real, slot, control: Control::open(&dir()).unwrap(), settings: 0.into() }
    }

    /// What another process says that does this.
    pub(crate) fn elsewhere(&self, what: &str) -> String {
        self.elsewhere_and_beside(what).0
    }

    /// The same, and what it says on standard error.
    pub(crate) fn elsewhere_and_beside(&self, what: &str) -> (String, String) {
        let mut child = Command::new(env::current_exe().unwrap());
        child.args(["--exact", "rig::elsewhere", "--nocapture"]).env("CHAOS_HSM_ELSEWHERE", what);
        let output = child.output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let said = out.lines().find_map(|line| line.split_once("elsewhere: ")).map(|(_, said)| said.to_owned());
        (said.unwrap_or_else(|| panic!("{what}: {out}{err}")), err.into_owned())
    }

    /// Puts other settings in force, and waits until they are.
    pub(crate) fn set(&self, settings: &str) {
        self.settings.set(self.settings.get() + 1);
        let mark = format!("settings {}", self.settings.get());
        let mut table: Table = settings.parse().unwrap();
        let token = table.entry("token").or_insert_with(|| Table::new().into());
        token.as_table_mut().unwrap().insert("model".to_owned(), mark.clone().into());
        self.control.set(&table.to_string()).unwrap();
        while !self.info().model.starts_with(mark.as_bytes()) {
            std::thread::yield_now();
        }
    }

    /// What the token says of itself.
    pub(crate) fn info(&self) -> CK_TOKEN_INFO {
        info(self.chaos, self.slot)
    }

    /// A session that reads and writes.
    pub(crate) fn session(&self) -> Session {
        open(self.chaos, self.slot, CKF_RW_SESSION).unwrap()
    }

    pub(crate) fn try_session(&self, flags: CK_FLAGS) -> Result<Session, CK_RV> {
        open(self.chaos, self.slot, flags)
    }

    pub(crate) fn login(&self, session: Session, pin: &str) -> Result<(), CK_RV> {
        call!(self.chaos, C_Login(session, CKU_USER, pin.as_ptr().cast_mut(), pin.len() as CK_ULONG))
    }

    /// A session with the user in it, whatever the PIN's form is.
    pub(crate) fn user(&self) -> Session {
        let session = self.session();
        call!(self.real, C_Login(session, CKU_USER, PIN.as_ptr().cast_mut(), 8)).unwrap();
        session
    }

    /// An AES key that does all that SoftHSM has, and what else is said.
    pub(crate) fn key(&self, session: Session, more: &[Attribute]) -> Result<Object, CK_RV> {
        let mut template = vec![number(CKA_VALUE_LEN, 32)];
        let usages = [CKA_ENCRYPT, CKA_DECRYPT, CKA_WRAP, CKA_UNWRAP].map(|usage| truth(usage, true));
        template.extend(usages);
        template.extend_from_slice(more);
        self.generate(session, &template)
    }

    pub(crate) fn generate(&self, session: Session, template: &[Attribute]) -> Result<Object, CK_RV> {
        let (mut made, mut mechanism) = (0, plain(CKM_AES_KEY_GEN));
        with_template(template, |at, count| {
            call!(self.chaos, C_GenerateKey(session, &raw mut mechanism, at, count, &raw mut made))
        })
        .map(|()| made)
    }

    /// The bytes of an attribute, past the module.
    pub(crate) fn value(&self, session: Session, object: Object, type_: CK_ATTRIBUTE_TYPE) -> Result<Vec<u8>, CK_RV> {
        let mut room = vec![0_u8; 4_096];
        let at: *mut c_void = room.as_mut_ptr().cast();
        let mut attribute = CK_ATTRIBUTE { type_, pValue: at, ulValueLen: room.len() as CK_ULONG };
        call!(self.real, C_GetAttributeValue(session, object, &raw mut attribute, 1))?;
        room.truncate(attribute.ulValueLen as usize);
        Ok(room)
    }

    /// Objects like this.
    pub(crate) fn find(&self, session: Session, like: &[Attribute]) -> Vec<Object> {
        with_template(like, |at, count| call!(self.chaos, C_FindObjectsInit(session, at, count))).unwrap();
        let (mut all, mut some, mut count) = (Vec::new(), [0; 2], 1);
        while count > 0 {
            call!(self.chaos, C_FindObjects(session, some.as_mut_ptr(), 2, &raw mut count)).unwrap();
            all.extend_from_slice(&some[..count as usize]);
        }
        call!(self.chaos, C_FindObjectsFinal(session)).unwrap();
        all
    }

    pub(crate) fn random(&self, session: Session, length: usize) -> Result<(), CK_RV> {
        let mut room = vec![0_u8; length.max(1)];
        call!(self.chaos, C_GenerateRandom(session, room.as_mut_ptr(), length as CK_ULONG))
    }

    /// The numbers of all mechanisms.
    pub(crate) fn mechanisms(&self) -> Vec<CK_MECHANISM_TYPE> {
        let mut count = 0;
        call!(self.chaos, C_GetMechanismList(self.slot, ptr::null_mut(), &raw mut count)).unwrap();
        let mut all = vec![0; count as usize];
        call!(self.chaos, C_GetMechanismList(self.slot, all.as_mut_ptr(), &raw mut count)).unwrap();
        all
    }
}

fn info(list: List, slot: CK_SLOT_ID) -> CK_TOKEN_INFO {
    let mut info = CK_TOKEN_INFO::default();
    call!(list, C_GetTokenInfo(slot, &raw mut info)).unwrap();
    info
}

fn open(list: List, slot: CK_SLOT_ID, flags: CK_FLAGS) -> Result<Session, CK_RV> {
    let mut session = 0;
    let flags = flags | CKF_SERIAL_SESSION;
    call!(list, C_OpenSession(slot, flags, ptr::null_mut(), None, &raw mut session)).map(|()| session)
}

/// Encrypts, after having asked for the length.
pub(crate) fn seal(list: List, session: Session, key: Object, gcm: &mut Gcm, data: &[u8]) -> Result<Vec<u8>, CK_RV> {
    let data = (data.as_ptr().cast_mut(), data.len() as CK_ULONG);
    // The parameters stay until the ciphertext is there: there are tokens that write into them only then.
    gcm.with(|mechanism| {
        call!(list, C_EncryptInit(session, mechanism, key))?;
        let mut length = 0;
        call!(list, C_Encrypt(session, data.0, data.1, ptr::null_mut(), &raw mut length))?;
        let mut out = vec![0_u8; length as usize];
        call!(list, C_Encrypt(session, data.0, data.1, out.as_mut_ptr(), &raw mut length))?;
        out.truncate(length as usize);
        Ok(out)
    })
}

/// Decrypts, after having asked for the length.
pub(crate) fn open_sealed(
    list: List,
    session: Session,
    key: Object,
    gcm: &mut Gcm,
    sealed: &[u8],
) -> Result<Vec<u8>, CK_RV> {
    let data = (sealed.as_ptr().cast_mut(), sealed.len() as CK_ULONG);
    gcm.with(|mechanism| call!(list, C_DecryptInit(session, mechanism, key)))?;
    let mut length = 0;
    call!(list, C_Decrypt(session, data.0, data.1, ptr::null_mut(), &raw mut length))?;
    let mut out = vec![0_u8; length as usize + 1];
    call!(list, C_Decrypt(session, data.0, data.1, out.as_mut_ptr(), &raw mut length))?;
    out.truncate(length as usize);
    Ok(out)
}
