//! `keystorectl access-key create`

use clap::Args;
use serde::Serialize;
use zeroize::Zeroizing;

use super::Of;
use crate::Context;
use crate::failure::Failure;
use crate::printer::{Report, facts};

/// What is said beside a secret.
const ONCE: &str = "The secret is not shown again: keep it now. One that is lost is replaced by another access key.";

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    of: Of,
    /// Print the two as lines of an environment that AWS's clients read, AWS_ACCESS_KEY_ID=… and
    /// AWS_SECRET_ACCESS_KEY=…; not with --json
    #[arg(long)]
    env: bool,
}

#[derive(Serialize)]
struct Created {
    principal: String,
    access_key_id: String,
    secret_access_key: Zeroizing<String>,
    #[serde(skip)]
    env: bool,
}

impl Report for Created {
    fn text(&self) -> String {
        let (id, secret) = (self.access_key_id.clone(), self.secret_access_key.to_string());
        match self.env {
            true => format!("AWS_ACCESS_KEY_ID={id}\nAWS_SECRET_ACCESS_KEY={secret}"),
            false => facts([("Access key", id), ("Secret", secret), ("Principal", self.principal.clone())]),
        }
    }
}

pub(super) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let Arguments { of: Of { arn }, env } = arguments;
    // Before there is a secret that is shown once, and in one form.
    if env && context.printer.json() {
        return Err(Failure::usage("--env and --json are two forms: give one of them"));
    }
    let made = context.connection.connect().await?.create_access_key(&arn).await?;
    let secret_access_key = Zeroizing::new(made.secret_access_key);
    let access_key_id = made.access_key.unwrap_or_default().access_key_id;
    context.printer.report(&Created { principal: arn, access_key_id, secret_access_key, env })?;
    context.printer.note(ONCE);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_are_printed_for_people_and_for_an_environment() {
        let text = |env| {
            let secret_access_key = Zeroizing::new("s/+".to_owned());
            let (principal, access_key_id) = ("arn:a".to_owned(), "AKKSA".to_owned());
            Created { principal, access_key_id, secret_access_key, env }.text()
        };
        assert_eq!(text(true), "AWS_ACCESS_KEY_ID=AKKSA\nAWS_SECRET_ACCESS_KEY=s/+");
        assert!(["AKKSA", "s/+", "arn:a"].iter().all(|part| text(false).contains(part)), "{}", text(false));
    }
}
