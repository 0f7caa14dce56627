//! Grant tokens: opaque names of grants, which nobody makes but this installation.
//!
//! In AWS a token carries a grant to where it is not known yet. Here a grant counts when CreateGrant is answered, so that
//! a token adds nothing to what its bearer may do. One that comes with a call has to be authentic all the same: whoever
//! sends another has mistaken the installation, or tries. What it names is not looked up: AWS has the token of a grant
//! that is gone, or of another key or grantee, change nothing, and then policies and grants decide as they do without it.
//! So a token tells its bearer nothing about keys and grants either.
//!
//! Tokens are looked at when everything else was decided, so that they cost nothing where a call is refused anyway.

use std::collections::HashMap;
use std::fmt;

use super::{Core, validate};
use crate::Error;
use model::exception::Exception;
use model::id::{GrantId, KeyId};
use model::limits;
use model::secret::Secret;

/// What tokens are sealed for.
const PURPOSE: &str = "grant token";
/// A key's id as text.
const KEY_ID_CHARS: usize = 36;

/// The grant tokens that a request comes with. They are not shown.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct GrantTokens(Vec<String>);

impl From<Vec<String>> for GrantTokens {
    fn from(tokens: Vec<String>) -> Self {
        Self(tokens)
    }
}

impl fmt::Debug for GrantTokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GrantTokens({})", self.0.len())
    }
}

impl GrantTokens {
    /// Refuses what cannot be grant tokens, whoever sends it.
    pub(crate) fn check(&self) -> Result<(), Error> {
        validate::length("grantTokens", self.0.len(), 0, limits::GRANT_TOKENS)?;
        let mut chars = self.0.iter().map(|token| token.chars().count());
        chars.try_for_each(|chars| validate::length("grantTokens", chars, 1, limits::GRANT_TOKEN_CHARS))
    }
}

/// Looks at each token of a call once, however many items come with it.
pub(crate) struct TokenCheck<'a> {
    core: &'a Core,
    /// Whether each is authentic.
    known: HashMap<String, bool>,
}

impl<'a> TokenCheck<'a> {
    pub(crate) fn new(core: &'a Core) -> Self {
        Self { core, known: HashMap::new() }
    }

    /// Whether all of these are authentic.
    pub(crate) fn check(&mut self, GrantTokens(tokens): GrantTokens) -> Result<(), Error> {
        for token in tokens {
            let authentic = match self.known.get(&token) {
                Some(authentic) => *authentic,
                None => {
                    let authentic = self.core.grant_of_token(&token).is_ok();
                    self.known.insert(token, authentic);
                    authentic
                }
            };
            if !authentic {
                return Err(invalid());
            }
        }
        Ok(())
    }
}

impl Core {
    /// Refuses tokens that cannot be, or are not, of this installation.
    pub(crate) fn check_grant_tokens(&self, tokens: GrantTokens) -> Result<(), Error> {
        tokens.check()?;
        TokenCheck::new(self).check(tokens)
    }

    /// A token of a grant. Sealed under the key that seals PINs, so that nobody else makes one, and each time another.
    pub(crate) fn grant_token(&self, key: KeyId, id: &GrantId) -> Result<String, Error> {
        let said = Secret::new(format!("{key}{id}").into_bytes());
        let sealed = self.registry().seals.load().seal(&[PURPOSE], &said);
        let sealed = sealed.map_err(|error| Error::internal(&format!("a grant token: {error}")))?;
        Ok(sealed.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    /// The grant that a token names, whether there is such a grant or not.
    pub(crate) fn grant_of_token(&self, token: &str) -> Result<(KeyId, GrantId), Error> {
        let sealed = bytes_of(token).ok_or_else(invalid)?;
        let said = self.registry().seals.load().open(&[PURPOSE], &sealed).map_err(|_| invalid())?;
        let said = str::from_utf8(said.expose()).map_err(|_| invalid())?;
        let (key, id) = said.split_at_checked(KEY_ID_CHARS).ok_or_else(invalid)?;
        Ok((KeyId::parse(key).ok_or_else(invalid)?, GrantId::from(id)))
    }
}

fn invalid() -> Error {
    let what = "the grant token is none of this installation, or the key that it was made under was taken out of use; \
                leave it out, or name the grant by its key's ARN and its id";
    Error::permanent(Exception::InvalidGrantToken, what)
}

/// What hexadecimal digits mean. A token is a few hundred of them; the limit on what a caller may send is far above that.
fn bytes_of(token: &str) -> Option<Vec<u8>> {
    const MOST: usize = 1_024;
    let (pairs, []) = token.as_bytes().as_chunks::<2>() else { return None };
    let digit = |digit: u8| char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let byte = |[high, low]: &[u8; 2]| Some(digit(*high)? << 4 | digit(*low)?);
    if token.len() > MOST { None } else { pairs.iter().map(byte).collect() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_come_in_pairs() {
        assert_eq!(bytes_of("00fFa1"), Some(vec![0, 0xff, 0xa1]));
        for none in ["0", "0g", "+f", "é", &"0".repeat(1_026)] {
            assert_eq!(bytes_of(none), None, "{none}");
        }
    }

    #[test]
    fn tokens_are_not_shown() {
        let tokens = GrantTokens::from(vec!["0123456789abcdef".to_owned()]);
        assert_eq!(format!("{tokens:?}"), "GrantTokens(1)");
        assert!(tokens.check().is_ok());
        assert!(GrantTokens::from(vec!["0".to_owned(); 11]).check().is_err());
        assert!(GrantTokens::from(vec![String::new()]).check().is_err());
        assert!(GrantTokens::from(vec!["0".repeat(8_193)]).check().is_err());
    }
}
