//! The self-test at the gate, on tokens that do as their profile says and on some that contradict it in each way: each is
//! found, with the setting that would be right, and is as it should be with that setting.

use chaos_hsm::Control;
use model::profile::examination::Examined;
use model::profile::judgement::{Verdict, judge};
use model::profile::{
    Capabilities, IvBy, LeftOut, Meaning, Means, Objects, Optional, PinForm, Profile, UnwrapTemplate,
};
use protocol::{Class, Measure, Op, Reply, Role, Start};

use super::rig::{Tokens, Worker};

/// Sessions that a process is to have.
const SESSIONS: u16 = 8;

fn examine(worker: &mut Worker) -> Examined {
    match worker.call(Op::Examine { sessions: SESSIONS }) {
        Reply::Examined(found) => *found,
        other => panic!("{other:?}\n{}", worker.log()),
    }
}

/// A token, and a module that can be told what to do.
fn told() -> (Tokens, Control) {
    let mut tokens = Tokens::after_ceremony();
    let control = tokens.count_calls();
    (tokens, control)
}

/// A logged-in worker whose token is said to do so.
fn worker(tokens: &Tokens, role: Role, of: &Capabilities) -> Worker {
    tokens.worker(Start { capabilities: of.clone(), ..tokens.start(role) }).unwrap()
}

fn softhsm() -> Capabilities {
    config::capabilities(Profile::SoftHsm).unwrap()
}

/// What contradicts, in names and in words.
fn against(of: &Capabilities, found: &Examined) -> (Vec<&'static str>, String) {
    let judgement = judge(of, found);
    let out = |verdict| verdict == Verdict::Contradicts;
    let names = judgement.findings.iter().filter(|finding| out(finding.verdict)).map(|finding| finding.name);
    (names.collect(), judgement.contradiction().unwrap_or_default())
}

#[test]
fn a_token_that_is_as_its_profile_says_is_found_so_and_left_as_it_was() {
    let (tokens, control) = told();
    for role in [Role::Control, Role::Data] {
        let mut worker = worker(&tokens, role, &softhsm());
        let calls = |function| control.calls(function);
        let (opened, closed, all) = (calls("C_OpenSession"), calls("C_CloseSession"), calls("C_GetTokenInfo"));
        let judgement = judge(&softhsm(), &examine(&mut worker));
        for finding in &judgement.findings {
            assert!(matches!(finding.verdict, Verdict::Holds | Verdict::Better), "{role:?} {finding:?}");
        }
        // Objects of a session go with it.
        assert_eq!(calls("C_OpenSession") - opened, calls("C_CloseSession") - closed, "{role:?}");
        assert!(calls("C_GetTokenInfo") - all < 10, "it is asked for what is refused, and for little else");
        assert!(worker.stop().success());
    }
    let (listed, _) = tokens.pkcs11_tool(&["--list-objects"]);
    assert!(!listed.contains("kkkk"), "nothing of it is in the token: {listed}");
}

/// Nothing is searched for: that would take as long as the token has objects.
#[test]
fn it_searches_for_nothing_and_asks_for_little() {
    let (tokens, control) = told();
    let mut worker = worker(&tokens, Role::Control, &softhsm());
    let before = control.calls("C_FindObjectsInit");
    examine(&mut worker);
    assert_eq!(control.calls("C_FindObjectsInit"), before);
    assert!(control.calls("C_GenerateKey") + control.calls("C_UnwrapKey") < 40);
}

/// A contradiction: what the module does, what is said of it, and what is to be said instead.
struct Row {
    does: &'static str,
    name: &'static str,
    words: &'static [&'static str],
    mend: Option<fn(&mut Capabilities)>,
}

fn left_out(name: Optional) -> LeftOut {
    LeftOut { functions: vec!["*".to_owned()], objects: vec![Objects::SecretKey], names: vec![name] }
}

fn check(rows: &[Row]) {
    let (tokens, control) = told();
    for Row { does, name, words, mend } in rows {
        control.set(does).unwrap();
        let of = softhsm();
        let (names, said) = against(&of, &examine(&mut worker(&tokens, Role::Control, &of)));
        assert!(names.contains(name), "{does}: {names:?}: {said}");
        for words in *words {
            assert!(said.contains(words), "{does}: {words}: {said}");
        }
        let Some(mend) = mend else {
            control.clear().unwrap();
            continue;
        };
        let mut mended = of;
        mend(&mut mended);
        let (names, said) = against(&mended, &examine(&mut worker(&tokens, Role::Control, &mended)));
        assert!(names.is_empty(), "{does}, with what was said: {names:?}: {said}");
        control.clear().unwrap();
    }
}

#[test]
fn ivs_of_another_way_are_named() {
    check(&[
        Row {
            does: "[gcm]\niv = \"ignored\"",
            name: "gcm.iv",
            words: &["uses another IV", "no value of capabilities.gcm.iv"],
            mend: None,
        },
        Row {
            does: "[[rule]]\nfunction = [\"C_EncryptInit\", \"C_DecryptInit\"]\nfault = \"iv-fixed\"",
            name: "gcm.iv",
            words: &["takes no account of the IV", "no value of capabilities.gcm.iv"],
            mend: None,
        },
        Row {
            does: "[gcm]\niv = \"zeroed-writeback\"",
            name: "gcm.iv",
            words: &[
                "`capabilities.gcm.iv = \"zeroed-writeback\"` would be right here: the token filled the IV in itself",
            ],
            mend: Some(|of| of.gcm.iv = IvBy::ZeroedWriteback),
        },
        Row {
            does: "[gcm]\niv = \"null-appended\"\niv_length = 12\niv_bits = [0, 96]",
            name: "gcm.iv",
            words: &["`capabilities.gcm.iv = \"null-appended\"` would be right here"],
            mend: Some(|of| of.gcm.iv = IvBy::NullAppended),
        },
        Row {
            does: "[gcm]\niv = \"null-prepended\"",
            name: "gcm.iv",
            words: &["`capabilities.gcm.iv = \"null-prepended\"` would be right here"],
            mend: Some(|of| of.gcm.iv = IvBy::NullPrepended),
        },
        Row {
            does: "[gcm]\niv = \"caller\"\niv_bits = [0]\ndecrypt_iv_bits = [0]",
            name: "gcm.iv",
            words: &["`capabilities.gcm.iv_bits = 0` would be right here"],
            mend: Some(|of| of.gcm.iv_bits = 0),
        },
        Row { does: "[gcm]\nmax_aad = 4096", name: "gcm.plaintext_max", words: &["8,213", "no setting"], mend: None },
    ]);
}

#[test]
fn wrapping_by_another_number_is_named() {
    check(&[
        Row {
            does: "[mechanisms]\nhidden = [\"CKM_AES_KEY_WRAP\"]\n[mechanisms.map]\n0x80000170 = \"CKM_AES_KEY_WRAP\"",
            name: "wrap.key_wrap",
            words: &["`capabilities.wrap.key_wrap = 0x80000170` would be right here"],
            mend: Some(|of| of.wrap.key_wrap = 0x8000_0170),
        },
        Row {
            does: "[wrap]\nvalue_len = \"demanded\"",
            name: "wrap.key_wrap",
            words: &["`capabilities.wrap.value_len = true` would be right here"],
            mend: Some(|of| of.wrap.value_len = true),
        },
        Row {
            does: "[mechanisms]\nhidden = [\"CKM_AES_KEY_WRAP\"]",
            name: "wrap.key_wrap",
            words: &["no number of AES key wrap"],
            mend: None,
        },
        Row {
            does: "[wrap]\noaep_hash = [\"CKM_SHA256\"]",
            name: "wrap.oaep_hash",
            // SoftHSM has no other.
            words: &["RSA-OAEP", "no value of capabilities.wrap.oaep_hash"],
            mend: None,
        },
    ]);
}

#[test]
fn what_is_not_enforced_is_named() {
    check(&[
        Row {
            does: "[wrap]\ntemplate = \"dropped\"",
            name: "wrap.unwrap_template",
            words: &["does not enforce it", "`capabilities.wrap.unwrap_template = \"none\"` would be right here"],
            mend: Some(|of| of.wrap.unwrap_template = UnwrapTemplate::None),
        },
        Row {
            does: "[wrap]\ntemplate = \"none\"",
            name: "wrap.unwrap_template",
            words: &["does not take CKA_UNWRAP_TEMPLATE", "`capabilities.wrap.unwrap_template = \"none\"`"],
            mend: Some(|of| of.wrap.unwrap_template = UnwrapTemplate::None),
        },
        Row {
            does: "[attributes.mechanisms]\nignore = [\"CKA_ALLOWED_MECHANISMS\"]",
            name: "CKA_ALLOWED_MECHANISMS",
            words: &["encrypts by AES-ECB", "names = [\"CKA_ALLOWED_MECHANISMS\"]"],
            mend: Some(|of| of.attributes.left_out.push(left_out(Optional::AllowedMechanisms))),
        },
        Row {
            does: "[attributes.open]\nclass = [\"secret-key\"]\nforce = { CKA_SENSITIVE = false }",
            name: "CKA_SENSITIVE",
            words: &["shows the value", "no setting"],
            mend: None,
        },
        Row {
            does: "[attributes.open]\nfunction = [\"C_UnwrapKey\"]\nforce = { CKA_EXTRACTABLE = true }",
            name: "CKA_EXTRACTABLE",
            words: &["CKA_EXTRACTABLE = false", "no setting"],
            mend: None,
        },
    ]);
}

#[test]
fn what_is_refused_is_named() {
    check(&[
        Row {
            does: "[attributes.few]\nfunction = [\"C_UnwrapKey\"]\nclass = [\"secret-key\"]\nrefuse = [\"CKA_DESTROYABLE\"]",
            name: "attributes.left_out",
            words: &["names = [\"CKA_DESTROYABLE\"]", "would be right"],
            mend: Some(|of| of.attributes.left_out.push(left_out(Optional::Destroyable))),
        },
        Row {
            does: "[attributes.short]\nclass = [\"secret-key\"]\nmax_length = { CKA_LABEL = 64 }",
            name: "attributes.label_max",
            words: &["`capabilities.attributes.label_max = 64` would be right here"],
            mend: Some(|of| of.attributes.label_max = 64),
        },
        Row {
            does: "[calls]\nread_only_sessions = \"CKR_FUNCTION_FAILED\"",
            name: "calls.read_only_sessions",
            words: &["`capabilities.calls.read_only_sessions = false` would be right here"],
            mend: Some(|of| of.calls.read_only_sessions = false),
        },
        Row {
            does: "[calls]\nrandom = [8, 1024]",
            name: "calls.random_bytes",
            words: &["`capabilities.calls.random_bytes = 1024` would be right here"],
            mend: Some(|of| of.calls.random_bytes = 1_024),
        },
        Row {
            does: "[calls]\nsessions = 6",
            name: "run.sessions",
            words: &["no more than 6 sessions", "`sessions = 2` would be right here"],
            mend: None,
        },
        Row {
            does: "[calls.refused]\nC_CopyObject = \"CKR_FUNCTION_NOT_SUPPORTED\"",
            name: "calls.copy_object",
            words: &["`capabilities.calls.copy_object = false` would be right here"],
            mend: Some(|of| of.calls.copy_object = false),
        },
        Row {
            does: "[codes.C_Decrypt]\nCKR_GENERAL_ERROR = \"CKR_DEVICE_MEMORY\"",
            name: "codes.meaning",
            words: &["{ functions = [\"C_Decrypt\"], code = 0x31, means = \"ambiguous\" }"],
            mend: Some(|of| {
                let functions = vec!["C_Decrypt".to_owned()];
                of.codes.meaning.insert(0, Meaning { functions, code: 0x31, means: Means::Ambiguous });
            }),
        },
    ]);
}

/// What is written of an HSM from documents is how its personality is played.
#[test]
fn personalities_are_as_their_profiles_say() {
    let (tokens, control) = told();
    let rest = "[login]\nmust_change = false\n";
    for (profile, personality, more, change) in [
        (Profile::CloudHsm, "cloudhsm", "", None),
        (Profile::Luna, "luna", "", None),
        (Profile::LunaFips, "luna-fips", "", None),
        (Profile::LunaHa, "luna-ha", "", None),
        (Profile::NShield, "nshield", "", None),
        (Profile::Utimaco, "utimaco", "", None),
        (Profile::Utimaco, "utimaco-fips", "", Some(IvBy::ZeroedWriteback)),
        (Profile::Generic, "softhsm", "", None),
    ] {
        control.set(&format!("personality = \"{personality}\"\n{rest}{more}")).unwrap();
        let mut of = config::capabilities(profile).unwrap();
        if let Some(iv) = change {
            of.gcm.iv = iv;
        }
        if of.login.pin_form == PinForm::UserAndPin {
            assert!(!of.login.user.is_empty());
        }
        let mut worker = worker(&tokens, Role::Control, &of);
        let (names, said) = against(&of, &examine(&mut worker));
        assert!(names.is_empty(), "{personality}: {names:?}: {said}");
    }
}

/// What is not judged, by name. Nothing contradicts.
fn not_judged(of: &Capabilities, found: &Examined) -> Vec<&'static str> {
    let judgement = judge(of, found);
    assert_eq!(judgement.contradiction(), None, "{judgement:?}");
    judgement.not_judged()
}

/// A token that says it of a function each time.
fn always(function: &str, code: &str) -> String {
    format!("[[rule]]\nfunction = \"{function}\"\nfault = {{ code = \"{code}\" }}")
}

/// The same of some calls in a row, from the next one on.
fn next(control: &Control, function: &str, calls: u64, code: &str) -> String {
    let from = control.calls(function) + 1;
    let to = from + calls - 1;
    let calls = format!("{{ from = {from}, to = {to} }}");
    format!("[[rule]]\nfunction = \"{function}\"\ncalls = {calls}\nfault = {{ code = \"{code}\" }}")
}

/// SoftHSM, whose code of throttling is CloudHSM's, with CloudHSM's classes.
fn throttled() -> Capabilities {
    let mut of = softhsm();
    let mut means = |functions: &[&str], means| {
        let functions = functions.iter().map(|function| (*function).to_owned()).collect();
        of.codes.meaning.insert(0, Meaning { functions, code: 0x06, means });
    };
    means(&["C_EncryptInit", "C_GenerateRandom", "C_GenerateKey", "C_WrapKey", "C_OpenSession"], Means::Busy);
    means(&["C_Decrypt", "C_UnwrapKey"], Means::AmbiguousOrBusy);
    of
}

/// What may be a sign of too much to do is waited out, and where it does not end, it is held against nobody.
#[test]
fn a_token_that_may_be_busy_is_not_judged() {
    const BUSY: &str = "CKR_FUNCTION_FAILED";
    let (tokens, control) = told();
    let of = throttled();
    let mut worker = worker(&tokens, Role::Control, &of);
    for (function, names) in [
        ("C_EncryptInit", &["gcm.iv", "CKA_ALLOWED_MECHANISMS"][..]),
        ("C_Decrypt", &["gcm.iv"]),
        ("C_UnwrapKey", &["wrap.key_wrap", "wrap.oaep_hash"]),
        ("C_WrapKey", &["wrap.key_wrap", "wrap.oaep_hash"]),
        ("C_OpenSession", &["run.sessions"]),
    ] {
        // Two in a row, as from one that is throttled for a moment.
        control.set(&next(&control, function, 2, BUSY)).unwrap();
        assert_eq!(not_judged(&of, &examine(&mut worker)), Vec::<&str>::new(), "{function} twice");
        control.set(&always(function, BUSY)).unwrap();
        assert_eq!(not_judged(&of, &examine(&mut worker)), names, "{function} each time");
        control.clear().unwrap();
    }
    assert_eq!(not_judged(&of, &examine(&mut worker)), Vec::<&str>::new());
}

/// An HSM whose word for a wrong tag is its word for too much to do, as CloudHSM's may be: it is let in, and that is not
/// taken for known.
#[test]
fn a_refusal_that_may_be_throttling_keeps_nobody_out() {
    let (tokens, control) = told();
    control.set("[codes.C_Decrypt]\nCKR_GENERAL_ERROR = \"CKR_FUNCTION_FAILED\"").unwrap();
    let of = throttled();
    let found = examine(&mut worker(&tokens, Role::Control, &of));
    assert_eq!(not_judged(&of, &found), ["codes.meaning"]);
    assert!(judge(&of, &found).findings.iter().any(|one| one.name == "gcm.iv" && one.verdict == Verdict::Holds));
    // The same where a key is refused what it must not do: it is not taken for enforced.
    control.set("[codes.C_WrapKey]\nCKR_KEY_UNEXTRACTABLE = \"CKR_FUNCTION_FAILED\"").unwrap();
    let found = examine(&mut worker(&tokens, Role::Control, &of));
    assert_eq!(not_judged(&of, &found), ["CKA_EXTRACTABLE"]);
}

/// One call in ten is throttled, of all that CloudHSM throttles.
#[test]
fn throttling_contradicts_no_profile() {
    let (tokens, control) = told();
    let of = config::capabilities(Profile::CloudHsm).unwrap();
    let personality = "personality = \"cloudhsm\"\n[login]\nmust_change = false\n";
    control.set(personality).unwrap();
    let mut worker = worker(&tokens, Role::Control, &of);
    let functions = "[\"C_EncryptInit\", \"C_Encrypt\", \"C_DecryptInit\", \"C_Decrypt\", \"C_UnwrapKey\", \
                     \"C_WrapKey\", \"C_GenerateKey\", \"C_GenerateRandom\"]";
    for seed in 1..=4 {
        let rule = format!(
            "[[rule]]\nfunction = {functions}\nprobability = 0.1\nfault = {{ code = \"CKR_FUNCTION_FAILED\" }}"
        );
        control.set(&format!("seed = {seed}\n{personality}{rule}")).unwrap();
        not_judged(&of, &examine(&mut worker));
    }
}

/// What may pass otherwise is not held against a token: it is examined again.
#[test]
fn a_token_that_is_in_trouble_is_not_judged() {
    let (tokens, control) = told();
    let of = softhsm();
    let mut worker = worker(&tokens, Role::Control, &of);
    // One that is lost is not judged either.
    control.set("[[rule]]\nfault = \"lost-token\"").unwrap();
    assert_eq!(worker.fault(Op::Examine { sessions: SESSIONS }).class, Class::Token);
    // And what fails once is tried once more, in a process that has not lost it.
    control.clear().unwrap();
    let mut worker = self::worker(&tokens, Role::Control, &of);
    for function in ["C_EncryptInit", "C_WrapKey", "C_CopyObject", "C_GenerateRandom", "C_OpenSession"] {
        let before = control.calls(function);
        control.set(&next(&control, function, 1, "CKR_DEVICE_ERROR")).unwrap();
        assert_eq!(against(&of, &examine(&mut worker)).0, Vec::<&str>::new(), "{function}");
        assert!(control.calls(function) > before + 1, "it was asked again");
    }
}

#[test]
fn a_token_describes_itself_and_is_measured() {
    let tokens = Tokens::after_ceremony();
    let mut worker = tokens.control();
    let Reply::Described(described) = worker.call(Op::Describe) else { panic!("no description") };
    assert!(described.library.manufacturer.contains("SoftHSM"), "{described:?}");
    assert_eq!(described.token.label, super::rig::LABEL);
    assert!(described.token.flags.iter().any(|flag| flag == "CKF_RNG"), "{described:?}");
    let gcm = described.mechanisms.iter().find(|seen| seen.name == "CKM_AES_GCM").unwrap();
    assert!(gcm.listed && gcm.flags.iter().any(|flag| flag == "CKF_ENCRYPT"), "{gcm:?}");
    for what in Measure::ALL {
        for sessions in [1, 3] {
            match worker.call(Op::Measure { what, sessions }) {
                Reply::Measured(speed) => {
                    assert!(speed.times >= u64::from(sessions) && speed.nanos > 0, "{what:?} {speed:?}");
                }
                other => panic!("{what:?}: {other:?}"),
            }
        }
    }
    assert!(worker.stop().success());
    let mut data = tokens.data();
    let refused = [Op::Describe, Op::Measure { what: Measure::Encrypt, sessions: 1 }];
    assert!(refused.into_iter().all(|op| data.fault(op).class == Class::Refused), "callers keep their sessions");
}
