//! Sign the head of an audit log with the token's log key.
//!
//! What is to be signed comes from outside, so it is looked at here, next to the token: a daemon that was taken over can
//! have heads signed that are not true, but no statement, certificate or transaction that somebody would take for this
//! token's.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use cryptoki::object::ObjectClass;

use super::{known, refused};
use crate::fault::Failure;
use crate::owner::{Owner, lock};
use crate::template;
use protocol::{Class, Reply};

/// Longest text that is signed, in bytes: far more than a head without extensions has.
const TEXT_BYTES: usize = 2_048;
/// Bytes of a root.
const ROOT_BYTES: usize = 32;

pub(in super::super) fn run(owner: &mut Owner, text: &[u8]) -> Result<Reply, Failure> {
    if let Err(why) = is_checkpoint(text) {
        return Err(refused(&format!("signs heads of audit logs and nothing else; this is none: {why}")));
    }
    let kept = lock(&owner.token.log_key).clone();
    let pair = match kept {
        Some(pair) if owner.is_named(pair.private, ObjectClass::PRIVATE_KEY, template::LOG)? => pair,
        _ => {
            // Only this call tells a token that is gone from one that holds no such key.
            owner.token_info()?;
            known(owner)?
        }
    };
    let signature = pair.sign(&owner.session, text)?;
    if !pair.has_signed(text, &signature) {
        // Under the handle may be another pair of that label by now.
        *lock(&owner.token.log_key) = None;
        return Err(Failure::own(Class::Token, "C_Sign", "the signature is not the log key's"));
    }
    Ok(Reply::Signature(signature.into()))
}

/// Whether this is the text of a head, as C2SP's tlog-checkpoint has it; why not, in words.
fn is_checkpoint(text: &[u8]) -> Result<(), &'static str> {
    if text.len() > TEXT_BYTES {
        return Err("it is too long");
    }
    let text = std::str::from_utf8(text).map_err(|_| "it is not text")?;
    let text = text.strip_suffix('\n').ok_or("its last line has no end")?;
    let mut lines = text.split('\n');
    let (origin, size, root) = (lines.next(), lines.next(), lines.next());
    if origin.is_none_or(|origin| !is_line(origin) || origin.contains('+') || origin.trim() != origin) {
        return Err("its first line is no origin");
    }
    // As it is printed: no sign, and no zeroes before the number.
    if size.is_none_or(|size| size.parse::<u64>().map(|number| number.to_string()).as_deref() != Ok(size)) {
        return Err("its second line is no size");
    }
    if root.is_none_or(|root| STANDARD.decode(root).map(|bytes| bytes.len()) != Ok(ROOT_BYTES)) {
        return Err("its third line is no root");
    }
    if lines.all(is_line) { Ok(()) } else { Err("a line of it is empty or not for people's eyes") }
}

fn is_line(line: &str) -> bool {
    !line.is_empty() && !line.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::super::SAMPLE;
    use super::*;

    const ROOT: &str = "CsUYapGGPo4dkMgIAUqom/Xajj7h2fB2MPA3j2jxq2I=";

    #[test]
    fn heads_are_signed() {
        let extensions = "x\n".repeat((TEXT_BYTES - 60) / 2);
        for head in [
            SAMPLE.to_owned(),
            format!("kms.example/audit\n{}\n{ROOT}\n", u64::MAX),
            format!("Größe und mehr\n7\n{ROOT}\nan extension\nand one more\n"),
            format!("o\n1\n{ROOT}\n{extensions}"),
        ] {
            assert_eq!(is_checkpoint(head.as_bytes()), Ok(()), "{head}");
        }
    }

    #[test]
    fn nothing_else_is() {
        let statement = model::identity::log_key_statement(&"cluster-abcdefghijk".into(), &"a".into(), "1", "o/a+0+k");
        for (text, why) in [
            (String::new(), "no end"),
            ("\n".to_owned(), "no origin"),
            (statement, "no size"),
            (format!("o\n7\n{ROOT}"), "no end"),
            (format!("\n7\n{ROOT}\n"), "no origin"),
            (format!("o+1\n7\n{ROOT}\n"), "no origin"),
            (format!(" o\n7\n{ROOT}\n"), "no origin"),
            (format!("o\u{1b}[2J\n7\n{ROOT}\n"), "no origin"),
            (format!("o\r\n7\n{ROOT}\n"), "no origin"),
            ("o\n7\n".to_owned(), "no root"),
            (format!("o\n07\n{ROOT}\n"), "no size"),
            (format!("o\n+7\n{ROOT}\n"), "no size"),
            (format!("o\n-7\n{ROOT}\n"), "no size"),
            (format!("o\n7 \n{ROOT}\n"), "no size"),
            (format!("o\n18446744073709551616\n{ROOT}\n"), "no size"),
            (format!("o\n7\n{}\n", &ROOT[..43]), "no root"),
            (format!("o\n7\n{ROOT}AAAA\n"), "no root"),
            // Bits that are not part of the root.
            (format!("o\n7\n{}J=\n", &ROOT[..42]), "no root"),
            (format!("o\n7\n{}_{}\n", &ROOT[..5], &ROOT[6..]), "no root"),
            (format!("o\n7\n{ROOT}\n\n"), "a line"),
            (format!("o\n7\n{ROOT}\n\n\u{2014} o AAAA\n"), "a line"),
            (format!("o\n7\n{ROOT}\n{}\n", "x".repeat(TEXT_BYTES)), "too long"),
        ] {
            let refused = is_checkpoint(text.as_bytes()).unwrap_err();
            assert!(refused.contains(why), "{text:?}: {refused}");
        }
        assert!(is_checkpoint(&[b"o\n7\n".as_slice(), ROOT.as_bytes(), b"\n\xff\n"].concat()).is_err());
        assert!(is_checkpoint(&[0x42; 32]).is_err(), "no digest");
    }
}
