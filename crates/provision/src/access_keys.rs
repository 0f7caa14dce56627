//! Access keys of the development principals, with which AWS's clients sign: made over gRPC, as an administrator does it,
//! and kept in a file beside the PINs, since nobody is told a secret twice.

use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::files::write;
use super::{Error, Layout};
use client::{self, Client};
use proto::v1::ListAccessKeysRequest;

/// An access key.
pub(super) struct Pair {
    id: String,
    secret: Zeroizing<String>,
}

/// What stands before its parts, in its file as in files of variables.
const ID: &str = "AWS_ACCESS_KEY_ID=";
const SECRET: &str = "AWS_SECRET_ACCESS_KEY=";

impl Pair {
    /// As lines of a file of variables.
    pub(super) fn lines(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{ID}{}\n{SECRET}{}\n", self.id, *self.secret))
    }

    fn in_file(file: &Path) -> Option<Self> {
        let text = Zeroizing::new(std::fs::read_to_string(file).ok()?);
        let value = |name| text.lines().find_map(|line| line.strip_prefix(name)).filter(|value| !value.is_empty());
        Some(Self { id: value(ID)?.to_owned(), secret: Zeroizing::new(value(SECRET)?.to_owned()) })
    }
}

/// Where the access key of a principal of this name is kept.
pub(super) fn file(layout: &Layout, name: &str) -> PathBuf {
    layout.dir.join("credentials").join(format!("{name}.access-key"))
}

/// The access key of a principal that is in this file, or a new one where that is none of its any more. None where it has
/// as many as it may: these are somebody's, who keeps their secrets elsewhere.
pub(super) async fn of(client: &Client, principal: &str, file: &Path) -> Result<Option<Pair>, Error> {
    let failed = |error: client::Error| Error::Wrong(format!("access key of {principal}: {error}"));
    let request = ListAccessKeysRequest { principal: principal.to_owned(), ..Default::default() };
    let there = client.list_access_keys(request).await.map_err(failed)?.access_keys;
    if let Some(pair) = Pair::in_file(file)
        && there.iter().any(|key| key.access_key_id == pair.id)
    {
        return Ok(Some(pair));
    }
    let made = match client.create_access_key(principal).await {
        Ok(made) => made,
        Err(error) if error.exception.as_deref() == Some("LimitExceededException") => return Ok(None),
        Err(error) => return Err(failed(error)),
    };
    let secret = Zeroizing::new(made.secret_access_key);
    let Some(key) = made.access_key else { return Ok(None) };
    let pair = Pair { id: key.access_key_id, secret };
    write(file, pair.lines().as_bytes())?;
    Ok(Some(pair))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_found_again_in_its_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("app.access-key");
        assert!(Pair::in_file(&file).is_none());
        let pair = Pair { id: "AKKS0".to_owned(), secret: Zeroizing::new("s/+e".to_owned()) };
        std::fs::write(&file, &*pair.lines()).expect("written");
        let found = Pair::in_file(&file).expect("there");
        assert_eq!((found.id.as_str(), found.secret.as_str()), ("AKKS0", "s/+e"));
        std::fs::write(&file, "AWS_ACCESS_KEY_ID=AKKS0\nAWS_SECRET_ACCESS_KEY=\n").expect("written");
        assert!(Pair::in_file(&file).is_none());
    }
}
