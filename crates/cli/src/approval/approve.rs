//! `keystorectl approval approve`: what is approved is what was seen.

use clap::Args;

use super::view::Approval;
use crate::failure::{Exit, Failure};
use crate::printer::Report;
use crate::{Context, terminal};

/// Characters of a digest that name it: nobody finds another call with the same ones within an approval's time.
const ENOUGH: usize = 8;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Approval id
    id: String,
    /// The digest that `keystorectl approval show` has shown, or its first characters, at least eight; asked for where it
    /// is not given
    #[arg(long, value_name = "DIGEST")]
    digest: Option<String>,
}

pub(super) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    if arguments.digest.is_none() && !terminal::can_ask() {
        return Err(Failure::usage("nobody can be asked: standard input is no terminal")
            .with_hint("look at the approval with `keystorectl approval show`, and give --digest"));
    }
    let client = context.connection.connect().await?;
    let approval = Approval::from(client.describe_approval(&arguments.id).await?);
    let typed = match arguments.digest {
        Some(digest) => digest,
        None => {
            context.printer.note(approval.text());
            terminal::ask(format!("First {ENOUGH} characters of the digest of what is to be approved: ")).await?
        }
    };
    names(&typed, &approval.digest)?;
    context.printer.report(&Approval::from(client.approve(&arguments.id, &approval.digest).await?))
}

/// Whether what was typed names this digest.
fn names(typed: &str, digest: &str) -> Result<(), Failure> {
    let typed = typed.trim().to_ascii_lowercase();
    if typed.len() < ENOUGH {
        return Err(Failure::usage(format!(
            "at least {ENOUGH} characters of the digest are needed; nothing was approved"
        )));
    }
    if digest.starts_with(&typed) {
        return Ok(());
    }
    Err(Failure::new(Exit::Refused, "the approval has another digest; nothing was approved")
        .with_hint("look at what it is for with `keystorectl approval show`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_seen_is_approved() {
        let digest = "0123456789abcdef".repeat(4);
        for typed in ["01234567", " 01234567\n", "0123456789AB", &digest] {
            assert_eq!(names(typed, &digest), Ok(()), "{typed}");
        }
        for (typed, exit) in [
            ("", Exit::Usage),
            ("0123456", Exit::Usage),
            ("01234568", Exit::Refused),
            (&*format!("{digest}0"), Exit::Refused),
        ] {
            assert_eq!(names(typed, &digest).unwrap_err().exit, exit, "{typed}");
        }
    }
}
