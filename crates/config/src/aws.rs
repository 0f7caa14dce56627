//! Of the file's shape: the listener for clients of AWS KMS.

use std::net::{Ipv6Addr, SocketAddr};

use toml::Spanned;

use super::check::Context;
use super::{Aws, Error, raw};

/// Longest name in DNS, as people write it.
const HOST_BYTES: usize = 253;

impl Context<'_> {
    /// `grpc` and `ops` are where the others listen.
    pub(super) fn aws(&self, raw: &raw::Aws, grpc: SocketAddr, ops: SocketAddr) -> Result<Aws, Error> {
        let listen = self.address(&raw.listen)?;
        for (other, section) in [(grpc, "grpc"), (ops, "ops")] {
            if listen == other && listen.port() != 0 {
                let message = format!(
                    "{listen} is {section}.listen already; each listener has an address of its own, such as 0.0.0.0:7413"
                );
                return Err(self.at(&raw.listen, message));
            }
        }
        Ok(Aws {
            listen,
            certificate: self.path(&raw.certificate)?,
            key: self.path(&raw.key)?,
            client_ca: raw.client_ca.as_ref().map(|path| self.path(path)).transpose()?,
            hosts: raw.hosts.iter().map(|host| self.host(host)).collect::<Result<_, _>>()?,
            tls12: raw.tls12,
        })
    }

    /// HOST or HOST:PORT, as clients send it.
    fn host(&self, value: &Spanned<String>) -> Result<String, Error> {
        let text = value.get_ref();
        let (host, port) = match text.rsplit_once(':') {
            Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
            _ => (text.as_str(), None),
        };
        let address = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let name = |name: &str| name.bytes().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'-' | b'_'));
        let good = match address {
            Some(address) => address.parse::<Ipv6Addr>().is_ok(),
            None => (1..=HOST_BYTES).contains(&host.len()) && name(host),
        };
        if good && port.is_none_or(|port| port.parse::<u16>().is_ok()) {
            return Ok(text.clone());
        }
        Err(self
            .at(value, format!("{text:?} is no host; write HOST or HOST:PORT, such as kms.example.com or [::1]:7413")))
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Config;
    use super::super::check::check;
    use super::*;

    fn judge(section: &str) -> Result<Config, Error> {
        let sample = include_str!("../../../deploy/keystored.toml");
        let text = sample.replacen("[ops]", &format!("{section}\n[ops]"), 1);
        let credentials = Some(Path::new("/run/credentials/keystored"));
        check(&Context { file: Path::new("/etc/keystored/keystored.toml"), text: &text, credentials })
    }

    #[test]
    fn there_is_none_unless_it_is_written() {
        assert!(judge("").expect("good").aws.is_none());
        let text = "[aws]\nlisten = \"[::]:443\"\ncertificate = \"aws.pem\"\nkey = \"credential:aws-key\"";
        let aws = judge(text).expect("good").aws.expect("a listener");
        assert_eq!(aws.listen, "[::]:443".parse().expect("an address"));
        assert_eq!(aws.certificate, Path::new("/etc/keystored/aws.pem"));
        assert_eq!(aws.key, Path::new("/run/credentials/keystored/aws-key"));
        assert!(aws.client_ca.is_none() && !aws.tls12 && aws.hosts.is_empty());
        let hosts = "hosts = [\"kms.example.com\", \"127.0.0.1:7413\", \"[::1]:7413\", \"[::1]\"]";
        let aws = judge(&format!("{text}\n{hosts}")).expect("good").aws.expect("a listener");
        assert_eq!(aws.hosts, ["kms.example.com", "127.0.0.1:7413", "[::1]:7413", "[::1]"]);
        let aws = judge(&format!("{text}\nclient_ca = \"ca.pem\"\ntls12 = true")).expect("good").aws;
        let aws = aws.expect("a listener");
        assert!(aws.tls12 && aws.client_ca.is_some_and(|path| path == Path::new("/etc/keystored/ca.pem")));
    }

    #[test]
    fn what_cannot_be_meant_is_refused_with_what_would_be_right() {
        let files = "certificate = \"a\"\nkey = \"b\"";
        for (text, says) in [
            (format!("[aws]\nlisten = \"443\"\n{files}"), "\"443\" is no address; write IP:PORT"),
            (format!("[aws]\n{files}"), "missing field `listen`"),
            ("[aws]\nlisten = \"[::]:443\"\nkey = \"b\"".to_owned(), "missing field `certificate`"),
            ("[aws]\nlisten = \"[::]:443\"\ncertificate = \"\"\nkey = \"b\"".to_owned(), "an empty path"),
            (format!("[aws]\nlisten = \"[::]:443\"\n{files}\ntls = 12"), "unknown field `tls`"),
            (format!("[aws]\nlisten = \"[::]:443\"\n{files}\nhosts = [\"https://kms\"]"), "\"https://kms\" is no host"),
            (format!("[aws]\nlisten = \"[::]:443\"\n{files}\nhosts = [\"\"]"), "\"\" is no host"),
            (format!("[aws]\nlisten = \"[::]:443\"\n{files}\nhosts = [\"kms:99999\"]"), "\"kms:99999\" is no host"),
            (format!("[aws]\nlisten = \"[::]:443\"\n{files}\nhosts = [\"[a]\"]"), "\"[a]\" is no host"),
            (format!("[aws]\nlisten = \"0.0.0.0:7411\"\n{files}"), "0.0.0.0:7411 is grpc.listen already"),
            (format!("[aws]\nlisten = \"127.0.0.1:7412\"\n{files}"), "127.0.0.1:7412 is ops.listen already"),
        ] {
            let error = judge(&text).expect_err(&text);
            assert!(error.message.contains(says) && error.line.is_some(), "{text}: {error}");
        }
    }
}
