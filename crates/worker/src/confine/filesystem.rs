//! Landlock: the module reaches what its sandbox names, and nothing else of files, TCP ports and other processes.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, NetPort, RestrictionStatus, Ruleset, RulesetAttr, RulesetCreatedAttr,
    RulesetError, Scope, path_beneath_rules,
};

use super::lacks;
use crate::fault::Failure;
use model::sandbox::{Clash, READ, Sandbox, Tokens, WRITE, resolve};
use protocol::Class;

/// The newest set of access rights that this code was written against; an older kernel enforces what it knows, and
/// [`lacks`] says what it does not.
const KNOWN: ABI = ABI::V9;

/// Refuses to go on while a token directory is away: Landlock gives access to what is there, so this process could
/// never use a directory that comes back later. The next worker can.
pub(super) fn require_tokens(tokens: Tokens) -> Result<(), Failure> {
    match directories(tokens).into_iter().find(|directory| !directory.is_dir()) {
        Some(away) => {
            let detail = format!("the token directory {} is not there", away.display());
            Err(Failure::own(Class::Token, "find token", detail))
        }
        None => Ok(()),
    }
}

/// Restricts the process; what could not be done comes back in sentences. Fails where something protected would be
/// within reach: the configuration has looked for that too, but what a symlink leads to may have changed since.
pub(super) fn restrict(sandbox: &Sandbox, module: &Path) -> Result<Vec<String>, Failure> {
    let tokens = directories(sandbox.tokens);
    let read: Vec<PathBuf> = READ.iter().map(PathBuf::from).chain([module.to_owned()]).collect();
    let read: Vec<PathBuf> = [read, sandbox.read.clone(), configuration(sandbox.tokens).into_iter().collect()].concat();
    let write: Vec<PathBuf> =
        [WRITE.iter().map(PathBuf::from).collect(), sandbox.write.clone(), tokens.clone()].concat();
    let real = |path: &Path| resolve(path, &|path| path.canonicalize().ok());
    let paths = |of: &'static str| move |path: &'_ PathBuf| (of, path.clone());
    let sockets = sandbox.sockets.iter();
    let clash = Clash::find(
        read.iter().map(PathBuf::as_path),
        write.iter().chain(sockets.clone()).map(PathBuf::as_path),
        &sandbox.protected,
        &real,
    );
    if let Some(clash) = clash {
        return Err(Failure::own(Class::Refused, "confine", clash.to_string()));
    }
    let mut said = Vec::new();
    if sandbox.tokens != Tokens::Elsewhere && tokens.is_empty() {
        said.push("The module's configuration names no directory of tokens: it cannot write to any.".to_owned());
    }
    for (what, path) in sandbox.write.iter().map(paths("directory or file")).chain(sockets.map(paths("socket"))) {
        if !path.exists() {
            let path = path.display();
            said.push(format!("The {what} {path} is not there: this worker's module cannot use it once it comes."));
        }
    }
    match apply(sandbox, &read, &write) {
        Ok(status) => said.extend(lacks::sentences(status.landlock.into(), sandbox)),
        Err(error) => said.push(format!("Landlock is not applied: {error}.")),
    }
    Ok(said)
}

fn apply(sandbox: &Sandbox, read: &[PathBuf], write: &[PathBuf]) -> Result<RestrictionStatus, RulesetError> {
    // Nothing is executed, and no other thread can be: what a module loads is read.
    let reading = AccessFs::ReadFile | AccessFs::ReadDir;
    let writing = writing();
    let talking = AccessFs::ReadFile | AccessFs::WriteFile | AccessFs::ResolveUnix;
    let ports = sandbox.ports.iter().map(|port| Ok::<_, RulesetError>(NetPort::new(*port, AccessNet::ConnectTcp)));
    Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))?
        .handle_access(AccessNet::from_all(KNOWN))?
        .scope(Scope::from_all(KNOWN))?
        .create()?
        .add_rules(path_beneath_rules(read, reading))?
        .add_rules(path_beneath_rules(write, writing))?
        .add_rules(path_beneath_rules(&sandbox.sockets, talking))?
        .add_rules(ports)?
        .restrict_self()
}

/// What a module may do where it writes. It makes no devices: as root, one of the host's disk would have everything on it.
fn writing() -> BitFlags<AccessFs> {
    let never = AccessFs::Execute | AccessFs::ResolveUnix | AccessFs::MakeBlock | AccessFs::MakeChar;
    AccessFs::from_all(KNOWN) & !never
}

fn configuration(tokens: Tokens) -> Option<PathBuf> {
    tokens.configuration(&|name| env::var_os(name).map(PathBuf::from))
}

/// The directories that hold the module's tokens, where they are files, whether it is confined or not; each once, by its true name.
pub(crate) fn token_directories(sandbox: Option<&Sandbox>) -> Vec<PathBuf> {
    let environment = |name: &str| env::var_os(name).map(PathBuf::from);
    let possible = Tokens::possible(sandbox.map(|sandbox| sandbox.tokens), &environment);
    // Whoever locks one twice waits for itself.
    let each: BTreeSet<PathBuf> =
        possible.flat_map(directories).map(|path| path.canonicalize().unwrap_or(path)).collect();
    each.into_iter().collect()
}

/// The same as the configuration of one says now.
fn directories(tokens: Tokens) -> Vec<PathBuf> {
    let text = configuration(tokens).and_then(|file| fs::read_to_string(file).ok());
    text.map(|text| tokens.directories(&text)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_directories_are_made_and_no_devices() {
        let writing = writing();
        for allowed in
            [AccessFs::WriteFile, AccessFs::MakeReg, AccessFs::MakeDir, AccessFs::RemoveFile, AccessFs::Truncate]
        {
            assert!(writing.contains(allowed), "{allowed:?}");
        }
        for never in [AccessFs::MakeBlock, AccessFs::MakeChar, AccessFs::Execute, AccessFs::ResolveUnix] {
            assert!(!writing.contains(never), "{never:?}");
        }
    }
}
