//! By which names this interface is called, where the configuration says so: what was signed for another service, which
//! shares region and access keys with this one, is not taken here.

use std::sync::Arc;

use http::header::HOST;
use http::request::Parts;
use http::uri::Authority;

use crate::sigv4::Refusal;

/// The port that is meant where none is said.
const HTTPS: u16 = 443;

/// Names, with a port or for any; none: whatever it is called by.
#[derive(Clone, Debug, Default)]
pub(super) struct Hosts(Arc<[Authority]>);

impl Hosts {
    /// What is no host is nobody's name.
    pub(super) fn new(names: &[String]) -> Self {
        Self(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// Whether the host of a request, which has been found to be signed, is one of these.
    pub(super) fn judge(&self, head: &Parts) -> Result<(), Refusal> {
        if self.0.is_empty() {
            return Ok(());
        }
        let host = head.headers.get(HOST).map_or(&b""[..], |host| host.as_bytes());
        let called = Authority::try_from(host).ok();
        let is_it = |ours: &Authority| {
            called.as_ref().filter(|called| !called.as_str().contains('@')).is_some_and(|called| {
                // Clients leave the port out that HTTPS has anyway.
                let port = ours.port_u16().is_none_or(|port| called.port_u16().unwrap_or(HTTPS) == port);
                port && ours.host().eq_ignore_ascii_case(called.host())
            })
        };
        if self.0.iter().any(is_it) { Ok(()) } else { Err(Refusal::other_host(host)) }
    }
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn judged(hosts: &[&str], host: &str) -> Result<(), String> {
        let hosts = Hosts::new(&hosts.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>());
        let (head, ()) = Request::post("/").header("host", host).body(()).unwrap().into_parts();
        hosts.judge(&head).map_err(|refusal| format!("{}: {refusal}", refusal.name()))
    }

    #[test]
    fn any_name_will_do_unless_there_are_some() {
        assert_eq!(judged(&[], "anything at all"), Ok(()));
        let ours = ["kms.example.com", "127.0.0.1:7413", "[::1]"];
        for host in ["kms.example.com", "KMS.Example.com", "kms.example.com:8443", "127.0.0.1:7413", "[::1]:7413"] {
            assert_eq!(judged(&ours, host), Ok(()), "{host}");
        }
        for host in
            ["", "kms.example.org", "a.kms.example.com", "127.0.0.1", "127.0.0.1:7414", "a@kms.example.co", "a b"]
        {
            let refusal = judged(&ours, host).unwrap_err();
            let text = format!("InvalidSignatureException: The request is signed for the host '{host}', which is none");
            assert!(refusal.starts_with(&text), "{refusal}");
        }
        // Without a port the one of HTTPS is meant.
        for host in ["kms.example.com", "kms.example.com:443"] {
            assert_eq!(judged(&["kms.example.com:443"], host), Ok(()), "{host}");
        }
        assert!(judged(&["kms.example.com:443"], "kms.example.com:8443").is_err());
        assert!(judged(&["kms.example.com:8443"], "kms.example.com").is_err());
        // Who a name is said to be of makes no difference.
        assert!(judged(&ours, "user@kms.example.com").is_err());
    }
}
