//! Of the file's shape: the audit log, and where its records go beside it.

use std::path::Path;

use toml::Spanned;

use super::check::Context;
use super::{Audit, AuditSync, Error, SyslogAddress, raw};
use model::id::Scope;

/// The log's folder in the state directory, where the file names no other.
const FOLDER: &str = "audit";
/// Most bytes of an origin: it stands in each checkpoint, and in names of keys.
const ORIGIN_BYTES: usize = 200;

impl Context<'_> {
    pub(super) fn audit(&self, raw: &raw::Audit, state_dir: &Path, scope: &Scope) -> Result<Audit, Error> {
        let interval = self.millis(raw.sync_interval_ms.as_ref(), 100, 1..=10_000)?;
        let sync = match (raw.sync, &raw.sync_interval_ms) {
            (Some(raw::AuditSync::Always), None) => AuditSync::Always,
            (Some(raw::AuditSync::Always), Some(value)) => {
                let message = "sync_interval_ms has no meaning with sync = \"always\"; take one of the two out";
                return Err(self.at(value, message));
            }
            _ => AuditSync::Interval(interval),
        };
        Ok(Audit {
            dir: raw.dir.as_ref().map_or_else(|| Ok(state_dir.join(FOLDER)), |dir| self.path(dir))?,
            origin: raw.origin.as_ref().map_or_else(
                || Ok(format!("keystored/{}/{}", scope.account, scope.region)),
                |origin| self.origin(origin),
            )?,
            sync,
            json: raw.json.as_ref().map(|json| self.path(&json.path)).transpose()?,
            syslog: raw.syslog.as_ref().map(|syslog| self.syslog(&syslog.address)).transpose()?,
        })
    }

    /// C2SP's signed-note: not empty, without white space and plus signs. Control characters would be legal.
    fn origin(&self, value: &Spanned<String>) -> Result<String, Error> {
        let text = value.get_ref();
        let illegal = |c: char| c.is_whitespace() || c.is_control() || c == '+';
        if (1..=ORIGIN_BYTES).contains(&text.len()) && !text.contains(illegal) {
            return Ok(text.clone());
        }
        let message = format!(
            "{text:?} is no origin; write 1 to {ORIGIN_BYTES} bytes without blanks, control characters and '+', such as \
             kms.example.com/audit"
        );
        Err(self.at(value, message))
    }

    fn syslog(&self, value: &Spanned<String>) -> Result<SyslogAddress, Error> {
        let text = value.get_ref();
        let wrong = || {
            let message = format!(
                "{text:?} is no receiver of syslog; write tcp://HOST:PORT, such as tcp://127.0.0.1:601, or unix:/PATH"
            );
            self.at(value, message)
        };
        if let Some(path) = text.strip_prefix("unix:") {
            let path = Path::new(path);
            return if path.is_absolute() { Ok(SyslogAddress::Unix(path.to_owned())) } else { Err(wrong()) };
        }
        let address = text.strip_prefix("tcp://").ok_or_else(wrong)?;
        let (host, port) = address.rsplit_once(':').ok_or_else(wrong)?;
        // An IPv6 address stands in brackets, as it does in a URL.
        let bracketed = host.starts_with('[') && host.ends_with(']') && host.len() > 2;
        let named = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || "[]:/@".contains(c));
        match port.parse::<u16>() {
            Ok(1..) if bracketed || named => Ok(SyslogAddress::Tcp(address.to_owned())),
            _ => Err(wrong()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::time::Duration;

    use super::super::Config;
    use super::super::check::check;
    use super::*;

    fn judge(section: &str) -> Result<Config, Error> {
        let sample = include_str!("../../../deploy/keystored.toml");
        // In the place of the sample's own, which comes before [log].
        let (head, rest) = sample.split_once("[audit]").expect("the sample has it");
        let (_, tail) = rest.split_once("[log]").expect("and that");
        let text = format!("{head}{section}\n[log]{tail}");
        check(&Context {
            file: Path::new("/etc/keystored/keystored.toml"),
            text: &text,
            credentials: Some(Path::new("/run")),
        })
    }

    #[test]
    fn there_always_is_one() {
        let expected = Audit {
            dir: "/var/lib/keystored/audit".into(),
            origin: "keystored/123456789012/eu-central-1".to_owned(),
            sync: AuditSync::Interval(Duration::from_millis(100)),
            json: None,
            syslog: None,
        };
        assert_eq!(judge("").expect("good").audit, expected);
        let sample = include_str!("../../../deploy/keystored.toml");
        let (_, own) = sample.split_once("[audit]").expect("it is there");
        let own = own.split_once("[log]").expect("it is there").0;
        assert_eq!(judge(&format!("[audit]{own}")).expect("good").audit, expected, "the sample tells the defaults");
    }

    #[test]
    fn what_is_written_is_taken_over() {
        let text = "[audit]\ndir = \"audit\"\norigin = \"kms.example.com/a\"\nsync = \"always\"\n\
                    json.path = \"/var/log/k.jsonl\"\nsyslog.address = \"unix:/dev/log\"";
        let expected = Audit {
            dir: "/etc/keystored/audit".into(),
            origin: "kms.example.com/a".to_owned(),
            sync: AuditSync::Always,
            json: Some("/var/log/k.jsonl".into()),
            syslog: Some(SyslogAddress::Unix(PathBuf::from("/dev/log"))),
        };
        assert_eq!(judge(text).expect("good").audit, expected);
        let sync = judge("[audit]\nsync = \"interval\"\nsync_interval_ms = 7").expect("good").audit.sync;
        assert_eq!(sync, AuditSync::Interval(Duration::from_millis(7)));
        for address in ["127.0.0.1:601", "[::1]:601", "log.example.com:6514"] {
            let text = format!("[audit.syslog]\naddress = \"tcp://{address}\"");
            assert_eq!(judge(&text).expect("good").audit.syslog, Some(SyslogAddress::Tcp(address.to_owned())));
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_what_would_be_right() {
        for (text, says) in [
            ("dir = \"\"", "an empty path"),
            ("origin = \"\"", "is no origin; write 1 to 200 bytes"),
            ("origin = \"a b\"", "is no origin"),
            ("origin = \"a+b\"", "is no origin"),
            ("origin = \"a\\u00a0b\"", "is no origin"),
            ("origin = \"a\\u0007b\"", "is no origin"),
            ("sync = \"never\"", "expected `interval` or `always`"),
            ("sync_interval_ms = 0", "0 is outside 1 to 10000"),
            ("sync = \"always\"\nsync_interval_ms = 5", "sync_interval_ms has no meaning with sync = \"always\""),
            ("json = {}", "missing field `path`"),
            ("json.path = \"\"", "an empty path"),
            ("json.file = \"a\"", "unknown field `file`"),
            ("enabled = false", "unknown field `enabled`"),
            ("syslog.address = \"localhost:601\"", "is no receiver of syslog; write tcp://HOST:PORT"),
            ("syslog.address = \"tcp://localhost\"", "is no receiver of syslog"),
            ("syslog.address = \"tcp://:601\"", "is no receiver of syslog"),
            ("syslog.address = \"tcp://::1:601\"", "is no receiver of syslog"),
            ("syslog.address = \"tcp://a:0\"", "is no receiver of syslog"),
            ("syslog.address = \"udp://a:514\"", "is no receiver of syslog"),
            ("syslog.address = \"unix:log\"", "is no receiver of syslog"),
        ] {
            let error = judge(&format!("[audit]\n{text}")).expect_err(text);
            assert!(error.message.contains(says) && error.line.is_some(), "{text}: {error}");
        }
    }
}
