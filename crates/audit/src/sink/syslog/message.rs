//! One record as a message of syslog (RFC 5424), in octet counting frames where it goes through a stream (RFC 6587).
//!
//! Here, and not by a crate: `syslog` 7 has no octet counting, and takes neither the time of the record nor a name for its
//! MSGID; `syslog_rfc5424` 0.10 neither. What is needed of the two standards is this file.

use serde::Deserialize;

/// "Log audit".
const FACILITY: u8 = 13;
const NOTICE: u8 = 5;
const INFORMATIONAL: u8 = 6;
/// Sequence ids go from 1 to this and begin anew.
const SEQUENCE: u64 = 2_147_483_647;
/// Most characters of a MSGID.
const MSGID: usize = 32;
/// Most characters of a HOSTNAME.
const HOSTNAME: usize = 255;

/// What a header tells of a record.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shown {
    event_time: Option<String>,
    event_name: Option<String>,
    error_code: Option<String>,
}

/// Who sends.
#[derive(Clone, Debug)]
pub(super) struct Sender {
    host: String,
    process: u32,
}

impl Sender {
    pub(super) fn new(host: &str, process: u32) -> Self {
        Self { host: printable(host, HOSTNAME).to_owned(), process }
    }

    /// This process on this host.
    pub(super) fn here() -> Self {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Self::new(host.trim(), std::process::id())
    }

    /// The message of the record of this number.
    pub(super) fn message(&self, number: u64, record: &[u8]) -> Vec<u8> {
        let shown = serde_json::from_slice(record).ok();
        let shown = shown.unwrap_or(Shown { event_time: None, event_name: None, error_code: None });
        let severity = if shown.error_code.is_some() { NOTICE } else { INFORMATIONAL };
        let header = format!(
            "<{}>1 {} {} keystored {} {} [meta sequenceId=\"{}\"] ",
            FACILITY * 8 + severity,
            shown.event_time.as_deref().map_or("-", time),
            self.host,
            self.process,
            printable(shown.event_name.as_deref().unwrap_or(""), MSGID),
            number % SEQUENCE + 1,
        );
        [header.as_bytes(), record].concat()
    }
}

/// A frame of a stream.
pub(super) fn framed(message: &[u8]) -> Vec<u8> {
    [format!("{} ", message.len()).as_bytes(), message].concat()
}

/// Printable ASCII without blanks, of a length; a dash where it is not.
fn printable(text: &str, most: usize) -> &str {
    let is = (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
    if is { text } else { "-" }
}

/// A time as RFC 3339 has it in UTC; a dash where it is not.
fn time(text: &str) -> &str {
    let bytes = text.as_bytes();
    let digits = |from: usize, to: usize| bytes.get(from..to).is_some_and(|part| part.iter().all(u8::is_ascii_digit));
    let at = |index: usize, byte: u8| bytes.get(index) == Some(&byte);
    let day = digits(0, 4) && at(4, b'-') && digits(5, 7) && at(7, b'-') && digits(8, 10) && at(10, b'T');
    let hour = digits(11, 13) && at(13, b':') && digits(14, 16) && at(16, b':') && digits(17, 19);
    let fraction = match bytes.get(19..) {
        Some([b'Z']) => true,
        Some([b'.', digits @ .., b'Z']) => (1..=6).contains(&digits.len()) && digits.iter().all(u8::is_ascii_digit),
        _ => false,
    };
    if day && hour && fraction { text } else { "-" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(number: u64, record: &str) -> String {
        String::from_utf8(Sender::new("kms-1.example", 77).message(number, record.as_bytes())).unwrap()
    }

    #[test]
    fn a_message_is_header_sequence_and_the_record_as_it_is() {
        let record = r#"{"eventTime":"2026-01-02T03:04:05Z","eventName":"Decrypt","x":"ä"}"#;
        assert_eq!(
            text(0, record),
            format!(r#"<110>1 2026-01-02T03:04:05Z kms-1.example keystored 77 Decrypt [meta sequenceId="1"] {record}"#)
        );
        let refused = r#"{"eventTime":"2026-01-02T03:04:05.123Z","eventName":"Decrypt","errorCode":"AccessDenied"}"#;
        let sent = text(SEQUENCE, refused);
        assert!(sent.starts_with("<109>1 2026-01-02T03:04:05.123Z kms-1.example keystored 77 Decrypt "), "{sent}");
        assert!(sent.contains(r#"[meta sequenceId="1"]"#), "{sent}");
        assert!(text(SEQUENCE - 1, "{}").contains(r#"sequenceId="2147483647""#));
    }

    #[test]
    fn what_is_no_header_field_is_left_out() {
        for record in ["{}", "no json", "", r#"{"eventTime":7}"#, r#"{"eventTime":"yesterday","eventName":"a b"}"#] {
            let sent = text(4, record);
            assert_eq!(sent, format!(r#"<110>1 - kms-1.example keystored 77 - [meta sequenceId="5"] {record}"#));
        }
        for host in ["", "a b", "ä", &"x".repeat(256)] {
            let sent = Sender::new(host, 1).message(0, b"{}");
            assert!(sent.starts_with(b"<110>1 - - keystored 1 - "), "{host}");
        }
        for wrong in
            ["2026-01-02T03:04:05", "2026-01-02 03:04:05Z", "2026-01-02T03:04:05.Z", "2026-01-02T03:04:05.1234567Z"]
        {
            assert_eq!(time(wrong), "-", "{wrong}");
        }
    }

    #[test]
    fn a_frame_tells_its_length_in_bytes() {
        assert_eq!(framed("ä".as_bytes()), "2 ä".as_bytes());
    }
}
