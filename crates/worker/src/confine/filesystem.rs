//! Landlock: the module may read the system and write to its token directory, nothing else.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError, RulesetStatus, path_beneath_rules,
};

use crate::fault::Failure;
use model::profile::Files;
use protocol::Class;

/// What any module needs to be loaded and to run. Paths that a system lacks are left out.
const READ_AND_EXECUTE: [&str; 4] = ["/usr", "/lib", "/lib64", "/etc"];
const READ: [&str; 5] = ["/dev/urandom", "/dev/random", "/dev/null", "/sys/devices/system/cpu", "/proc/self"];
/// SoftHSM's configuration where the environment names none.
const SOFTHSM_DEFAULT: &str = "/etc/softhsm/softhsm2.conf";
/// The newest set of access rights that this code was written against; an older kernel enforces what it knows.
const KNOWN: ABI = ABI::V5;

/// Refuses to go on while the token directory is away: Landlock gives access to what is there, so this process could
/// never use a directory that comes back later. The next worker can.
pub(super) fn require_tokens(files: Files) -> Result<(), Failure> {
    let Files::SoftHsm = files else { return Ok(()) };
    match fs::read_to_string(configuration()).ok().and_then(|text| token_directory(&text)) {
        Some(tokens) if !tokens.is_dir() => {
            let detail = format!("SoftHSM's token directory {} is not there", tokens.display());
            Err(Failure::own(Class::Token, "find token", detail))
        }
        _ => Ok(()),
    }
}

/// Restricts the process; what could not be done comes back as a sentence.
pub(super) fn restrict(files: Files, module: &Path) -> Result<(), String> {
    let Files::SoftHsm = files else {
        return Err("Landlock is not applied: which files this vendor's module writes is not known.".to_owned());
    };
    let configuration = configuration();
    let tokens = fs::read_to_string(&configuration).ok().and_then(|text| token_directory(&text)).ok_or_else(|| {
        format!("Landlock is not applied: {} names no directories.tokendir.", configuration.display())
    })?;
    match apply(module, &configuration, &tokens) {
        Ok(RulesetStatus::FullyEnforced) => Ok(()),
        Ok(RulesetStatus::PartiallyEnforced) => {
            Err("Landlock is applied in part: this kernel knows fewer rights than were asked for.".to_owned())
        }
        Ok(RulesetStatus::NotEnforced) => Err("Landlock is not applied: this kernel does not offer it.".to_owned()),
        Err(error) => Err(format!("Landlock is not applied: {error}.")),
    }
}

fn configuration() -> PathBuf {
    env::var_os("SOFTHSM2_CONF").map_or_else(|| PathBuf::from(SOFTHSM_DEFAULT), PathBuf::from)
}

fn apply(module: &Path, configuration: &Path, tokens: &Path) -> Result<RulesetStatus, RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let status = Ruleset::default()
        .handle_access(AccessFs::from_all(KNOWN))?
        .create()?
        .add_rules(path_beneath_rules(READ_AND_EXECUTE, read | AccessFs::Execute))?
        .add_rules(path_beneath_rules([module], read | AccessFs::Execute))?
        .add_rules(path_beneath_rules(READ, read))?
        .add_rules(path_beneath_rules([configuration], read))?
        .add_rules(path_beneath_rules([tokens], AccessFs::from_all(KNOWN) & !AccessFs::Execute))?
        .restrict_self()?;
    Ok(status.ruleset)
}

/// The value of `directories.tokendir` in SoftHSM's configuration.
fn token_directory(configuration: &str) -> Option<PathBuf> {
    // Where it is set twice, SoftHSM takes the later one.
    let mut settings = configuration.lines().rev().filter_map(|line| line.split('#').next()?.split_once('='));
    let (_, value) = settings.find(|(name, _)| name.trim() == "directories.tokendir")?;
    Some(PathBuf::from(value.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_directory_is_read_from_softhsms_configuration() {
        let text = "# comment\ndirectories.tokendir = /var/lib/tokens/ # here\nobjectstore.backend = file\n";
        assert_eq!(token_directory(text), Some("/var/lib/tokens/".into()));
        assert_eq!(token_directory("# directories.tokendir = /x\n"), None);
    }
}
