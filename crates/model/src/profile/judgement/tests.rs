//! Every answer that an examination can have, under every capability that it is held against.

use super::super::examination::{Kept, KeyWrapBy};
use super::super::{Attributes, Calls, LeftOut, Objects, UnwrapTemplate, Wrap};
use super::*;

const SAID: &str = "C_Some: CKR_SOME";

fn fails() -> Tried {
    Tried::Fails(SAID.to_owned())
}

fn setting<T>(instead: Option<T>) -> Setting<T> {
    Setting { as_said: fails(), instead, unjudged: None }
}

fn standard() -> Capabilities {
    Capabilities::standard()
}

/// Of which one thing was found.
fn only(change: impl FnOnce(&mut Examined)) -> Examined {
    let mut examined = Examined::default();
    change(&mut examined);
    examined
}

fn of(judgement: &Judgement, name: &str) -> Finding {
    judgement.findings.iter().find(|finding| finding.name == name).unwrap().clone()
}

/// The verdict on one thing, with words of its sentence; everything else was not tried and is no matter.
fn check(capabilities: &Capabilities, examined: &Examined, name: &str, verdict: Verdict, words: &[&str]) {
    let judgement = judge(capabilities, examined);
    let finding = of(&judgement, name);
    assert_eq!(finding.verdict, verdict, "{finding:?}");
    assert_eq!(finding.sentence.is_some(), verdict == Verdict::Contradicts, "{finding:?}");
    assert_eq!(judgement.contradiction(), finding.sentence, "only this one was tried");
    assert!(!finding.expected.is_empty() && !finding.found.is_empty(), "{finding:?}");
    let sentence = finding.sentence.unwrap_or_default();
    for word in words {
        assert!(sentence.contains(word), "{word}: {sentence}");
    }
}

#[test]
fn what_was_not_tried_keeps_nobody_out() {
    for unwrap_template in [UnwrapTemplate::AtUnwrap, UnwrapTemplate::None] {
        let capabilities = Capabilities { wrap: Wrap { unwrap_template, ..Wrap::standard() }, ..standard() };
        let judgement = judge(&capabilities, &Examined::default());
        assert!(judgement.findings.iter().all(|finding| finding.verdict == Verdict::Untried), "{judgement:?}");
        assert_eq!(judgement.contradiction(), None);
    }
}

#[test]
fn counts() {
    use Verdict::*;
    let said = || Some(SAID.to_owned());
    for (wanted, found, said, verdict, words) in [
        (9, 9, None, Holds, &[][..]),
        (9, 10, None, Holds, &[]),
        (9, 6, said(), Contradicts, &["no more than 6 sessions", SAID, "`sessions = 2` would be right"]),
        (9, 5, None, Contradicts, &["`sessions = 1` would be right"]),
        (9, 4, said(), Contradicts, &["no setting", "at least 5"]),
        (4, 0, said(), Contradicts, &["no setting"]),
    ] {
        let examined = only(|examined| examined.sessions = Count { wanted, found, said, unjudged: None });
        check(&standard(), &examined, "run.sessions", verdict, words);
    }
    for (wanted, found, said, verdict, words) in [
        (4_096, 4_096, None, Holds, &[][..]),
        (4_096, 1_024, said(), Contradicts, &["4096 random bytes", SAID, "`capabilities.calls.random_bytes = 1024`"]),
        (32, 0, None, Contradicts, &["no setting"]),
    ] {
        let examined = only(|examined| examined.random = Count { wanted, found, said, unjudged: None });
        check(&standard(), &examined, "calls.random_bytes", verdict, words);
    }
}

#[test]
fn each_way_of_an_iv_is_named_by_its_setting() {
    let ways = [IvBy::Caller, IvBy::ZeroedWriteback, IvBy::NullAppended, IvBy::NullPrepended];
    for said in ways {
        let capabilities = Capabilities { gcm: Gcm { iv: said, ..standard().gcm }, ..standard() };
        let works = only(|examined| examined.gcm = Setting::works());
        check(&capabilities, &works, "gcm.iv", Verdict::Holds, &[]);
        let none = only(|examined| examined.gcm = setting(None));
        check(&capabilities, &none, "gcm.iv", Verdict::Contradicts, &[SAID, "no value of capabilities.gcm.iv"]);
        for found in ways.into_iter().filter(|found| *found != said) {
            let instead = Gcm { iv: found, ..capabilities.gcm.clone() };
            let examined = only(|examined| examined.gcm = setting(Some(instead)));
            let words = format!("`capabilities.gcm.iv = \"{}\"` would be right here: the token", found.name());
            check(&capabilities, &examined, "gcm.iv", Verdict::Contradicts, &[SAID, &words]);
        }
    }
    let other = Gcm { mechanism: 0x8000_1087, iv: IvBy::NullPrepended, iv_bits: 0, ..standard().gcm };
    let words = "`capabilities.gcm.mechanism = 0x80001087, capabilities.gcm.iv = \"null-prepended\", \
                 capabilities.gcm.iv_bits = 0` would be right";
    let examined = only(|examined| examined.gcm = setting(Some(other)));
    check(&standard(), &examined, "gcm.iv", Verdict::Contradicts, &[words]);
}

#[test]
fn what_callers_may_send_must_be_taken() {
    for (tried, verdict) in
        [(Tried::Not, Verdict::Untried), (Tried::Works, Verdict::Holds), (fails(), Verdict::Contradicts)]
    {
        let examined = only(|examined| examined.gcm_longest = tried);
        check(&standard(), &examined, "gcm.plaintext_max", verdict, &[]);
    }
}

#[test]
fn a_wrong_tag_is_nobodys_trouble_but_the_callers() {
    let refused = |understood| WrongTag::Refused {
        function: "C_Decrypt".to_owned(),
        code: 0x30,
        said: "C_Decrypt: CKR_DEVICE_ERROR".to_owned(),
        understood,
    };
    let words =
        ["`capabilities.codes.meaning = [{ functions = [\"C_Decrypt\"], code = 0x30, means = \"ambiguous\" }, …]`"];
    for (wrong, verdict, words) in [
        (WrongTag::Untried, Verdict::Untried, &[][..]),
        (refused(true), Verdict::Holds, &[]),
        (refused(false), Verdict::Contradicts, &words),
        (WrongTag::Opened, Verdict::Contradicts, &["opens a ciphertext", "no setting"]),
    ] {
        check(&standard(), &only(|examined| examined.wrong_tag = wrong), "codes.meaning", verdict, words);
    }
}

#[test]
fn wrapping() {
    let works = only(|examined| examined.key_wrap = Setting::works());
    check(&standard(), &works, "wrap.key_wrap", Verdict::Holds, &[]);
    for (number, value_len, words) in [
        (0x8000_0170, false, "`capabilities.wrap.key_wrap = 0x80000170` would be right"),
        (0x2109, true, "`capabilities.wrap.value_len = true` would be right"),
        (0x8000_2109, true, "`capabilities.wrap.key_wrap = 0x80002109, capabilities.wrap.value_len = true` would"),
    ] {
        let by = KeyWrapBy { number, value_len };
        let examined = only(|examined| examined.key_wrap = setting(Some(by)));
        check(&standard(), &examined, "wrap.key_wrap", Verdict::Contradicts, &[SAID, words]);
    }
    let none = only(|examined| examined.key_wrap = setting(None));
    check(&standard(), &none, "wrap.key_wrap", Verdict::Contradicts, &["no number of AES key wrap"]);

    for hash in OaepHash::ALL {
        let capabilities = Capabilities { wrap: Wrap { oaep_hash: hash, ..Wrap::standard() }, ..standard() };
        let works = only(|examined| examined.oaep_hash = Setting::works());
        check(&capabilities, &works, "wrap.oaep_hash", Verdict::Holds, &[]);
        let none = only(|examined| examined.oaep_hash = setting(None));
        check(
            &capabilities,
            &none,
            "wrap.oaep_hash",
            Verdict::Contradicts,
            &["no value of capabilities.wrap.oaep_hash"],
        );
        for other in OaepHash::ALL.into_iter().filter(|other| *other != hash) {
            let examined = only(|examined| examined.oaep_hash = setting(Some(other)));
            let words = format!("`capabilities.wrap.oaep_hash = \"{}\"` would be right", other.name());
            check(&capabilities, &examined, "wrap.oaep_hash", Verdict::Contradicts, &[SAID, &words]);
        }
    }
}

#[test]
fn templates() {
    let works = only(|examined| examined.placed = Setting::works());
    check(&standard(), &works, "attributes.left_out", Verdict::Holds, &[]);
    let without = vec![Optional::Copyable, Optional::Derive];
    let examined = only(|examined| examined.placed = setting(Some(without)));
    let words = "`capabilities.attributes.left_out = [{ functions = [\"*\"], objects = [\"secret-key\"], names = \
                 [\"CKA_COPYABLE\", \"CKA_DERIVE\"] }]` would be right";
    check(&standard(), &examined, "attributes.left_out", Verdict::Contradicts, &["CKA_COPYABLE and CKA_DERIVE", words]);
    let none = only(|examined| examined.placed = setting(None));
    check(&standard(), &none, "attributes.left_out", Verdict::Contradicts, &["no value of capabilities.attributes"]);

    type Put = fn(&mut Examined, Setting<u64>);
    let both: [(&str, Put); 2] = [
        ("attributes.label_max", |examined, setting| examined.label = setting),
        ("attributes.id_max", |examined, setting| examined.id = setting),
    ];
    for (name, put) in both {
        check(&standard(), &only(|examined| put(examined, Setting::works())), name, Verdict::Holds, &[]);
        let words = format!("`capabilities.{name} = 64` would be right");
        let shorter = only(|examined| put(examined, setting(Some(64))));
        check(&standard(), &shorter, name, Verdict::Contradicts, &[SAID, &words]);
        check(&standard(), &only(|examined| put(examined, setting(None))), name, Verdict::Contradicts, &["no setting"]);
    }
}

#[test]
fn an_unwrap_template_has_to_be_enforced_where_it_is_relied_on() {
    use UnwrapTemplate::{AtUnwrap, None};
    use Verdict::*;
    let ignored = || Kept::Ignored("a key that can be read".to_owned());
    let untold = || Kept::Untold(SAID.to_owned());
    let advice = "`capabilities.wrap.unwrap_template = \"none\"` would be right";
    for (said, kept, verdict, words) in [
        (AtUnwrap, Kept::Untried, Untried, &[][..]),
        (AtUnwrap, Kept::Enforced, Holds, &[]),
        (AtUnwrap, ignored(), Contradicts, &["does not enforce it: a key that can be read", advice]),
        (AtUnwrap, untold(), Contradicts, &["does not take CKA_UNWRAP_TEMPLATE", SAID, advice]),
        (None, Kept::Untried, Untried, &[]),
        (None, Kept::Enforced, Better, &[]),
        (None, ignored(), Holds, &[]),
        (None, untold(), Holds, &[]),
    ] {
        let capabilities = Capabilities { wrap: Wrap { unwrap_template: said, ..Wrap::standard() }, ..standard() };
        check(&capabilities, &only(|examined| examined.unwrap_template = kept), "wrap.unwrap_template", verdict, words);
    }
}

#[test]
fn what_keys_are_told_has_to_be_kept() {
    use Verdict::*;
    let ignored = || Kept::Ignored("it did something".to_owned());
    let untold = || Kept::Untold(SAID.to_owned());
    let left_out = LeftOut {
        functions: vec!["C_UnwrapKey".to_owned()],
        objects: vec![Objects::SecretKey],
        names: vec![Optional::AllowedMechanisms],
    };
    let without = Attributes { left_out: vec![left_out], ..Attributes::standard() };
    let advice = "names = [\"CKA_ALLOWED_MECHANISMS\"] }]` would be right";
    for (kept, verdict, words) in [
        (Kept::Untried, Untried, &[][..]),
        (Kept::Enforced, Holds, &[]),
        (ignored(), Contradicts, &["does not enforce it: it did something", advice]),
        (untold(), Contradicts, &["does not take", SAID, advice]),
    ] {
        let examined = only(|examined| examined.allowed_mechanisms = kept);
        check(&standard(), &examined, "CKA_ALLOWED_MECHANISMS", verdict, words);
        let capabilities = Capabilities { attributes: without.clone(), ..standard() };
        check(&capabilities, &examined, "CKA_ALLOWED_MECHANISMS", Untried, &[]);
    }
    type Put = fn(&mut Examined, Kept);
    let both: [(&str, Put); 2] = [
        ("CKA_SENSITIVE", |examined, kept| examined.sensitive = kept),
        ("CKA_EXTRACTABLE", |examined, kept| examined.extractable = kept),
    ];
    for (name, put) in both {
        for (kept, verdict, words) in [
            (Kept::Untried, Untried, &[][..]),
            (Kept::Enforced, Holds, &[]),
            (ignored(), Contradicts, &["it did something", "no setting"]),
            (untold(), Contradicts, &[SAID, "no setting"]),
        ] {
            check(&standard(), &only(|examined| put(examined, kept)), name, verdict, words);
        }
    }
}

#[test]
fn abilities() {
    use Verdict::*;
    let says = |so: bool| Calls { copy_object: so, read_only_sessions: so, ..standard().calls };
    type Put = fn(&mut Examined, Tried);
    let both: [(&str, Put); 2] = [
        ("calls.copy_object", |examined, tried| examined.copy_object = tried),
        ("calls.read_only_sessions", |examined, tried| examined.read_only_sessions = tried),
    ];
    for (name, put) in both {
        let advice = format!("`capabilities.{name} = false` would be right");
        for (so, tried, verdict, words) in [
            (true, Tried::Not, Untried, &[][..]),
            (false, Tried::Not, Untried, &[]),
            (true, Tried::Works, Holds, &[]),
            (false, Tried::Works, Better, &[]),
            (false, fails(), Holds, &[]),
            (true, fails(), Contradicts, &[SAID, &advice]),
        ] {
            let capabilities = Capabilities { calls: says(so), ..standard() };
            check(&capabilities, &only(|examined| put(examined, tried)), name, verdict, words);
        }
    }
}

#[test]
fn all_that_contradicts_is_said() {
    let examined = only(|examined| {
        examined.copy_object = fails();
        examined.random = Count { wanted: 4_096, found: 1_024, ..Count::default() };
    });
    let said = judge(&standard(), &examined).contradiction().unwrap();
    assert!(said.contains("copy_object = false") && said.contains("random_bytes = 1024"), "{said}");
}

/// Whatever may be a sign of too much to do is shown and keeps nobody out, under every capability that it is held against.
#[test]
fn what_may_be_throttling_contradicts_nothing() {
    let (said, tried) = (|| SAID.to_owned(), || Tried::NotJudged(SAID.to_owned()));
    let kept = || Kept::NotJudged(said());
    let count = |wanted| Count { wanted, found: 0, said: None, unjudged: Some(said()) };
    let examined = Examined {
        sessions: count(9),
        random: count(4_096),
        gcm: Setting::not_judged(said()),
        gcm_longest: tried(),
        wrong_tag: WrongTag::NotJudged(said()),
        key_wrap: Setting::not_judged(said()),
        oaep_hash: Setting::not_judged(said()),
        placed: Setting::not_judged(said()),
        label: Setting::not_judged(said()),
        id: Setting::not_judged(said()),
        unwrap_template: kept(),
        allowed_mechanisms: kept(),
        sensitive: kept(),
        extractable: kept(),
        copy_object: tried(),
        read_only_sessions: tried(),
    };
    for unwrap_template in [UnwrapTemplate::AtUnwrap, UnwrapTemplate::None] {
        for so in [true, false] {
            let capabilities = Capabilities {
                wrap: Wrap { unwrap_template, ..Wrap::standard() },
                calls: Calls { copy_object: so, read_only_sessions: so, ..standard().calls },
                ..standard()
            };
            let judgement = judge(&capabilities, &examined);
            for finding in &judgement.findings {
                assert_eq!(finding.verdict, Verdict::NotJudged, "{finding:?}");
                assert!(finding.found.contains("not judged") && finding.found.contains(SAID), "{finding:?}");
            }
            assert_eq!(judgement.contradiction(), None);
            assert_eq!(judgement.not_judged().len(), judgement.findings.len());
        }
    }
    assert!(judge(&standard(), &Examined::default()).not_judged().is_empty(), "that is another thing");
}

/// A look while the token is throttled takes nothing from what is known, and a later one judges what was open.
#[test]
fn another_look_tells_what_was_open() {
    let busy = || Tried::NotJudged(SAID.to_owned());
    let look =
        |copy_object, gcm_longest| judge(&standard(), &Examined { copy_object, gcm_longest, ..Examined::default() });
    let verdicts =
        |judgement: &Judgement| ["calls.copy_object", "gcm.plaintext_max"].map(|name| of(judgement, name).verdict);
    let before = look(busy(), Tried::Works);
    assert_eq!(verdicts(&before), [Verdict::NotJudged, Verdict::Holds]);
    for (again, expected) in [
        (look(Tried::Works, busy()), [Verdict::Holds, Verdict::Holds]),
        (look(busy(), busy()), [Verdict::NotJudged, Verdict::Holds]),
        (look(fails(), Tried::Not), [Verdict::Contradicts, Verdict::Holds]),
        (look(Tried::Works, fails()), [Verdict::Holds, Verdict::Contradicts]),
    ] {
        let known = before.renewed(again);
        assert_eq!(verdicts(&known), expected);
        assert_eq!(known.findings.len(), before.findings.len());
    }
}

/// What is refused for good contradicts, and which setting would be right is not said where it may be one that was throttled.
#[test]
fn no_setting_is_ruled_out_that_was_not_judged() {
    fn open<T>() -> Setting<T> {
        Setting { as_said: fails(), instead: None, unjudged: Some("C_Other: CKR_OTHER".to_owned()) }
    }
    type Put = fn(&mut Examined);
    let all: [(&str, Put); 6] = [
        ("gcm.iv", |examined| examined.gcm = open()),
        ("wrap.key_wrap", |examined| examined.key_wrap = open()),
        ("wrap.oaep_hash", |examined| examined.oaep_hash = open()),
        ("attributes.left_out", |examined| examined.placed = open()),
        ("attributes.label_max", |examined| examined.label = open()),
        ("calls.random_bytes", |examined| {
            let unjudged = Some("C_Other: CKR_OTHER".to_owned());
            examined.random = Count { wanted: 4_096, found: 0, said: Some(SAID.to_owned()), unjudged };
        }),
    ];
    for (name, put) in all {
        let words = [SAID, "another value is right here was not judged", "C_Other: CKR_OTHER"];
        check(&standard(), &only(put), name, Verdict::Contradicts, &words);
        let finding = of(&judge(&standard(), &only(put)), name);
        let sentence = finding.sentence.unwrap();
        assert!(!sentence.contains("no value") && !sentence.contains("no setting"), "{sentence}");
    }
}

/// Each capability that a name stands for is one of the configuration, or an attribute.
#[test]
fn names_are_those_of_the_configuration() {
    let names: Vec<&str> =
        judge(&standard(), &Examined::default()).findings.iter().map(|finding| finding.name).collect();
    let mut once = names.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), names.len());
    for name in names {
        assert!(name.starts_with("CKA_") || name.split_once('.').is_some(), "{name}");
    }
}
