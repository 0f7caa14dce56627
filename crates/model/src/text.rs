//! What PINs, names, labels and descriptions may look like, and how text from outside is shown.
//!
//! One rule for each kind of value, used by every command, the configuration and every call, so that what one of them
//! has taken no other refuses. Ids have theirs in [`super::id`].

use std::borrow::Cow;
use std::fmt::Write as _;

use super::limits;

/// Why a value is not what it must be. The text says what is right, and nothing of what was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Wrong {
    /// See [`pin`].
    #[error(
        "a PIN is {least} to {most} printable ASCII characters in one line",
        least = limits::PIN_BYTES.0,
        most = limits::PIN_BYTES.1
    )]
    Pin,
    /// See [`key_store_name`].
    #[error(
        "the name of a key store is 1 to {} characters, none of them a control character or one that sets the direction \
         of writing",
        limits::KEY_STORE_NAME_CHARS
    )]
    KeyStoreName,
    /// See [`token_label`].
    #[error(
        "a token's label is 1 to {} bytes without control characters, the last no blank: tokens fill labels up with \
         blanks",
        limits::TOKEN_LABEL_BYTES
    )]
    TokenLabel,
    /// See [`token_serial`].
    #[error("a token's serial number is 1 to {} bytes without control characters", limits::TOKEN_SERIAL_BYTES)]
    TokenSerial,
    /// See [`description`].
    #[error("a description has at most {} characters", limits::DESCRIPTION_CHARS)]
    Description,
    /// See [`identity`].
    #[error(
        "the name of a certificate is cn:NAME, dns:NAME or spiffe://…, of at most {} bytes and without control \
         characters",
        limits::IDENTITY_BYTES
    )]
    Identity,
}

/// A PIN, of kmsuser or of a security officer: 4 to 255 printable ASCII characters. Blanks count: a token may have been
/// given such a PIN long before keystored came to it.
pub fn pin(bytes: &[u8]) -> Result<(), Wrong> {
    let (least, most) = limits::PIN_BYTES;
    let legal = (least..=most).contains(&bytes.len()) && bytes.iter().all(|byte| matches!(byte, b' '..=b'~'));
    legal.then_some(()).ok_or(Wrong::Pin)
}

/// The name of a key store: 1 to 256 characters that can be shown as they are.
pub fn key_store_name(text: &str) -> Result<(), Wrong> {
    let legal = (1..=limits::KEY_STORE_NAME_CHARS).contains(&text.chars().count()) && !text.contains(commands);
    legal.then_some(()).ok_or(Wrong::KeyStoreName)
}

/// The label of a token, by which it is found: 1 to 32 bytes.
pub fn token_label(text: &str) -> Result<(), Wrong> {
    let legal = (1..=limits::TOKEN_LABEL_BYTES).contains(&text.len()) && !text.contains(commands);
    (legal && !text.ends_with(' ')).then_some(()).ok_or(Wrong::TokenLabel)
}

/// The serial number of a token: 1 to 16 bytes.
pub fn token_serial(text: &str) -> Result<(), Wrong> {
    let legal = (1..=limits::TOKEN_SERIAL_BYTES).contains(&text.len()) && !text.contains(commands);
    legal.then_some(()).ok_or(Wrong::TokenSerial)
}

/// The description of a key: up to 8,192 characters, any: they are the creator's, and are [`shown`] with care.
pub fn description(text: &str) -> Result<(), Wrong> {
    (text.chars().count() <= limits::DESCRIPTION_CHARS).then_some(()).ok_or(Wrong::Description)
}

/// The name by which a client certificate is known: `cn:NAME`, `dns:NAME` or `spiffe://…`, up to 512 bytes. One with
/// control characters is let in nowhere, so that none is mapped to anybody.
pub fn identity(text: &str) -> Result<(), Wrong> {
    let name = ["cn:", "dns:", "spiffe://"].iter().find_map(|kind| text.strip_prefix(kind));
    let legal = name.is_some_and(|name| !name.is_empty() && !name.contains(char::is_control));
    (legal && text.len() <= limits::IDENTITY_BYTES).then_some(()).ok_or(Wrong::Identity)
}

/// Text from outside as a person may see it in one line: what a terminal or a viewer would obey instead of showing it
/// is written as Rust writes it, such as `\n` and `\u{1b}`.
#[must_use]
pub fn shown(text: &str) -> Cow<'_, str> {
    escaped(text, commands)
}

/// The same for text that has lines.
#[must_use]
pub fn shown_lines(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c != '\n' && commands(c))
}

/// JSON as a person may see it. A JSON text holds such characters only inside its strings, and there `\u` means the
/// same.
#[must_use]
pub fn shown_json(text: &str) -> Cow<'_, str> {
    let obeyed = |c: char| c != '\n' && commands(c);
    if !text.contains(obeyed) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if obeyed(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                // A String takes everything.
                let _ = write!(out, "\\u{unit:04x}");
            }
        } else {
            out.push(c);
        }
    }
    out.into()
}

fn escaped(text: &str, obeyed: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&obeyed) {
        return text.into();
    }
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if obeyed(c) {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    out.into()
}

/// Whether a terminal or a viewer would obey the character instead of showing it, or show nothing where something is:
/// control characters, breaks of lines and paragraphs, what sets the direction of writing, what is invisible. Joiners
/// of letters stay: Persian, many languages of India and emoji are written with them.
fn commands(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_pin_has_its_bounds_and_may_have_blanks() {
        for good in [&b"1234"[..], b"pass word", b"    ", b"~!@#$%^&*()", &[b'1'; 255]] {
            assert_eq!(pin(good), Ok(()), "{good:?}");
        }
        for wrong in [&b""[..], b"123", b"1234\n", b"12\t34", b"12\x7f34", "pässword".as_bytes(), &[b'1'; 256]] {
            assert_eq!(pin(wrong), Err(Wrong::Pin), "{wrong:?}");
        }
        assert_eq!(Wrong::Pin.to_string(), "a PIN is 4 to 255 printable ASCII characters in one line");
    }

    #[test]
    fn names_and_labels_are_shown_as_they_are() {
        for good in ["a", "Zahlungsverkehr – Köln", "鍵　ストア", "a b", &"n".repeat(256)] {
            assert_eq!(key_store_name(good), Ok(()), "{good}");
        }
        for wrong in ["", "a\nb", "a\u{1b}[2Jb", "a\u{9b}2Jb", "a\u{202e}b", "a\u{200b}b", &"n".repeat(257)] {
            assert_eq!(key_store_name(wrong), Err(Wrong::KeyStoreName), "{wrong:?}");
        }
        assert_eq!(token_label(&"l".repeat(32)), Ok(()));
        assert_eq!(token_label("zone a"), Ok(()));
        for wrong in ["", "label ", "la\u{7}bel", &"l".repeat(33), &"é".repeat(17)] {
            assert_eq!(token_label(wrong), Err(Wrong::TokenLabel), "{wrong:?}");
        }
        assert_eq!(token_serial(&"1".repeat(16)), Ok(()));
        for wrong in ["", "1\n", &"1".repeat(17)] {
            assert_eq!(token_serial(wrong), Err(Wrong::TokenSerial), "{wrong:?}");
        }
    }

    #[test]
    fn a_certificate_is_known_in_one_of_three_ways() {
        for good in ["cn:app", "cn:Köln, Zahlungen", "dns:app.example", "spiffe://example/ns/a", &"cn:".repeat(170)] {
            assert_eq!(identity(good), Ok(()), "{good}");
        }
        let long = format!("cn:{}", "n".repeat(510));
        for wrong in ["", "cn:", "dns:", "spiffe://", "app", "CN:app", "uri:x", "cn:a\nb", " cn:app", &long] {
            assert_eq!(identity(wrong), Err(Wrong::Identity), "{wrong:?}");
        }
    }

    #[test]
    fn a_description_counts_characters() {
        assert_eq!(description(&"ü".repeat(8_192)), Ok(()));
        assert_eq!(description("\u{1b}[31m"), Ok(()));
        assert_eq!(description(&"d".repeat(8_193)), Err(Wrong::Description));
    }

    #[test]
    fn what_a_terminal_would_obey_is_shown() {
        assert_eq!(shown("plain – ü 鍵 👩‍🚀"), "plain – ü 鍵 👩‍🚀");
        assert_eq!(shown("a\u{1b}[31mb\r\n\u{202e}c\u{9b}m"), r"a\u{1b}[31mb\r\n\u{202e}c\u{9b}m");
        assert_eq!(shown_lines("a\nb\u{7}"), "a\nb\\u{7}");
        assert_eq!(shown_json("{\n\"a\": \"\u{202e}\u{9b}\u{e0041}\"}"), "{\n\"a\": \"\\u202e\\u009b\\udb40\\udc41\"}");
    }

    proptest! {
        #[test]
        fn nothing_shown_is_obeyed(text: String) {
            prop_assert!(!shown(&text).contains(commands));
            prop_assert!(!shown_lines(&text).contains(|c| c != '\n' && commands(c)));
            let once = shown(&text);
            prop_assert_eq!(&shown(&once), &once);
        }

        #[test]
        fn json_means_the_same(text: String) {
            let json = serde_json::to_string_pretty(&[&text]).unwrap();
            let shown = shown_json(&json);
            prop_assert!(!shown.contains(|c| c != '\n' && commands(c)));
            prop_assert_eq!(serde_json::from_str::<[String; 1]>(&shown).unwrap(), [text]);
        }
    }
}
