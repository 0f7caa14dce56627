//! Access keys of the development principals, with which AWS's clients sign: made over gRPC, as an administrator does it,
//! and kept in the file of variables, since nobody is told a secret twice.

use std::path::Path;

use zeroize::Zeroizing;

use super::{Error, Layout, Listening, key_store, principal, write_variables};
use client::{self, Client};
use model::id::Scope;
use proto::v1::ListAccessKeysRequest;

/// An access key.
pub(super) struct Pair {
    id: String,
    secret: Zeroizing<String>,
}

/// What stands before its parts in a file of variables.
const ID: &str = "AWS_ACCESS_KEY_ID=";
const SECRET: &str = "AWS_SECRET_ACCESS_KEY=";

/// Writes `dev.env`, with the administrator as a principal, which AWS's clients come as. After an error it can be called
/// again.
pub async fn prepare(layout: &Layout, listening: Listening, scope: &Scope) -> Result<(), Error> {
    let pair = match listening.aws {
        None => None,
        Some(_) => {
            let client = key_store::client(layout, listening.grpc).await?;
            let made = principal::administrator(&client, layout, scope).await?;
            of(&client, &made, &layout.env).await?
        }
    };
    write_variables(layout, &layout.env, &layout.client, listening, scope, pair.as_ref())
}

impl Pair {
    /// As lines of a file of variables.
    pub(super) fn lines(&self) -> Zeroizing<String> {
        Zeroizing::new(format!("{ID}{}\n{SECRET}{}\n", self.id, *self.secret))
    }

    /// The one in a file of variables.
    fn in_file(file: &Path) -> Option<Self> {
        let text = Zeroizing::new(std::fs::read_to_string(file).ok()?);
        let value = |name| text.lines().find_map(|line| line.strip_prefix(name)).filter(|value| !value.is_empty());
        Some(Self { id: value(ID)?.to_owned(), secret: Zeroizing::new(value(SECRET)?.to_owned()) })
    }
}

/// Whether an access key is in a file of variables.
pub(super) fn is_kept_in(file: &Path) -> bool {
    Pair::in_file(file).is_some()
}

/// The access key of a principal that is in its file of variables, or a new one where that is none of its any more. None
/// where it has as many as it may: these are somebody's, who keeps their secrets elsewhere.
pub(super) async fn of(client: &Client, principal: &str, file: &Path) -> Result<Option<Pair>, Error> {
    let failed = |error: client::Error| Error::Wrong(format!("access key of {principal}: {error}"));
    let request = ListAccessKeysRequest { principal: principal.to_owned(), ..Default::default() };
    let there = client.list_access_keys(request).await.map_err(failed)?.access_keys;
    if let Some(pair) = Pair::in_file(file)
        && there.iter().any(|key| key.access_key_id == pair.id)
    {
        return Ok(Some(pair));
    }
    match client.create_access_key(principal).await {
        Ok(made) => {
            let secret = Zeroizing::new(made.secret_access_key);
            Ok(made.access_key.map(|key| Pair { id: key.access_key_id, secret }))
        }
        Err(error) if error.exception.as_deref() == Some("LimitExceededException") => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_found_again_in_its_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("dev.env");
        assert!(Pair::in_file(&file).is_none());
        let pair = Pair { id: "AKKS0".to_owned(), secret: Zeroizing::new("s/+e".to_owned()) };
        std::fs::write(&file, format!("KEYSTORED_KEY=x\n{}AWS_REGION=r\n", *pair.lines())).expect("written");
        let found = Pair::in_file(&file).expect("there");
        assert_eq!((found.id.as_str(), found.secret.as_str()), ("AKKS0", "s/+e"));
        std::fs::write(&file, "AWS_ACCESS_KEY_ID=AKKS0\nAWS_SECRET_ACCESS_KEY=\n").expect("written");
        assert!(Pair::in_file(&file).is_none());
    }
}
