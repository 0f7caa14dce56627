//! How the workers of an HSM are confined: what its profile needs, what the operator adds, and what none of it may touch.
//!
//! [`Context::sandbox`] reads one HSM's setting, without a look at the disk. [`guard`] comes when all of the
//! configuration is known: it says which files are protected, and refuses what would open one of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use toml::Spanned;

use super::check::Context;
use super::{Config, Error, Hsm, raw};
use model::profile::Profile;
use model::sandbox::{Clash, Protected, READ, Sandbox, WRITE, resolve};

/// Paths and ports of one list.
const ENTRIES: usize = 64;

impl Context<'_> {
    /// What the module may reach; nothing where it is not confined.
    pub(super) fn sandbox(
        &self,
        written: Option<&Spanned<raw::Sandbox>>,
        profile: Profile,
        environment: &BTreeMap<String, String>,
    ) -> Result<Option<Sandbox>, Error> {
        let needed = Sandbox::of_profile(profile.name(), environment);
        match written.map(Spanned::get_ref) {
            None | Some(raw::Sandbox::Switch(true)) => Ok(Some(needed)),
            Some(raw::Sandbox::Switch(false)) => Ok(None),
            Some(raw::Sandbox::More(more)) => self.widened(needed, more).map(Some),
        }
    }

    fn widened(&self, mut sandbox: Sandbox, more: &raw::More) -> Result<Sandbox, Error> {
        for (written, paths) in [(&more.read, &mut sandbox.read), (&more.write, &mut sandbox.write)] {
            self.few(written)?;
            for path in written {
                paths.push(self.path(path)?);
            }
        }
        self.few(&more.connect)?;
        for place in &more.connect {
            match place.get_ref() {
                raw::Place::Port(port) => match u16::try_from(*port) {
                    Ok(0) | Err(_) => return Err(self.at(place, format!("{port} is outside 1 to 65535"))),
                    Ok(port) => sandbox.ports.push(port),
                },
                raw::Place::Socket(path) if path.starts_with('/') => sandbox.sockets.push(path.into()),
                raw::Place::Socket(other) => {
                    let message = format!(
                        "{other:?} is nothing to connect to; write a TCP port (a number, on any host) or the absolute path \
                         of a Unix socket"
                    );
                    return Err(self.at(place, message));
                }
            }
        }
        Ok(sandbox)
    }

    fn few<T>(&self, written: &[Spanned<T>]) -> Result<(), Error> {
        match written.get(ENTRIES) {
            Some(one_more) => {
                Err(self.at(one_more, format!("more than {ENTRIES}; name directories rather than files")))
            }
            None => Ok(()),
        }
    }
}

/// What [`guard`] sees of the disk.
pub(super) struct Disk<'a> {
    /// A path that is there, with its symlinks resolved.
    pub(super) canonical: &'a dyn Fn(&Path) -> Option<PathBuf>,
    /// A file's text.
    pub(super) text: &'a dyn Fn(&Path) -> Option<String>,
    /// The program that runs: this one, which workers are as well.
    pub(super) program: Option<&'a Path>,
}

/// Tells each HSM's sandbox what is protected from it. Fails where it would reach some of that all the same.
pub(super) fn guard(config: &mut Config, credentials: Option<&Path>, disk: &Disk<'_>) -> Result<(), String> {
    let real = |path: &Path| resolve(path, disk.canonical);
    let ours = ours(config, credentials, disk.program);
    certificates_apart(config, &ours, &real)?;
    let listens = listens(config);
    let homes: Vec<(String, Vec<Home>)> =
        config.clusters.iter().flat_map(|one| &one.hsms).map(|hsm| (hsm.id.to_string(), writes(hsm, disk))).collect();
    // Of a confined one it is looked at as what it may read. One that is not runs whatever is written there, with all that this
    // user can do.
    let unconfined: Vec<Protected> = config
        .clusters
        .iter()
        .flat_map(|one| &one.hsms)
        .filter(|hsm| hsm.sandbox.is_none())
        .flat_map(|hsm| {
            let needed = Sandbox::of_profile(hsm.profile.name(), &hsm.environment);
            let runs = std::iter::once(hsm.module.clone()).chain(configuration(hsm, &needed));
            let what = format!("what HSM {} runs, which is not confined,", hsm.id);
            runs.map(move |path| Protected { what: what.clone(), path, readable: true })
        })
        .collect();
    for hsm in config.clusters.iter_mut().flat_map(|one| &mut one.hsms) {
        let (id, mine) = (hsm.id.to_string(), writes(hsm, disk));
        let module = hsm.module.clone();
        let reads = reads(hsm);
        let Some(sandbox) = &mut hsm.sandbox else { continue };
        if let Some((port, what)) = sandbox.ports.iter().find_map(|port| listens.get(port).map(|what| (port, what))) {
            return Err(format!(
                "HSM {id}: the module may connect to port {port}, on which {what} of this daemon listens; let one of them \
                 have another port"
            ));
        }
        let shares =
            |home: &Home| mine.iter().any(|own| own.holds == home.holds && real(&own.path) == real(&home.path));
        sandbox.protected = [&ours[..], &unconfined].concat();
        for (other, homes) in homes.iter().filter(|(other, _)| *other != id) {
            // What both have in the same way, they share: one directory of SoftHSM's tokens, one client software.
            let theirs = homes.iter().filter(|home| !shares(home));
            sandbox.protected.extend(theirs.map(|home| Protected {
                what: format!("what HSM {other} writes to"),
                path: home.path.clone(),
                readable: false,
            }));
        }
        let may_read = READ.iter().map(Path::new).chain([module.as_path()]).chain(reads.iter().map(PathBuf::as_path));
        let may_write = WRITE.iter().map(Path::new).chain(mine.iter().map(|home| home.path.as_path()));
        let may_write = may_write.chain(sandbox.sockets.iter().map(PathBuf::as_path));
        if let Some(clash) = Clash::find(may_read, may_write, &sandbox.protected, &real) {
            return Err(format!("HSM {id}: {clash}"));
        }
    }
    Ok(())
}

/// The ceremony writes the certificates of HSMs that hold none, and so none of them has the place of another file.
fn certificates_apart(config: &Config, ours: &[Protected], real: &dyn Fn(&Path) -> PathBuf) -> Result<(), String> {
    for hsm in config.clusters.iter().flat_map(|cluster| &cluster.hsms) {
        let Some(file) = &hsm.certificate else { continue };
        let (own, place) = (certificate_of(hsm), real(file));
        if let Some(other) = ours.iter().find(|other| other.what != own && real(&other.path) == place) {
            return Err(format!(
                "HSM {}: its certificate is to be in {}, which is {}; the ceremony would write over that: name another file \
                 by `certificate`",
                hsm.id,
                file.display(),
                other.what
            ));
        }
    }
    Ok(())
}

fn certificate_of(hsm: &Hsm) -> String {
    format!("the certificate of HSM {}", hsm.id)
}

/// Where an HSM's module writes to.
struct Home {
    path: PathBuf,
    holds: Holds,
}

#[derive(PartialEq)]
enum Holds {
    /// Its tokens, as its own configuration says.
    Tokens,
    /// What its vendor or the operator has given it.
    Other,
}

/// What an HSM's module writes to: its tokens, and what it was given.
fn writes(hsm: &Hsm, disk: &Disk<'_>) -> Vec<Home> {
    let sandbox = hsm.sandbox.clone().unwrap_or_else(|| Sandbox::of_profile(hsm.profile.name(), &hsm.environment));
    let text = configuration(hsm, &sandbox).and_then(|file| (disk.text)(&file)).unwrap_or_default();
    let tokens = sandbox.tokens.directories(&text).into_iter().map(|path| Home { path, holds: Holds::Tokens });
    sandbox.write.into_iter().map(|path| Home { path, holds: Holds::Other }).chain(tokens).collect()
}

/// What it reads beside what any module may.
fn reads(hsm: &Hsm) -> Vec<PathBuf> {
    let Some(sandbox) = &hsm.sandbox else { return Vec::new() };
    sandbox.read.iter().cloned().chain(configuration(hsm, sandbox)).collect()
}

fn configuration(hsm: &Hsm, sandbox: &Sandbox) -> Option<PathBuf> {
    sandbox.tokens.configuration(&|name| hsm.environment.get(name).map(PathBuf::from))
}

/// Ports of this daemon.
fn listens(config: &Config) -> BTreeMap<u16, &'static str> {
    let aws = config.aws.as_ref().map(|aws| (aws.listen.port(), "[aws]"));
    [(config.grpc.listen.port(), "[grpc]"), (config.ops.port(), "[ops]")].into_iter().chain(aws).collect()
}

/// What is the daemon's alone.
fn ours(config: &Config, credentials: Option<&Path>, program: Option<&Path>) -> Vec<Protected> {
    let secret = |what: &str, path: &Path| Protected { what: what.to_owned(), path: path.to_owned(), readable: false };
    let public = |what: &str, path: &Path| Protected { readable: true, ..secret(what, path) };
    let mut all = vec![
        secret("the daemon's state_dir", &config.state_dir),
        secret("the lock_dir", &config.lock_dir),
        secret("the seal key", &config.seal.key),
    ];
    all.extend(config.file.iter().map(|file| secret("the daemon's configuration", file)));
    all.extend([
        secret("the key of [grpc]", &config.grpc.key),
        public("the certificate of [grpc]", &config.grpc.certificate),
        public("the client CAs of [grpc]", &config.grpc.client_ca),
        secret("the audit log", &config.audit.dir),
    ]);
    all.extend(config.seal.former.iter().map(|former| secret("a former seal key", former)));
    all.extend(program.map(|file| public("the program that runs", file)));
    all.extend(credentials.map(|directory| secret("the credentials of the service", directory)));
    all.extend(config.audit.json.iter().map(|file| secret("the records of the audit log", file)));
    let hsms = config.clusters.iter().flat_map(|cluster| &cluster.hsms);
    all.extend(hsms.filter_map(|hsm| {
        let file = hsm.certificate.as_ref()?;
        Some(public(&certificate_of(hsm), file))
    }));
    if let Some(aws) = &config.aws {
        all.push(secret("the key of [aws]", &aws.key));
        all.push(public("the certificate of [aws]", &aws.certificate));
        all.extend(aws.client_ca.iter().map(|file| public("the client CAs of [aws]", file)));
    }
    all
}

#[cfg(test)]
#[path = "sandbox_tests.rs"]
mod tests;
