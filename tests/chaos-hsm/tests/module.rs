//! The module over a real token. What happens in a process happens in one of its own: this very program, with the name of
//! what it is to do.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking, and so do the parts that tests share"
)]

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use chaos_hsm::Control;
use cryptoki::context::{CInitializeArgs, CInitializeFlags, Pkcs11};
use cryptoki::mechanism::Mechanism;
use cryptoki::mechanism::aead::GcmParams;
use cryptoki::object::{Attribute, ObjectHandle};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;
use tempfile::TempDir;

const PIN: &str = "1234";
const IV: [u8; 16] = [7; 16];

struct Bench {
    dir: TempDir,
    control: Control,
}

impl Bench {
    fn new() -> Self {
        let dir = TempDir::with_prefix("chaos-hsm-").unwrap();
        fs::create_dir(dir.path().join("tokens")).unwrap();
        let conf =
            format!("directories.tokendir = {}\nobjectstore.backend = file\n", dir.path().join("tokens").display());
        fs::write(dir.path().join("softhsm2.conf"), conf).unwrap();
        let control = Control::open(&dir.path().join("chaos")).unwrap();
        let bench = Self { dir, control };
        bench.does("make a token");
        bench
    }

    fn start(&self, what: &str) -> Command {
        let mut child = Command::new(env::current_exe().unwrap());
        child.args(["--exact", "in_a_process_of_its_own", "--nocapture"]).env("CHAOS_HSM_TEST", what);
        child.env("SOFTHSM2_CONF", self.dir.path().join("softhsm2.conf"));
        child.env("CHAOS_HSM_MODULE", softhsm()).env("CHAOS_HSM_DIR", self.dir.path().join("chaos"));
        child
    }

    fn run(&self, what: &str) -> Output {
        self.start(what).output().unwrap()
    }

    /// What it said, of one that ended well.
    #[track_caller]
    fn does(&self, what: &str) -> String {
        let output = self.run(what);
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{what}: {out}{err}");
        out.lines().find_map(|line| line.split_once("said: ")).map(|(_, said)| said.to_owned()).unwrap_or_default()
    }
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

fn library() -> Pkcs11 {
    let pkcs11 = Pkcs11::new(module()).unwrap();
    pkcs11.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK)).unwrap();
    pkcs11
}

fn token(pkcs11: &Pkcs11) -> Slot {
    pkcs11.get_slots_with_initialized_token().unwrap()[0]
}

fn key(session: &Session) -> ObjectHandle {
    let template = [Attribute::Encrypt(true), Attribute::Decrypt(true), Attribute::ValueLen(32.into())];
    session.generate_key(&Mechanism::AesKeyGen, &template).unwrap()
}

/// What the other tests have done in processes of their own; by itself it does nothing.
#[test]
fn in_a_process_of_its_own() {
    let Ok(what) = env::var("CHAOS_HSM_TEST") else { return };
    let pkcs11 = library();
    let pin: AuthPin = AuthPin::new(PIN.to_owned().into());
    if what == "make a token" {
        let slot = pkcs11.get_slots_with_token().unwrap()[0];
        pkcs11.init_token(slot, &pin, "chaos").unwrap();
        let session = pkcs11.open_rw_session(token(&pkcs11)).unwrap();
        session.login(UserType::So, Some(&pin)).unwrap();
        session.init_pin(&pin).unwrap();
        return;
    }
    if what == "user flags" {
        let info = pkcs11.get_token_info(token(&pkcs11)).unwrap();
        println!("said: locked {}, initialised {}", info.user_pin_locked(), info.user_pin_initialized());
        return;
    }
    let session = pkcs11.open_rw_session(token(&pkcs11)).unwrap();
    if let Err(error) = session.login(UserType::User, Some(&pin)) {
        println!("said: {error}");
        return;
    }
    let key = key(&session);
    let encrypt = || session.encrypt(&Mechanism::AesCbcPad(IV), key, b"plain");
    let decrypt = |sealed: &[u8]| session.decrypt(&Mechanism::AesCbcPad(IV), key, sealed);
    match what.as_str() {
        "round trip" => assert_eq!(decrypt(&encrypt().unwrap()).unwrap(), b"plain"),
        "five encryptions" => {
            let answers: Vec<String> =
                (0..5).map(|_| encrypt().map_or_else(|e| format!("{e:?}"), |_| "ok".into())).collect();
            println!("said: {}", answers.join("; "));
        }
        "a hundred encryptions" => (0..100).for_each(|_| drop(encrypt().unwrap())),
        "random" => println!("said: {:?}", session.generate_random_vec(16).map(|bytes| bytes.len())),
        "sessions" => {
            let more: Vec<_> = (0..5).map_while(|_| pkcs11.open_ro_session(token(&pkcs11)).ok()).collect();
            println!("said: {}", more.len() + 1);
        }
        "gcm" => {
            let seal = || {
                let mut iv = [9; 12];
                let parameters = GcmParams::new(&mut iv, b"aad", 128.into()).unwrap();
                let sealed = session.encrypt(&Mechanism::AesGcm(parameters), key, b"plain").unwrap();
                (iv, sealed)
            };
            let open = |mut iv: [u8; 12], sealed: &[u8]| {
                let parameters = GcmParams::new(&mut iv, b"aad", 128.into()).unwrap();
                session.decrypt(&Mechanism::AesGcm(parameters), key, sealed).is_ok_and(|opened| opened == b"plain")
            };
            let ((iv, sealed), (_, again)) = (seal(), seal());
            let more = sealed.len() - 21;
            println!(
                "said: same {}, written {}, more {more}, opens {}, with the one told {}, with another {}",
                sealed == again,
                iv != [9; 12],
                open([9; 12], &sealed),
                open(if more > 0 { sealed[21..].try_into().unwrap() } else { iv }, &sealed[..21]),
                open([8; 12], &sealed),
            );
        }
        "two ciphertexts" => println!("said: {}", encrypt().unwrap() == encrypt().unwrap()),
        other => panic!("{other} is nothing to do"),
    }
}

#[test]
fn without_rules_it_is_the_real_module() {
    let bench = Bench::new();
    bench.does("round trip");
    assert_eq!((bench.control.calls("C_Encrypt"), bench.control.calls("C_Login")), (1, 2));
    assert_eq!(bench.control.injected_in_all(), 0);
    bench.does("round trip");
    assert_eq!(bench.control.calls("C_Encrypt"), 2, "counted over all processes");
}

#[test]
fn a_code_comes_at_the_calls_that_the_rule_names() {
    let bench = Bench::new();
    let rule = |after| {
        format!(
            "[[rule]]\nfunction = \"C_Encrypt\"\ncalls = {{ from = 2, to = 3 }}\nafter_call = {after}\n\
             fault = {{ code = \"CKR_DEVICE_ERROR\" }}"
        )
    };
    bench.control.set(&rule(true)).unwrap();
    let said = bench.does("five encryptions");
    let failed: Vec<bool> = said.split("; ").map(|answer| answer.contains("DeviceError")).collect();
    assert_eq!(failed, [false, true, true, false, false], "{said}");
    assert!(!said.contains("Active"), "the real operation came to its end: {said}");
    assert_eq!(bench.control.injected("C_Encrypt"), 2);

    let bench = Bench::new();
    bench.control.set(&rule(false)).unwrap();
    let said = bench.does("five encryptions");
    assert!(said.contains("OperationActive"), "the real operation is still begun: {said}");
}

#[test]
fn bytes_are_wrong_and_nothing_says_so() {
    let bench = Bench::new();
    assert_eq!(bench.does("two ciphertexts"), "true", "one IV, one ciphertext");
    let number = bench.control.calls("C_Encrypt") + 2;
    let rule = format!("[[rule]]\nfunction = \"C_Encrypt\"\ncalls = {{ from = {number} }}\nfault = \"wrong-bytes\"");
    bench.control.set(&rule).unwrap();
    assert_eq!(bench.does("two ciphertexts"), "false");
}

#[test]
fn a_crash_ends_the_process() {
    use std::os::unix::process::ExitStatusExt;
    let bench = Bench::new();
    bench.control.set("[[rule]]\nfunction = \"C_Encrypt\"\nfault = \"crash\"").unwrap();
    let status = bench.run("round trip").status;
    assert_eq!(status.signal(), Some(6), "{status}");
}

#[test]
fn what_hangs_goes_on_when_the_rule_is_gone() {
    let bench = Bench::new();
    bench.control.set("[[rule]]\nfunction = \"C_Encrypt\"\nfault = \"hang\"").unwrap();
    let mut child = bench.start("round trip").spawn().unwrap();
    while bench.control.injected("C_Encrypt") == 0 {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it hung");
        std::thread::yield_now();
    }
    assert!(child.try_wait().unwrap().is_none());
    bench.control.clear().unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn tokens_users_and_sessions_can_be_refused() {
    let bench = Bench::new();
    bench.control.set("[[rule]]\nfault = \"pin-locked\"").unwrap();
    assert!(bench.does("round trip").contains("locked"), "the user is locked");
    bench.control.set("[[rule]]\nfunction = \"C_GenerateRandom\"\nfault = \"lost-token\"").unwrap();
    assert!(bench.does("random").contains("TokenNotPresent"));
    bench.control.set("[[rule]]\nfault = { session_limit = 3 }").unwrap();
    assert_eq!(bench.does("sessions"), "3");
    bench.control.clear().unwrap();
    bench.does("round trip");
}

#[test]
fn a_locked_user_shows_in_the_tokens_flags_as_long_as_the_rule_is_there() {
    let bench = Bench::new();
    assert_eq!(bench.does("user flags"), "locked false, initialised true");
    let before = bench.control.injected("C_GetTokenInfo");
    bench.control.set("[[rule]]\nfault = \"pin-locked\"").unwrap();
    assert_eq!(bench.does("user flags"), "locked true, initialised true");
    assert!(bench.control.injected("C_GetTokenInfo") > before);
    bench.control.set("[[rule]]\nfunction = [\"C_Login\", \"C_SetPIN\"]\nfault = \"pin-locked\"").unwrap();
    assert_eq!(bench.does("user flags"), "locked false, initialised true", "the rule does not name the function");
    bench.control.clear().unwrap();
    assert_eq!(bench.does("user flags"), "locked false, initialised true");
}

#[test]
fn a_token_makes_its_own_iv_and_says_so_or_not() {
    let bench = Bench::new();
    for (fault, said) in [
        ("", "same true, written false, more 0, opens true, with the one told true, with another false"),
        ("iv-random", "same false, written false, more 0, opens false, with the one told false, with another false"),
        (
            "iv-written-back",
            "same false, written true, more 0, opens false, with the one told true, with another false",
        ),
        ("iv-appended", "same false, written false, more 12, opens false, with the one told true, with another false"),
        ("iv-fixed", "same true, written false, more 0, opens true, with the one told true, with another true"),
    ] {
        match fault {
            "" => bench.control.clear().unwrap(),
            fault => bench.control.set(&format!("[[rule]]\nfault = \"{fault}\"")).unwrap(),
        }
        assert_eq!(bench.does("gcm"), said, "{fault}");
        // Other mechanisms are as they were.
        bench.does("round trip");
    }
}

#[test]
fn a_network_hsm_does_no_more_than_it_can() {
    let bench = Bench::new();
    bench.control.set("[network]\nservice_ms = 4\nat_once = 1").unwrap();
    let began = fs::metadata(bench.dir.path().join("chaos/control.toml")).unwrap().modified().unwrap();
    let start = || bench.start("a hundred encryptions").spawn().unwrap();
    let mut two = vec![start()];
    // Two that log in at once get errors of SoftHSM's own.
    while bench.control.calls("C_Encrypt") == 0 {
        assert!(two[0].try_wait().unwrap().is_none(), "it ended before it encrypted");
        std::thread::yield_now();
    }
    two.push(start());
    assert!(two.iter_mut().all(|child| child.wait().unwrap().success()));
    // Two hundred operations of 4 ms, one after the other over both processes, and the making of two keys.
    let took = std::time::SystemTime::elapsed(&began).unwrap();
    assert!(took.as_millis() >= 808, "{took:?}");
}

#[test]
fn rules_that_make_no_sense_are_not_put_in_force() {
    let bench = Bench::new();
    assert!(bench.control.set("[[rule]]\nfault = \"explode\"").is_err());
    bench.does("round trip");
}
