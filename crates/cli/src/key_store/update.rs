//! `keystorectl key-store update`

use std::path::PathBuf;

use clap::Args;

use super::Done;
use super::which::Which;
use crate::failure::Failure;
use crate::password::{self, Source};
use crate::{Context, parse};
use proto::v1::UpdateKeyStoreRequest;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    which: Which,
    /// Rename it
    #[arg(long, value_name = "NAME", value_parser = parse::key_store_name)]
    new_name: Option<String>,
    /// File with kmsuser's PIN, which only you may read; - is standard input. Tells the service what the HSMs have, and
    /// changes nothing in them. The PIN that worked last stays on record until another one has worked
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
    /// The same, typed on the terminal without being shown
    #[arg(long, conflicts_with = "password_file")]
    ask_password: bool,
    /// The security officer has set this password in the HSMs; without a password: has unlocked kmsuser. Failed logins
    /// are counted anew. Where that is not so, the HSM may lock kmsuser
    #[arg(long)]
    pin_was_reset: bool,
    /// HSM that the password is for, or in which the PIN was reset; may be given several times [default: all of the
    /// cluster]
    #[arg(long = "hsm", value_name = "HSM", value_parser = parse::hsm_id)]
    hsms: Vec<String>,
    /// Take another cluster of the configuration, under the same trust anchor
    #[arg(long, value_name = "ID", value_parser = parse::cluster_id)]
    cluster: Option<String>,
}

impl Arguments {
    fn source(&self) -> Option<Source> {
        match &self.password_file {
            Some(path) => Some(Source::File(path.clone())),
            None => self.ask_password.then_some(Source::Terminal),
        }
    }

    fn check(&self) -> Result<(), Failure> {
        let of_pins = self.source().is_some() || self.pin_was_reset;
        if !of_pins && !self.hsms.is_empty() {
            return Err(Failure::usage(
                "--hsm says which HSMs a password is for: give --password-file, --ask-password or --pin-was-reset",
            ));
        }
        if !of_pins && self.new_name.is_none() && self.cluster.is_none() {
            return Err(Failure::usage(
                "nothing to change: give --new-name, --password-file, --ask-password, --pin-was-reset or --cluster",
            ));
        }
        Ok(())
    }
}

pub(super) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    arguments.check()?;
    let password = match arguments.source() {
        Some(source) => {
            let place = if arguments.hsms.is_empty() {
                "all HSMs of the key store".to_owned()
            } else {
                arguments.hsms.join(", ")
            };
            Some(password::read(source, &format!("kmsuser's PIN in {place}")).await?)
        }
        None => None,
    };
    let reset = arguments.pin_was_reset;
    let client = context.connection.connect().await?;
    let id = arguments.which.id(&client).await?;
    let request = UpdateKeyStoreRequest {
        key_store_id: id.clone(),
        new_key_store_name: arguments.new_name.unwrap_or_default(),
        hsm_ids: arguments.hsms,
        cluster_id: arguments.cluster.unwrap_or_default(),
        pin_was_reset: reset,
        ..Default::default()
    };
    client.update_key_store(request, password.as_ref()).await?;
    context.printer.report(&Done { text: format!("Updated {id}"), key_store_id: id.clone() })?;
    if password.is_some() {
        let when = if reset { "before any other" } else { "where the PIN that worked last does not work" };
        let connect = format!("`keystorectl key-store connect {id} --wait`");
        context.printer.note(format!("The password was not tried yet; {connect} tries it {when}."));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::failure::Exit;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    fn arguments(line: &str) -> Result<Arguments, clap::Error> {
        Line::try_parse_from(line.split(' ')).map(|line| line.arguments)
    }

    #[test]
    fn a_password_is_no_argument() {
        assert!(arguments("update cks-1 --password 1234").is_err());
        assert!(arguments("update cks-1 --ask-password 1234").is_err());
        assert!(arguments("update cks-1 --ask-password=1234").is_err());
        assert_eq!(arguments("update cks-1 --ask-password").unwrap().source(), Some(Source::Terminal));
        assert_eq!(arguments("update cks-1 --password-file -").unwrap().source(), Some(Source::File("-".into())));
        assert!(arguments("update cks-1 --ask-password --password-file pin").is_err());
    }

    #[test]
    fn a_store_is_named_once_and_never_by_nothing() {
        assert!(arguments("update --name lab --new-name lab2").unwrap().check().is_ok());
        for line in ["update --new-name b", "update cks-1 --name a --new-name b", "update --name= --new-name b"] {
            assert!(arguments(line).is_err(), "{line}");
        }
        assert!(Line::try_parse_from(["update", "", "--new-name", "b"]).is_err());
    }

    #[test]
    fn what_would_change_something_else_or_nothing_is_refused() {
        for line in ["update cks-1", "update cks-1 --hsm hsm-a", "update cks-1 --hsm hsm-a --new-name b"] {
            assert_eq!(arguments(line).unwrap().check().unwrap_err().exit, Exit::Usage, "{line}");
        }
        // In the message, nothing would mean "unchanged", and for HSMs "all".
        for line in
            ["update cks-1 --new-name=", "update cks-1 --ask-password --hsm=", "update cks-1 --new-name b --cluster="]
        {
            assert!(arguments(line).is_err(), "{line}");
        }
        assert_eq!(arguments("update cks-1 --ask-password --hsm a --hsm b").unwrap().hsms, ["a", "b"]);
        assert!(
            arguments("update cks-1 --pin-was-reset --hsm a").unwrap().check().is_ok(),
            "the officer has unlocked it"
        );
    }
}
