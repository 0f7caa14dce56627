//! Processes of one host that make a log key in one token take turns.
//!
//! Where a token is files, looks are not enough: SoftHSM counts changes, and takes its own for the only one since it looked
//! last. So whoever stands still between its look and its making is never shown what another has made meanwhile, however
//! often it looks. The token directory is locked from that look on until what was made has stood alone. Tokens in HSMs
//! show what they hold, and have no directory here.

use std::fs::File;
use std::path::PathBuf;

use super::{Failure, Owner, ROUNDS, pause};

/// Held while a log key is made. The kernel gives it back when the process ends, however it does.
pub(super) struct Turn {
    _locked: Vec<File>,
}

/// Waits for it, for as long as others may take to come to an end. Whoever does not get it then goes on without: that
/// somebody holds a lock must not keep this token from signing.
pub(super) fn take(owner: &mut Owner) -> Result<Option<Turn>, Failure> {
    let directories = owner.token.directories.clone();
    for _ in 0..ROUNDS {
        match locked(&directories) {
            Ok(Some(turn)) => return Ok(Some(turn)),
            Ok(None) => pause(owner)?,
            Err(error) => {
                tracing::warn!(%error, ?directories, "the token's directory cannot be locked while a log key is made");
                return Ok(None);
            }
        }
    }
    tracing::warn!(
        ?directories,
        "another process keeps the token's directory locked; the log key is made all the same"
    );
    Ok(None)
}

/// `None`: somebody else has it.
fn locked(directories: &[PathBuf]) -> std::io::Result<Option<Turn>> {
    let mut locked = Vec::with_capacity(directories.len());
    for directory in directories {
        let directory = File::open(directory)?;
        match directory.try_lock() {
            Ok(()) => locked.push(directory),
            Err(std::fs::TryLockError::WouldBlock) => return Ok(None),
            Err(std::fs::TryLockError::Error(error)) => return Err(error),
        }
    }
    Ok(Some(Turn { _locked: locked }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_it_at_a_time_and_gives_it_back_whole() {
        let made = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let [one, two] = [0, 1].map(|number: usize| made[number].path().to_owned());
        let both = [one.clone(), two.clone()];
        let second = locked(std::slice::from_ref(&two)).unwrap().expect("nobody has it");
        assert!(locked(&both).unwrap().is_none(), "the second is somebody's");
        let first = locked(std::slice::from_ref(&one)).unwrap().expect("what was locked before that was given back");
        drop((first, second));
        assert!(locked(&both).unwrap().is_some());
        assert!(locked(&[]).unwrap().is_some(), "a token without directories is nobody's");
        assert!(locked(&[one.join("away")]).is_err());
    }
}
