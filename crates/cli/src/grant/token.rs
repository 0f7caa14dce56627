//! A grant token: from a file, standard input or the environment, never from an argument.

use std::path::PathBuf;

use clap::Args;

use crate::Context;
use crate::failure::Failure;
use crate::payload;
use model::limits;

/// The variable with the token.
const VARIABLE: &str = "KEYSTORED_GRANT_TOKEN";

/// Where the token comes from.
#[derive(Debug, Args)]
pub(super) struct Source {
    /// File with the grant's token, as `grant create` printed it; - is standard input [env: KEYSTORED_GRANT_TOKEN has
    /// the token itself]
    #[arg(long, value_name = "FILE", conflicts_with = "key")]
    token_file: Option<PathBuf>,
}

impl Source {
    /// Reads the token.
    pub(super) async fn read(&self, context: &Context) -> Result<String, Failure> {
        let Some(file) = &self.token_file else {
            return std::env::var(VARIABLE).ok().filter(|token| !token.is_empty()).ok_or_else(|| {
                Failure::usage("which grant is missing: give its key and its id, or its token")
                    .with_hint(format!("give --token-file FILE, - for standard input, or set {VARIABLE}"))
            });
        };
        let read = payload::read(context, file, limits::GRANT_TOKEN_CHARS + 1, "grant token", "").await?;
        let text = std::str::from_utf8(read.expose()).map_err(|_| Failure::local("the grant token is not text"))?;
        Ok(text.trim().to_owned())
    }
}
