//! Whether a token keeps to what it is told of a key.

use super::super::examination::Kept;
use super::super::{Capabilities, Objects, Optional, UnwrapTemplate};
use super::{Finding, Verdict, against, entry, finding, not_judged, right};

pub(super) fn unwrap_template(of: UnwrapTemplate, found: &Kept) -> Finding {
    let name = "wrap.unwrap_template";
    let relied_on = of == UnwrapTemplate::AtUnwrap;
    let expected = if relied_on { "at-unwrap, and enforced" } else { "not told at unwrap" };
    let advice = || {
        format!(
            "{}, and then whoever has kmsuser's PIN and a wrapped key can unwrap that as one that can be read",
            right("capabilities.wrap.unwrap_template = \"none\"")
        )
    };
    match found {
        Kept::Untried => finding(name, expected, "not tried", Verdict::Untried),
        Kept::NotJudged(said) => not_judged(name, expected, said),
        Kept::Enforced if relied_on => finding(name, expected, "enforced", Verdict::Holds),
        Kept::Enforced => finding(name, expected, "taken at unwrap, and enforced", Verdict::Better),
        Kept::Ignored(_) | Kept::Untold(_) if !relied_on => {
            finding(name, expected, "not to be told, or not enforced", Verdict::Holds)
        }
        Kept::Ignored(done) => {
            let sentence = format!(
                "the token takes CKA_UNWRAP_TEMPLATE of a wrapping key and does not enforce it: {done}; {}",
                advice()
            );
            against(name, expected, format!("taken and not enforced: {done}"), sentence)
        }
        Kept::Untold(said) => {
            let sentence =
                format!("the token does not take CKA_UNWRAP_TEMPLATE where a key is unwrapped ({said}); {}", advice());
            against(name, expected, format!("not taken: {said}"), sentence)
        }
    }
}

pub(super) fn allowed_mechanisms(of: &Capabilities, found: &Kept) -> Finding {
    let name = "CKA_ALLOWED_MECHANISMS";
    if of.attributes.leave_out("C_UnwrapKey", Objects::SecretKey, Optional::AllowedMechanisms) {
        return finding(name, "not named", "not named", Verdict::Untried);
    }
    let expected = "enforced";
    let advice = || right(&format!("capabilities.attributes.left_out = [{}]", entry(&[Optional::AllowedMechanisms])));
    match found {
        Kept::Untried => finding(name, expected, "not tried", Verdict::Untried),
        Kept::NotJudged(said) => not_judged(name, expected, said),
        Kept::Enforced => finding(name, expected, "enforced", Verdict::Holds),
        Kept::Ignored(done) => {
            let sentence =
                format!("the token takes CKA_ALLOWED_MECHANISMS and does not enforce it: {done}; {}", advice());
            against(name, expected, format!("taken and not enforced: {done}"), sentence)
        }
        Kept::Untold(said) => {
            let sentence = format!("the token does not take CKA_ALLOWED_MECHANISMS ({said}); {}", advice());
            against(name, expected, format!("not taken: {said}"), sentence)
        }
    }
}

/// What all of keystored rests on: no setting makes up for it.
pub(super) fn secrecy(name: &'static str, found: &Kept) -> Finding {
    let expected = "enforced";
    let wrong = |what: String| {
        let sentence = format!(
            "the token does not keep keys to itself that are made so ({name}): {what}; no setting makes it right"
        );
        against(name, expected, what, sentence)
    };
    match found {
        Kept::Untried => finding(name, expected, "not tried", Verdict::Untried),
        Kept::NotJudged(said) => not_judged(name, expected, said),
        Kept::Enforced => finding(name, expected, "enforced", Verdict::Holds),
        Kept::Ignored(done) => wrong(done.clone()),
        Kept::Untold(said) => wrong(said.clone()),
    }
}
