//! A CA, the server's certificate and those of two clients, all for this machine alone.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use zeroize::Zeroizing;

use super::Error;
use super::files::{error, write};
use model::clock::Clock;
use pki::{self, Authority, Issued};

const DAY: Duration = Duration::from_secs(86_400);
const VALID: Duration = Duration::from_secs(365 * 86_400);
/// The common name of the client that may do everything.
pub(super) const ADMINISTRATOR: &str = "dev-client";
/// The common name of the client that may use keys, and the name of its principal.
pub(super) const APP: &str = "app";
/// With less time left, new ones are made.
const LEFT: Duration = Duration::from_secs(30 * 86_400);

/// What a client needs: the CA's certificate, its own certificate, its key.
type Client = [PathBuf; 3];

/// Makes the certificates, or finds them. Gives what the administrator and what the app needs.
pub(super) fn prepare(
    dir: &Path,
    clock: &Clock,
    progress: &mut (dyn FnMut(&str) + Send),
) -> Result<[Client; 2], Error> {
    let [ca, ca_key] = ["ca.pem", "ca.key"].map(|name| dir.join(name));
    let [server, server_key] = ["server.pem", "server.key"].map(|name| dir.join(name));
    let client = |name: &str| [".pem", ".key"].map(|suffix| dir.join(format!("{name}{suffix}")));
    let clients = [ADMINISTRATOR, APP].map(client);
    let now = clock.calendar();
    let failed = |error: pki::Error| Error::Wrong(error.to_string());
    let issue = |authority: &Authority, name: &str, [certificate, key]: &[PathBuf; 2]| {
        keep(&authority.client(name, None, now, VALID).map_err(failed)?, certificate, key)
    };
    let [administrator, app] = &clients;
    // All but the app's end at the same time, so one tells for all.
    let all = [&ca, &ca_key, &server, &server_key, &administrator[0], &administrator[1]];
    if !lasts(&administrator[0], now) || !all.iter().all(|path| path.exists()) {
        progress("making a CA, a server certificate and two client certificates, valid for a year");
        let authority = Authority::generate("keystored dev CA", now, VALID + DAY).map_err(failed)?;
        write(&ca, authority.certificate().as_bytes())?;
        write(&ca_key, authority.key().expose())?;
        let issued = authority.server(&["localhost", "127.0.0.1", "::1"], now, VALID).map_err(failed)?;
        keep(&issued, &server, &server_key)?;
        issue(&authority, APP, app)?;
        issue(&authority, ADMINISTRATOR, administrator)?;
    } else if !lasts(&app[0], now) || !app[1].exists() {
        progress("making a client certificate for the app");
        let read = |path: &Path| std::fs::read_to_string(path).map_err(|cause| error(path, &cause));
        let key = Zeroizing::new(read(&ca_key)?);
        issue(&Authority::load(&read(&ca)?, &key).map_err(failed)?, APP, app)?;
    }
    Ok(clients.map(|[certificate, key]| [ca.clone(), certificate, key]))
}

/// Whether a client's certificate is there and goes on for a while.
fn lasts(certificate: &Path, now: SystemTime) -> bool {
    let holder = std::fs::read(certificate).ok().and_then(|pem| pki::holder_of_pem(&pem).ok());
    holder.is_some_and(|holder| holder.not_after > now + LEFT)
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
        let clients = prepare(dir.path(), &clock, &mut |_| steps += 1).expect("made");
        let contents = || clients.clone().map(|files| files.map(|file| std::fs::read(file).expect("there")));
        let before = contents();
        assert_eq!(prepare(dir.path(), &clock, &mut |_| steps += 1).expect("found"), clients);
        assert_eq!(steps, 1);
        assert_eq!(before, contents());
        let name = |client: &[Vec<u8>; 3]| pki::holder_of_pem(&client[1]).expect("read").name;
        assert_eq!(before.each_ref().map(name), ["cn:dev-client", "cn:app"]);
    }

    #[test]
    fn a_directory_without_an_app_is_given_one_of_the_same_ca() {
        let dir = tempfile::tempdir().expect("a directory");
        let clock = Clock::system();
        let [administrator, app] = prepare(dir.path(), &clock, &mut |_| ()).expect("made");
        let before = administrator.clone().map(|file| std::fs::read(file).expect("there"));
        let former = std::fs::read(&app[1]).expect("there");
        std::fs::remove_file(&app[2]).expect("removed");
        prepare(dir.path(), &clock, &mut |_| ()).expect("made");
        assert_eq!(before, administrator.map(|file| std::fs::read(file).expect("there")));
        assert_ne!(former, std::fs::read(&app[1]).expect("there"));
    }
}
