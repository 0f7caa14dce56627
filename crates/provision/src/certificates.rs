//! A CA, the server's certificate and a client's, all for this machine alone.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Error;
use super::files::write;
use model::clock::Clock;
use pki::{self, Authority, Issued};

const DAY: Duration = Duration::from_secs(86_400);
const VALID: Duration = Duration::from_secs(365 * 86_400);
/// The common name of the client that may do everything.
pub(super) const ADMINISTRATOR: &str = "dev-client";
/// With less time left, new ones are made.
const LEFT: Duration = Duration::from_secs(30 * 86_400);

/// Makes the certificates, or finds them. Gives the CA's certificate, the client's certificate and the client's key.
pub(super) fn prepare(
    dir: &Path,
    clock: &Clock,
    progress: &mut (dyn FnMut(&str) + Send),
) -> Result<[PathBuf; 3], Error> {
    let [ca, ca_key] = ["ca.pem", "ca.key"].map(|name| dir.join(name));
    let [server, server_key] = ["server.pem", "server.key"].map(|name| dir.join(name));
    let [client, client_key] = ["dev-client.pem", "dev-client.key"].map(|name| dir.join(name));
    let all = [&ca, &ca_key, &server, &server_key, &client, &client_key];
    let now = clock.calendar();
    // All three end at the same time, so one tells for all.
    let lasts = std::fs::read(&client)
        .ok()
        .and_then(|pem| pki::holder_of_pem(&pem).ok())
        .is_some_and(|holder| holder.not_after > now + LEFT);
    if !lasts || !all.iter().all(|path| path.exists()) {
        progress("making a CA, a server certificate and a client certificate, valid for a year");
        let failed = |error: pki::Error| Error::Wrong(error.to_string());
        let authority = Authority::generate("keystored dev CA", now, VALID + DAY).map_err(failed)?;
        write(&ca, authority.certificate().as_bytes())?;
        write(&ca_key, authority.key().expose())?;
        let issued = authority.server(&["localhost", "127.0.0.1", "::1"], now, VALID).map_err(failed)?;
        keep(&issued, &server, &server_key)?;
        let issued = authority.client(ADMINISTRATOR, None, now, VALID).map_err(failed)?;
        keep(&issued, &client, &client_key)?;
    }
    Ok([ca, client, client_key])
}

fn keep(issued: &Issued, certificate: &Path, key: &Path) -> Result<(), Error> {
    write(certificate, issued.certificate.as_bytes())?;
    write(key, issued.key.expose())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn certificates_are_made_once() {
        let dir = tempfile::tempdir().expect("a directory");
        let clock = Clock::system();
        let mut steps = 0;
        let files = prepare(dir.path(), &clock, &mut |_| steps += 1).expect("made");
        let before = files.clone().map(|file| std::fs::read(file).expect("there"));
        assert_eq!(prepare(dir.path(), &clock, &mut |_| steps += 1).expect("found"), files);
        assert_eq!(steps, 1);
        assert_eq!(before, files.map(|file| std::fs::read(file).expect("there")));
        assert_eq!(pki::holder_of_pem(&before[1]).expect("read").name, "cn:dev-client");
    }
}
