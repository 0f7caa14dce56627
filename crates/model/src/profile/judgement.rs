//! What follows from what was found in a token: whether its capabilities hold, and which setting would be right where they
//! do not. Pure.
//!
//! **Invariant:** what contradicts the capabilities keeps the HSM out, whether serving depends on it or not: who reads the
//! configuration has to be able to believe it. What is better than they say is told and changes nothing, and neither does
//! what could not be tried, nor what cannot be judged, since the token may be busy: throttling contradicts nothing, however
//! long it lasts.

mod kept;

use self::kept::{allowed_mechanisms, secrecy, unwrap_template};
use super::examination::{Count, Examined, Setting, Tried, WrongTag};
use super::{Capabilities, Gcm, IvBy, OaepHash, Optional};

/// What is to be thought of something that was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is as the capabilities have it.
    Holds,
    /// The token does more than they say.
    Better,
    /// It could not be tried.
    Untried,
    /// It was tried, and nothing follows: all that the token says of it is what it may say when it is busy, or others may
    /// have what was missing.
    NotJudged,
    /// It is otherwise, and the HSM is not used.
    Contradicts,
}

impl Verdict {
    /// In one word, for people and programs.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Holds => "holds",
            Self::Better => "better",
            Self::Untried => "untried",
            Self::NotJudged => "not-judged",
            Self::Contradicts => "contradicts",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The capability, or what stands for it.
    pub name: &'static str,
    /// What the capabilities say.
    pub expected: String,
    /// What was found.
    pub found: String,
    /// What is to be thought of it.
    pub verdict: Verdict,
    /// What is wrong and which setting would be right; only where it contradicts.
    pub sentence: Option<String>,
}

/// All findings of an examination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Judgement {
    /// In a fixed order.
    pub findings: Vec<Finding>,
}

impl Judgement {
    /// Why the HSM is not used, where something contradicts.
    #[must_use]
    pub fn contradiction(&self) -> Option<String> {
        let sentences: Vec<&str> = self.findings.iter().filter_map(|finding| finding.sentence.as_deref()).collect();
        (!sentences.is_empty()).then(|| sentences.join("; "))
    }

    /// What could not be judged, by name.
    #[must_use]
    pub fn not_judged(&self) -> Vec<&'static str> {
        let open = self.findings.iter().filter(|finding| finding.verdict == Verdict::NotJudged);
        open.map(|finding| finding.name).collect()
    }

    /// What is known after another look: what that could not judge, or try, is what it was.
    #[must_use]
    pub fn renewed(&self, again: Self) -> Self {
        let is_told = |finding: &Finding| !matches!(finding.verdict, Verdict::NotJudged | Verdict::Untried);
        let known = |name| self.findings.iter().find(|known| known.name == name && is_told(known)).cloned();
        let renew = |finding: Finding| match is_told(&finding) {
            true => finding,
            false => known(finding.name).unwrap_or(finding),
        };
        Self { findings: again.findings.into_iter().map(renew).collect() }
    }
}

/// Sessions that a process needs beside those that wait for requests: one keeps the login, an examination looks with two, and
/// one takes the place of another that has failed.
pub const FURTHER_SESSIONS: u64 = 4;
/// Sessions that a process needs whatever is set: one of them waits for requests.
pub const LEAST_SESSIONS: u64 = FURTHER_SESSIONS + 1;

/// What follows from what was found.
#[must_use]
pub fn judge(of: &Capabilities, found: &Examined) -> Judgement {
    let findings = vec![
        sessions(&found.sessions),
        random(&found.random),
        gcm(&of.gcm, &found.gcm),
        longest(&found.gcm_longest),
        wrong_tag(&found.wrong_tag),
        key_wrap(of, found),
        oaep_hash(of.wrap.oaep_hash, &found.oaep_hash),
        placed(&found.placed),
        long_enough("attributes.label_max", "a label", of.attributes.label_max, &found.label),
        long_enough("attributes.id_max", "an id", of.attributes.id_max, &found.id),
        unwrap_template(of.wrap.unwrap_template, &found.unwrap_template),
        allowed_mechanisms(of, &found.allowed_mechanisms),
        secrecy("CKA_SENSITIVE", &found.sensitive),
        secrecy("CKA_EXTRACTABLE", &found.extractable),
        ability("calls.copy_object", "C_CopyObject", of.calls.copy_object, &found.copy_object),
        ability(
            "calls.read_only_sessions",
            "reading and encrypting in a read-only session",
            of.calls.read_only_sessions,
            &found.read_only_sessions,
        ),
    ];
    Judgement { findings: findings.into_iter().map(|finding| if_needed(of, finding)).collect() }
}

/// Where keys are made in place nothing is wrapped, and nothing comes of how the HSM would do it.
fn if_needed(of: &Capabilities, finding: Finding) -> Finding {
    let of_wrapping =
        matches!(finding.name, "wrap.key_wrap" | "wrap.oaep_hash" | "attributes.left_out" | "wrap.unwrap_template");
    if finding.verdict != Verdict::Contradicts || !of_wrapping || !of.keys.in_place() {
        return finding;
    }
    let found = format!("{}; nothing is wrapped, since keys are made in place", finding.found);
    Finding { found, verdict: Verdict::Untried, sentence: None, ..finding }
}

fn finding(name: &'static str, expected: impl Into<String>, found: impl Into<String>, verdict: Verdict) -> Finding {
    Finding { name, expected: expected.into(), found: found.into(), verdict, sentence: None }
}

/// Nothing follows from what the token said.
fn not_judged(name: &'static str, expected: impl Into<String>, said: &str) -> Finding {
    finding(name, expected, format!("not judged, since the token may be busy: {said}"), Verdict::NotJudged)
}

fn against(
    name: &'static str,
    expected: impl Into<String>,
    found: impl Into<String>,
    sentence: impl Into<String>,
) -> Finding {
    Finding { sentence: Some(sentence.into()), ..finding(name, expected, found, Verdict::Contradicts) }
}

/// `what`, such as that no value is right, where all of them were judged.
fn none_right(what: &str, unjudged: Option<&str>) -> String {
    match unjudged {
        None => what.to_owned(),
        Some(said) => {
            format!("whether another value is right here was not judged, since the token may be busy: {said}")
        }
    }
}

/// "`capabilities.gcm.iv = "caller"` would be right here".
fn right(settings: &str) -> String {
    format!("`{settings}` would be right here")
}

fn sessions(count: &Count) -> Finding {
    let (name, expected) = ("run.sessions", format!("{} in one process", count.wanted));
    match count {
        Count { wanted: 0, .. } => finding(name, expected, "not tried", Verdict::Untried),
        Count { wanted, found, .. } if found >= wanted => {
            finding(name, expected, format!("{found} were opened"), Verdict::Holds)
        }
        Count { found, unjudged: Some(said), .. } => {
            let found = format!("not judged; {found} were opened, and of more it said: {said}");
            finding(name, expected, found, Verdict::NotJudged)
        }
        Count { found, said, .. } => {
            let said = said.as_deref().unwrap_or("no more");
            let advice = if *found < LEAST_SESSIONS {
                format!("no setting makes it right: keystored needs at least {LEAST_SESSIONS}")
            } else {
                right(&format!("sessions = {}", found - FURTHER_SESSIONS))
            };
            let sentence = format!("the token opens no more than {found} sessions for a process ({said}); {advice}");
            against(name, expected, format!("{found}: {said}"), sentence)
        }
    }
}

fn random(count: &Count) -> Finding {
    let (name, expected) = ("calls.random_bytes", format!("{} at once", count.wanted));
    match count {
        Count { wanted: 0, .. } => finding(name, expected, "not tried", Verdict::Untried),
        Count { wanted, found, .. } if found >= wanted => {
            finding(name, expected, format!("{found} at once"), Verdict::Holds)
        }
        Count { said: None, unjudged: Some(said), .. } => not_judged(name, expected, said),
        Count { wanted, found, said, unjudged } => {
            let said = said.as_deref().unwrap_or("refused");
            let none = "no setting makes it right: keystored draws at least 32 bytes";
            let advice = match found {
                0 => none_right(none, unjudged.as_deref()),
                found => right(&format!("capabilities.calls.random_bytes = {found}")),
            };
            let sentence = format!("the token does not give {wanted} random bytes at once ({said}); {advice}");
            against(name, expected, format!("{found} at once: {said}"), sentence)
        }
    }
}

fn gcm(of: &Gcm, found: &Setting<Gcm>) -> Finding {
    let (name, expected) = ("gcm.iv", way(of));
    match (&found.as_said, &found.instead) {
        (Tried::Not, _) => finding(name, expected, "not tried", Verdict::Untried),
        (Tried::NotJudged(said), _) => not_judged(name, expected, said),
        (Tried::Works, _) => finding(name, expected.clone(), expected, Verdict::Holds),
        (Tried::Fails(said), Some(instead)) => {
            let mut settings = Vec::new();
            if instead.mechanism != of.mechanism {
                settings.push(format!("capabilities.gcm.mechanism = {:#x}", instead.mechanism));
            }
            if instead.iv != of.iv {
                settings.push(format!("capabilities.gcm.iv = \"{}\"", instead.iv.name()));
            }
            if instead.iv_bits != of.iv_bits {
                settings.push(format!("capabilities.gcm.iv_bits = {}", instead.iv_bits));
            }
            let sentence = format!("{said}; {}{}", right(&settings.join(", ")), why(instead.iv));
            against(name, expected, way(instead), sentence)
        }
        (Tried::Fails(said), None) => {
            let none = none_right("no value of capabilities.gcm.iv is right here", found.unjudged.as_deref());
            let sentence = format!("{said}; {none}");
            against(name, expected, format!("no way that keystored knows: {said}"), sentence)
        }
    }
}

fn way(gcm: &Gcm) -> String {
    format!("{} with {:#x}, ulIvBits {}", gcm.iv.name(), gcm.mechanism, gcm.iv_bits)
}

const fn why(by: IvBy) -> &'static str {
    match by {
        IvBy::Caller => ": the token uses the IV that it is given",
        IvBy::ZeroedWriteback => ": the token filled the IV in itself",
        IvBy::NullAppended => ": the token puts an IV of its own behind the tag",
        IvBy::NullPrepended => ": the token puts an IV of its own before the ciphertext",
    }
}

fn longest(tried: &Tried) -> Finding {
    let (name, expected) = ("gcm.plaintext_max", "4,096 bytes with 8,213 of additional data");
    match tried {
        Tried::Not => finding(name, expected, "not tried", Verdict::Untried),
        Tried::NotJudged(said) => not_judged(name, expected, said),
        Tried::Works => finding(name, expected, "taken", Verdict::Holds),
        Tried::Fails(said) => against(
            name,
            expected,
            said.clone(),
            format!(
                "the token does not encrypt 4,096 bytes with 8,213 of additional data, which callers may send ({said}); no \
                 setting makes it right"
            ),
        ),
    }
}

fn wrong_tag(wrong: &WrongTag) -> Finding {
    let (name, expected) = ("codes.meaning", "a wrong tag is refused as a bad ciphertext");
    match wrong {
        WrongTag::Untried => finding(name, expected, "not tried", Verdict::Untried),
        WrongTag::NotJudged(said) => not_judged(name, expected, said),
        WrongTag::Refused { said, understood: true, .. } => finding(name, expected, said.clone(), Verdict::Holds),
        WrongTag::Opened => {
            let sentence = "the token opens a ciphertext whose tag is wrong; no setting makes it right";
            against(name, expected, "opened", sentence)
        }
        WrongTag::Refused { function, code, said, understood: false } => {
            let entry = format!("{{ functions = [\"{function}\"], code = {code:#04x}, means = \"ambiguous\" }}");
            let sentence = format!(
                "the token says {said} of a ciphertext whose tag is wrong, which is taken for its own trouble, so that any \
                 caller could take it out of service; {}, before the entries of the profile",
                right(&format!("capabilities.codes.meaning = [{entry}, …]"))
            );
            against(name, expected, said.clone(), sentence)
        }
    }
}

fn key_wrap(of: &Capabilities, found: &Examined) -> Finding {
    let name = "wrap.key_wrap";
    let shown = |number: u64, named: bool| {
        format!("{number:#x}, {} CKA_VALUE_LEN at unwrap", if named { "with" } else { "without" })
    };
    let expected = shown(of.wrap.key_wrap, of.wrap.value_len);
    match (&found.key_wrap.as_said, found.key_wrap.instead) {
        (Tried::Not, _) => finding(name, expected, "not tried", Verdict::Untried),
        (Tried::NotJudged(said), _) => not_judged(name, expected, said),
        (Tried::Works, _) => finding(name, expected.clone(), expected, Verdict::Holds),
        (Tried::Fails(said), Some(instead)) => {
            let mut settings = Vec::new();
            if instead.number != of.wrap.key_wrap {
                settings.push(format!("capabilities.wrap.key_wrap = {:#x}", instead.number));
            }
            if instead.value_len != of.wrap.value_len {
                settings.push(format!("capabilities.wrap.value_len = {}", instead.value_len));
            }
            let sentence = format!("the token does not wrap keys so ({said}); {}", right(&settings.join(", ")));
            against(name, expected, shown(instead.number, instead.value_len), sentence)
        }
        (Tried::Fails(said), None) => {
            let none = "no number of AES key wrap that keystored knows works as capabilities.wrap.key_wrap here";
            let none = none_right(none, found.key_wrap.unjudged.as_deref());
            let sentence = format!("the token does not wrap an AES key and unwrap it again ({said}); {none}");
            against(name, expected, said.clone(), sentence)
        }
    }
}

fn oaep_hash(of: OaepHash, found: &Setting<OaepHash>) -> Finding {
    let (name, expected) = ("wrap.oaep_hash", of.name());
    match (&found.as_said, found.instead) {
        (Tried::Not, _) => finding(name, expected, "not tried", Verdict::Untried),
        (Tried::NotJudged(said), _) => not_judged(name, expected, said),
        (Tried::Works, _) => finding(name, expected, expected, Verdict::Holds),
        (Tried::Fails(said), Some(instead)) => {
            let sentence = format!(
                "the token does not open what is wrapped to its transport key by RSA-OAEP with {expected} ({said}); {}, and \
                 in all HSMs of the cluster",
                right(&format!("capabilities.wrap.oaep_hash = \"{}\"", instead.name()))
            );
            against(name, expected, instead.name(), sentence)
        }
        (Tried::Fails(said), None) => {
            let none = none_right("no value of capabilities.wrap.oaep_hash is right here", found.unjudged.as_deref());
            let sentence =
                format!("the token does not open what is wrapped to its transport key by RSA-OAEP ({said}); {none}");
            against(name, expected, said.clone(), sentence)
        }
    }
}

fn placed(found: &Setting<Vec<Optional>>) -> Finding {
    let (name, expected) = ("attributes.left_out", "a key is unwrapped with what its template names");
    match (&found.as_said, &found.instead) {
        (Tried::Not, _) => finding(name, expected, "not tried", Verdict::Untried),
        (Tried::NotJudged(said), _) => not_judged(name, expected, said),
        (Tried::Works, _) => finding(name, expected, "taken", Verdict::Holds),
        (Tried::Fails(said), Some(without)) => {
            let names = listed(without);
            let sentence = format!(
                "the token does not unwrap a key with {names} in its template ({said}); {}, beside the entries of the profile",
                right(&format!("capabilities.attributes.left_out = [{}]", entry(without)))
            );
            against(name, expected, format!("taken without {names}"), sentence)
        }
        (Tried::Fails(said), None) => {
            let none = "no value of capabilities.attributes.left_out that leaves out one of them is right here";
            let none = none_right(none, found.unjudged.as_deref());
            let sentence = format!(
                "the token does not unwrap a key with the template that callers' keys are placed with ({said}); {none}"
            );
            against(name, expected, said.clone(), sentence)
        }
    }
}

fn entry(names: &[Optional]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("\"{}\"", name.name())).collect();
    format!("{{ functions = [\"*\"], objects = [\"secret-key\"], names = [{}] }}", quoted.join(", "))
}

fn listed(names: &[Optional]) -> String {
    names.iter().map(|name| name.name()).collect::<Vec<_>>().join(" and ")
}

fn long_enough(name: &'static str, what: &str, of: u64, found: &Setting<u64>) -> Finding {
    let expected = format!("up to {of} bytes, as far as keystored uses them");
    match (&found.as_said, found.instead) {
        (Tried::Not, _) => finding(name, expected, "not tried", Verdict::Untried),
        (Tried::NotJudged(said), _) => not_judged(name, expected, said),
        (Tried::Works, _) => finding(name, expected, "kept whole", Verdict::Holds),
        (Tried::Fails(said), Some(instead)) => {
            let sentence = format!(
                "the token does not keep {what} as long as keystored's whole ({said}); {}",
                right(&format!("capabilities.{name} = {instead}"))
            );
            against(name, expected, format!("up to {instead} bytes"), sentence)
        }
        (Tried::Fails(said), None) => {
            let none = none_right("no setting makes it right", found.unjudged.as_deref());
            let sentence = format!("the token does not keep {what} of 32 bytes ({said}); {none}");
            against(name, expected, said.clone(), sentence)
        }
    }
}

fn ability(name: &'static str, what: &str, said_so: bool, tried: &Tried) -> Finding {
    let expected = said_so.to_string();
    match (said_so, tried) {
        (_, Tried::Not) => finding(name, expected, "not tried", Verdict::Untried),
        (_, Tried::NotJudged(said)) => not_judged(name, expected, said),
        (true, Tried::Works) => finding(name, expected, "true", Verdict::Holds),
        (false, Tried::Works) => finding(name, expected, "true", Verdict::Better),
        (false, Tried::Fails(said)) => finding(name, expected, format!("false: {said}"), Verdict::Holds),
        (true, Tried::Fails(said)) => {
            let setting = right(&format!("capabilities.{name} = false"));
            let sentence = format!("the token refuses {what} ({said}); {setting}");
            against(name, expected, format!("false: {said}"), sentence)
        }
    }
}

#[cfg(test)]
mod tests;
