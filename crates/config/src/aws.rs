//! Of the file's shape: the listener for clients of AWS KMS.

use std::net::SocketAddr;

use super::check::Context;
use super::{Aws, Error, raw};

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
            tls12: raw.tls12,
        })
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
        assert!(aws.client_ca.is_none() && !aws.tls12);
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
            (format!("[aws]\nlisten = \"0.0.0.0:7411\"\n{files}"), "0.0.0.0:7411 is grpc.listen already"),
            (format!("[aws]\nlisten = \"127.0.0.1:7412\"\n{files}"), "127.0.0.1:7412 is ops.listen already"),
        ] {
            let error = judge(&text).expect_err(&text);
            assert!(error.message.contains(says) && error.line.is_some(), "{text}: {error}");
        }
    }
}
