//! What goes wrong with tokens, keys, PINs and parents.

use std::fs;

use model::id::{KeyId, KeyVersionId};
use model::profile::{Flags, Meaning, Means, Profile};
use protocol::{Class, Op, Reply, Role, Start, Token};

use super::rig::{LABEL, MADE, PIN, Tokens, Worker, wait_for};

#[test]
fn a_key_deleted_by_another_client_stops_working_within_a_second() {
    let tokens = Tokens::after_ceremony();
    let mut control = tokens.control();
    let (other, _) = control.make_key();
    let mut data = tokens.data();
    let (clock, mut took) = (model::clock::Clock::system(), Vec::new());
    // A machine with much else to do takes its own time, but not each time.
    let key = loop {
        let (key, blob) = control.make_key();
        assert!(data.copy(key, Some(blob.clone())).contains(MADE));
        let id: String = key.to_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
        let (output, deleted) = tokens.pkcs11_tool(&["--delete-object", "--type", "secrkey", "--id", &id]);
        assert!(deleted, "{output}");
        let deleted_at = clock.now();
        wait_for("the key is absent", || data.encrypt(key, b"plaintext", b"").is_err());
        took.push(clock.now() - deleted_at);
        if took.last().is_some_and(|took| *took < std::time::Duration::from_millis(1_500)) {
            break key;
        }
        assert!(took.len() < 5, "{took:?}");
    };
    assert_eq!(data.encrypt(key, b"plaintext", b"").unwrap_err().class, Class::KeyAbsent);
    assert!(data.encrypt(other, b"plaintext", b"").is_ok());
    assert!(matches!(data.call(Op::Probe), Reply::Done));
    assert!(matches!(control.call(Op::List), Reply::Keys(keys) if keys == [other]));
}

#[test]
fn a_key_whose_file_is_removed_is_absent_too() {
    let tokens = Tokens::after_ceremony();
    let mut control = tokens.control();
    let before = objects(&tokens);
    let (key, blob) = control.make_key();
    let mut data = tokens.data();
    assert!(data.copy(key, Some(blob.clone())).contains(MADE));
    for file in objects(&tokens).into_iter().filter(|file| !before.contains(file)) {
        fs::remove_file(file).unwrap();
    }
    wait_for("the key is absent", || data.encrypt(key, b"plaintext", b"").is_err());
    assert_eq!(data.encrypt(key, b"plaintext", b"").unwrap_err().class, Class::KeyAbsent);
    assert!(matches!(data.call(Op::Probe), Reply::Done));
    // Placed again, it works again, in the same processes.
    assert!(matches!(control.call(Op::Destroy(key)), Reply::Done));
    control.place(key, &blob);
    assert!(data.encrypt(key, b"plaintext", b"").is_ok());
}

/// Whoever wants more room than there is leaves the operation active, in cryptoki's calls and in keystored's own.
#[test]
fn a_module_that_wants_far_more_room_leaves_no_operation_behind() {
    let mut tokens = Tokens::after_ceremony();
    let (key, _) = tokens.control().make_key();
    let control = tokens.count_calls();
    for (function, iv_bits) in [("C_Encrypt", 96), ("C_Encrypt", 0), ("C_Decrypt", 96), ("C_Decrypt", 0)] {
        let (from, met) = (control.calls(function) + 1, control.injected(function));
        // As often as it is tried.
        let rule = format!(
            "[[rule]]\nfunction = [\"{function}\"]\ncalls = {{ from = {from}, to = {} }}\n\
             fault = {{ code = \"CKR_BUFFER_TOO_SMALL\" }}",
            from + 1
        );
        control.set(&rule).unwrap();
        let mut start = tokens.start(Role::Data);
        start.capabilities.gcm.iv_bits = iv_bits;
        let mut data = tokens.worker(start).unwrap();
        let act = |data: &mut Worker| match function {
            "C_Encrypt" => data.encrypt(key, b"plaintext", b"").map(drop),
            _ => {
                let sealed = data.encrypt(key, b"plaintext", b"").unwrap();
                data.decrypt(key, &sealed, b"").map(drop)
            }
        };
        assert_eq!(act(&mut data).unwrap_err().class, Class::Session, "{function} {iv_bits}");
        assert_eq!(control.injected(function), met + 2, "{function} {iv_bits}");
        let begun = control.calls(&format!("{function}Init"));
        act(&mut data).unwrap();
        assert_eq!(control.calls(&format!("{function}Init")), begun + 1, "{function} {iv_bits}: the session is sound");
        assert!(data.stop().success());
    }
}

/// As where several HSMs stand behind one client software, and one of them is down.
#[test]
fn a_token_is_found_beside_one_that_cannot_be_asked() {
    let mut tokens = Tokens::after_ceremony();
    tokens.init_token("another");
    let control = tokens.count_calls();
    let asked = || control.calls("C_GetTokenInfo");
    let start = || Start { start_timeout_ms: 1_000, ..tokens.start(Role::Data) };
    let before = asked();
    assert!(tokens.found(start()).unwrap().0.stop().success());
    let slots = asked() - before;
    assert!(slots > 1, "{slots}");
    // One slot of them fails each time; which of them is the token's own depends on its serial number.
    let found = (1..=slots).filter(|failing| {
        let calls = (0..50).map(|round| asked() + failing + round * slots);
        let rule = |call| {
            format!(
                "[[rule]]\nfunction = \"C_GetTokenInfo\"\ncalls = {{ from = {call}, to = {call} }}\n\
                 fault = {{ code = \"CKR_DEVICE_ERROR\" }}\n"
            )
        };
        control.set(&calls.map(rule).collect::<String>()).unwrap();
        match tokens.found(start()) {
            Ok((worker, ready)) => {
                assert_eq!(ready.label, LABEL);
                worker.stop().success()
            }
            Err(fault) => {
                assert!(fault.function == "C_GetTokenInfo" && fault.class == Class::Token, "{fault}");
                assert!(fault.to_string().contains("one that cannot be asked"), "{fault}");
                false
            }
        }
    });
    assert_eq!(found.count() as u64, slots - 1);
}

/// A worker that collected all that it is shown would grow for as long as it is let live.
#[test]
fn a_search_without_an_end_is_the_tokens_trouble_and_fills_no_memory() {
    let mut tokens = Tokens::after_ceremony();
    let (key, _) = tokens.control().make_key();
    let control = tokens.count_calls();
    let mut data = tokens.data();
    let (mut another, _) = tokens.found(tokens.start(Role::Control)).unwrap();
    control.set("[[rule]]\nfault = \"endless-search\"").unwrap();
    let fault = data.encrypt(key_of_nobody(), b"plaintext", b"").unwrap_err();
    assert_eq!((fault.class, &*fault.function), (Class::Token, "C_FindObjects"), "{fault}");
    assert!(fault.to_string().contains("has no end"), "{fault}");
    let listed = another.login(PIN).err().unwrap();
    assert_eq!((listed.class, &*listed.function), (Class::Token, "C_FindObjects"), "{listed}");
    control.clear().unwrap();
    assert!(data.encrypt(key, b"plaintext", b"").is_ok(), "the same worker goes on");
    assert!(data.stop().success());
}

/// A key that no token holds.
fn key_of_nobody() -> KeyVersionId {
    KeyVersionId { key: KeyId::random(), version: 1 }
}

#[test]
fn a_lost_token_is_the_tokens_trouble_not_the_keys() {
    let tokens = Tokens::after_ceremony();
    let mut control = tokens.control();
    let (key, blob) = control.make_key();
    let mut data = tokens.data();
    assert!(data.copy(key, Some(blob.clone())).contains(MADE));
    let (here, away) = (tokens.token_dir(), tokens.dir.path().join("away"));
    fs::rename(&here, &away).unwrap();
    wait_for("the token is lost", || data.encrypt(key, b"plaintext", b"").is_err());
    assert_eq!(data.encrypt(key, b"plaintext", b"").unwrap_err().class, Class::Token);
    assert_eq!(data.fault(Op::Probe).class, Class::Token);
    assert_eq!(control.fault(Op::List).class, Class::Token);
    assert_eq!(control.fault(Op::Destroy(key)).class, Class::Token, "not: there is none");
    fs::rename(&away, &here).unwrap();
    let mut after = tokens.data();
    assert!(after.encrypt(key, b"plaintext", b"").is_ok());
}

#[test]
fn a_key_gone_together_with_the_canary_is_the_tokens_trouble() {
    let tokens = Tokens::after_ceremony();
    let (key, _) = tokens.control().make_key();
    let mut data = tokens.data();
    for file in objects(&tokens) {
        fs::remove_file(file).unwrap();
    }
    assert_eq!(data.encrypt(key, b"plaintext", b"").unwrap_err().class, Class::Token);
    assert_eq!(data.fault(Op::Probe).class, Class::Token);
}

#[test]
fn a_wrong_pin_is_tried_once_and_a_missing_token_until_the_time_is_over() {
    let tokens = Tokens::new();
    let refused = tokens.worker_with(tokens.start(Role::Data), "wrong-pin").err().unwrap();
    assert_eq!((refused.class, &*refused.function), (Class::Login, "C_Login"));

    let mut start = tokens.start(Role::Data);
    start.token = Some(Token { label: "no such token".into(), serials: Vec::new() });
    start.start_timeout_ms = 100;
    let fault = tokens.worker(start).err().unwrap();
    assert_eq!(fault.class, Class::Token);
    assert!(fault.to_string().contains("no such token") && fault.to_string().contains(LABEL), "{fault}");

    let mut start = tokens.start(Role::Data);
    start.module = "/nonexistent/module.so".into();
    let fault = tokens.worker(start).err().unwrap();
    assert!(fault.to_string().contains("/nonexistent/module.so"), "{fault}");
}

/// A token with somebody logged in already says so and looks at no PIN.
#[test]
fn a_wrong_pin_passes_for_no_right_one_where_somebody_is_logged_in() {
    let mut tokens = Tokens::new();
    let control = tokens.count_calls();
    for (after_call, pin, class) in [(false, "wrong-pin", Some(Class::Login)), (true, PIN, None), (false, PIN, None)] {
        let next = control.calls("C_Login") + 1;
        let rule = format!(
            "[[rule]]\nfunction = \"C_Login\"\ncalls = {{ from = {next}, to = {next} }}\nafter_call = {after_call}\n\
             fault = {{ code = \"CKR_USER_ALREADY_LOGGED_IN\" }}\n"
        );
        control.set(&rule).unwrap();
        let outcome = tokens.worker_with(tokens.start(Role::Data), pin);
        assert_eq!(outcome.err().map(|fault| fault.class), class, "{pin} {after_call}");
    }
}

/// Where the one who is logged in is not logged out, no PIN was looked at. A token that cannot log anybody out has let its user in
/// by other means.
#[test]
fn a_pin_that_nobody_has_looked_at_is_not_taken_for_the_right_one() {
    let mut tokens = Tokens::new();
    let control = tokens.count_calls();
    for (code, class) in [
        ("CKR_GENERAL_ERROR", Some(Class::Token)),
        ("CKR_USER_NOT_LOGGED_IN", Some(Class::Token)),
        ("CKR_FUNCTION_NOT_SUPPORTED", None),
    ] {
        let next = control.calls("C_Login") + 1;
        let rules = format!(
            "[[rule]]\nfunction = \"C_Login\"\ncalls = {{ from = {next}, to = {} }}\nafter_call = true\n\
             fault = {{ code = \"CKR_USER_ALREADY_LOGGED_IN\" }}\n\
             [[rule]]\nfunction = \"C_Logout\"\nfault = {{ code = \"{code}\" }}\n",
            next + 1
        );
        control.set(&rules).unwrap();
        let outcome = tokens.worker_with(tokens.start(Role::Data), PIN);
        assert_eq!(outcome.err().map(|fault| (fault.class, fault.code)), class.map(|class| (class, 0)), "{code}");
    }
}

/// One more wrong PIN would lock the user, or so the flags say: that is believed where they tell anything.
#[test]
fn flags_that_tell_nothing_decide_nothing() {
    let mut tokens = Tokens::new();
    let control = tokens.count_calls();
    control.set("[login]\ntries = 3\nflags = \"truth\"").unwrap();
    for _ in 0..2 {
        assert_eq!(tokens.worker_with(tokens.start(Role::Data), "wrong-pin").err().unwrap().class, Class::Login);
    }
    let fault = tokens.worker(tokens.start(Role::Data)).err().unwrap();
    assert_eq!((fault.class, fault.code), (Class::Login, 0));
    assert!(fault.to_string().contains("not attempted"), "{fault}");
    let mut start = tokens.start(Role::Data);
    start.capabilities.login.flags = Flags::AlwaysSet;
    assert!(tokens.worker(start).is_ok());
}

/// A wrong PIN and a locked user under codes that the standard has for other things.
#[test]
fn a_refused_login_is_told_by_the_hsms_own_codes() {
    let mut tokens = Tokens::new();
    let control = tokens.count_calls();
    let habits = "[login]\ntries = 1\nflags = \"silent\"\nwrong_pin = \"CKR_FUNCTION_FAILED\"\nlocked = \"CKR_FUNCTION_REJECTED\"";
    control.set(habits).unwrap();
    let meaning = |code, means| Meaning { functions: vec!["C_Login".to_owned()], code, means };
    for (pin, class) in [("wrong-pin", Class::Login), (PIN, Class::Locked)] {
        let mut start = tokens.start(Role::Data);
        start.capabilities.codes.meaning = vec![meaning(0x06, Means::Login), meaning(0x200, Means::Locked)];
        assert_eq!(tokens.worker_with(start, pin).err().unwrap().class, class);
    }
}

#[test]
fn two_tokens_with_one_label_need_a_serial() {
    let tokens = Tokens::empty();
    let first = tokens.init_token(LABEL);
    let aside = tokens.dir.path().join("aside");
    let here = tokens.token_dir();
    fs::rename(&here, &aside).unwrap();
    let second = tokens.init_token(LABEL);
    fs::rename(&aside, &here).unwrap();
    let fault = tokens.worker(tokens.start(Role::Data)).err().unwrap();
    assert_eq!(fault.class, Class::Refused);
    assert!(fault.to_string().contains(&first) && fault.to_string().contains(&second), "{fault}");
    let mut start = tokens.start(Role::Data);
    start.token = Some(Token { label: LABEL.into(), serials: vec!["another".into(), second.clone()] });
    assert_eq!(tokens.ready(start).1.serial, second);
}

#[test]
fn a_worker_leaves_cleanly_when_its_parent_goes_in_the_middle_of_work() {
    let tokens = Tokens::after_ceremony();
    let (key, _) = tokens.control().make_key();
    for profile in [Profile::SoftHsm, Profile::Generic] {
        let mut start = tokens.start(Role::Data);
        start.capabilities = config::capabilities(profile).unwrap();
        start.sessions = 3;
        let mut data = tokens.worker(start).unwrap();
        data.encrypt(key, b"plaintext", b"").unwrap();
        for _ in 0..200 {
            data.request(Op::Random { length: 1_024 });
        }
        assert!(data.stop().success());
    }
}

#[test]
fn a_worker_stuck_in_the_module_leaves_all_the_same() {
    let tokens = Tokens::after_ceremony();
    let mut data = tokens.data();
    let generation = tokens.token_dir().join("generation");
    let lock = fs::File::options().read(true).write(true).open(generation).unwrap();
    rustix::fs::fcntl_lock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
    data.request(Op::Probe);
    let pid = data.pid();
    wait_for("the probe hangs", || {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap();
        let mut waits = tasks.map(|task| fs::read_to_string(task.unwrap().path().join("syscall")).unwrap_or_default());
        // 72 is fcntl on x86-64.
        waits.any(|call| call.starts_with("72 "))
    });
    assert_eq!(data.stop().code(), Some(75));
}

#[test]
fn stop_signals_are_the_parents_business() {
    let tokens = Tokens::after_ceremony();
    let mut data = tokens.data();
    let pid = rustix::process::Pid::from_raw(i32::try_from(data.pid()).unwrap()).unwrap();
    use rustix::process::Signal;
    // The last two come of writes: to a pipe that nobody reads any more, to a file that may not grow.
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::PIPE, Signal::XFSZ] {
        rustix::process::kill_process(pid, signal).unwrap();
    }
    assert!(matches!(data.call(Op::Probe), Reply::Done));
    assert!(data.stop().success());
}

#[test]
fn confinement_is_reported_or_in_force() {
    let tokens = Tokens::after_ceremony();
    let (worker, ready, _) = tokens.ready(tokens.start(Role::Data));
    let status = fs::read_to_string(format!("/proc/{}/status", worker.pid())).unwrap();
    let seccomp = status.lines().any(|line| line.starts_with("Seccomp:") && line.ends_with('2'));
    eprintln!("degraded: {:?}, seccomp in force: {seccomp}", ready.degraded);
    assert_eq!(seccomp, !ready.degraded.iter().any(|sentence| sentence.contains("seccomp")));
    let core = fs::read_to_string(format!("/proc/{}/limits", worker.pid())).unwrap();
    assert!(core.lines().any(|line| line.starts_with("Max core file size") && line.contains(" 0 ")), "{core}");

    let mut start = tokens.start(Role::Data);
    start.sandbox = None;
    let (_, ready, _) = tokens.ready(start);
    assert!(ready.degraded.iter().any(|sentence| sentence.contains("NOT confined")), "{:?}", ready.degraded);
}

fn objects(tokens: &Tokens) -> Vec<std::path::PathBuf> {
    let entries = fs::read_dir(tokens.token_dir()).unwrap().map(|entry| entry.unwrap().path());
    entries
        .filter(|path| path.extension().is_some_and(|kind| kind == "object"))
        .filter(|path| !path.ends_with("token.object"))
        .collect()
}
