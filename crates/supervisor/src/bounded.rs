//! What a worker says of itself, cut to what people read. Its module is in the same process and may say anything in its
//! name; a frame lets it say eight million bytes of it.

use std::borrow::Cow;

use bytes::Bytes;
use model::text;
use protocol::{Fault, Ready, Reply};

/// Serial number, label and description, in bytes: the standard's are 16 and 32, and twice 32.
const NAME: usize = 256;
/// A certificate.
const CERTIFICATE: usize = 64 << 10;
/// Sentences about the confinement, and bytes of each.
const SENTENCES: usize = 128;
const SENTENCE: usize = 1 << 10;
/// What went wrong.
const DETAIL: usize = 8 << 10;

/// What a worker says when it has found its token.
pub(super) fn ready(mut ready: Ready) -> Ready {
    for name in [&mut ready.serial, &mut ready.label, &mut ready.module] {
        name.truncate(name.floor_char_boundary(NAME));
    }
    ready.identity = ready.identity.filter(|certificate: &Bytes| certificate.len() <= CERTIFICATE);
    ready.degraded.truncate(SENTENCES);
    ready.degraded = ready.degraded.iter().map(|sentence| words(sentence, SENTENCE)).collect();
    ready
}

/// What a worker says when it could not start.
pub(super) fn fault(fault: Fault) -> Fault {
    let function = words(&fault.function, NAME);
    let detail = fault.detail.map(|detail| words(&detail, DETAIL));
    Fault { function: Cow::Owned(function), detail, ..fault }
}

/// What a worker says where it could not do something: kept in many places, and by function and code for as long as the HSM
/// is run. What is as it should be is not touched: that is each answer's, and nearly all of them.
pub(super) fn reply(reply: &mut Reply) {
    reply.each_fault(|said| {
        let plain = |text: &str, most| text.len() <= most && matches!(text::shown(text), Cow::Borrowed(_));
        if !plain(&said.function, NAME) || said.detail.as_deref().is_some_and(|detail| !plain(detail, DETAIL)) {
            *said = fault(said.clone());
        }
    });
}

/// In one line, with nothing that a terminal obeys.
fn words(said: &str, most: usize) -> String {
    let kept = said.get(..said.floor_char_boundary(most)).unwrap_or_default();
    let cut = if kept.len() < said.len() { "…" } else { "" };
    format!("{}{cut}", text::shown(kept))
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::profile::Abilities;
    use protocol::{Class, UserFlags};

    #[test]
    fn who_says_too_much_is_cut_short() {
        let long = "ä".repeat(1 << 20);
        let said = Ready {
            serial: long.clone(),
            label: "label".to_owned(),
            module: long.clone(),
            user: UserFlags::default(),
            identity: Some(vec![0; CERTIFICATE + 1].into()),
            abilities: Abilities::default(),
            degraded: vec![format!("\u{1b}[2J\n{long}"); SENTENCES + 9],
        };
        let kept = ready(said);
        assert_eq!((kept.serial.len(), kept.label.as_str(), kept.identity), (NAME, "label", None));
        assert_eq!(kept.degraded.len(), SENTENCES);
        let sentence = &kept.degraded[0];
        assert!(
            sentence.len() < 2 * SENTENCE && sentence.starts_with(r"\u{1b}[2J\n") && sentence.ends_with('…'),
            "{sentence}"
        );
        let failed = fault(Fault { detail: Some(long.clone()), ..Fault::own(Class::Token, "load", "") });
        let told = Fault { function: long.clone().into(), ..Fault::own(Class::Token, "", format!("\u{1b}[2J{long}")) };
        let plain = Fault::own(Class::Request, "C_Decrypt", "of a caller");
        let mut replies = [
            Reply::Failed(told.clone()),
            Reply::Encrypted(vec![Err(plain.clone()), Err(told.clone())]),
            Reply::Decrypted(vec![Err(plain.clone()), Err(told.clone())]),
            Reply::DataKeys(vec![Err(told.clone())]),
            Reply::ReEncrypted(vec![Err(told.clone())]),
            Reply::Compared(vec![Err(told.clone())]),
        ];
        for said in &mut replies {
            reply(said);
            let longest = |fault: &Fault| fault.function.len() + fault.detail.as_deref().map_or(0, str::len);
            assert!(said.first_fault(|fault| longest(fault) > 2 * (NAME + DETAIL)).is_none());
            assert!(said.first_fault(|fault| fault.to_string().contains('\u{1b}')).is_none());
            assert!(said.first_fault(|fault| *fault != plain).is_some_and(|fault| fault.class == Class::Token));
        }
        assert!(matches!(&replies[1], Reply::Encrypted(items) if items[0] == Err(plain)), "{:?}", replies[1]);
        assert!(failed.function == "load" && failed.detail.is_some_and(|detail| detail.len() < 2 * DETAIL));
    }
}
