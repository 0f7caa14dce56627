//! keystorectl's commands: one file each, one [`printer::Printer`] for all that is shown, one [`failure::Failure`] for
//! all that can go wrong.
//!
//! All of them talk to a daemon over the network, but those that carry the ceremony out: they run HSM workers of their
//! own, because the daemon must never see the key of a cluster's authority or a security officer's PIN.
//!
//! Secrets are never arguments, because arguments are in everybody's process list: plaintext comes from files or
//! standard input, a PIN may be typed as well, and a grant token may be in the environment.

#![forbid(unsafe_code)]

mod access;
mod access_key;
mod alias;
mod approval;
mod audit;
mod bench;
mod cluster;
mod completions;
mod connection;
mod data_key;
mod decrypt;
#[cfg(test)]
mod documented;
mod encrypt;
mod failure;
mod file;
mod grant;
mod group;
mod health;
mod import_settings;
mod key;
mod key_store;
mod man;
mod names;
mod parse;
mod password;
mod payload;
mod policy;
mod principal;
mod printer;
mod random;
mod re_encrypt;
mod receipts;
mod rewrap;
mod status;
mod terminal;
mod top;
mod whoami;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use connection::Connection;
use failure::{Exit, Failure};
use model::clock::Clock;
use printer::Printer;
use telemetry::log;

const EXIT_CODES: &str = "\
Exit codes:
  0    done
  1    the service or an HSM refused: the call has to change, or something it names; or a key store could not be
       connected; or a fault in the service broke the call off, which may have been done all the same
  2    wrong usage
  3    the service cannot be reached, or does not accept the certificate
  4    the service could not do it now; the same call may succeed in a moment
  5    trouble with a local file: unreadable, exists already, damaged, altered
  130  interrupted";

/// Command line for a keystored service.
#[derive(Debug, Parser)]
#[command(name = "keystorectl", version, after_help = EXIT_CODES, propagate_version = true, max_term_width = 110)]
struct Arguments {
    #[command(flatten)]
    connection: Connection,
    /// Print JSON instead of text
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Manage keys
    #[command(subcommand)]
    Key(key::Command),
    /// Manage aliases: names by which keys are used
    #[command(subcommand)]
    Alias(alias::Command),
    /// Encrypt up to 4,096 bytes with a key
    Encrypt(encrypt::Arguments),
    /// Decrypt the output of `encrypt` or `data-key generate`
    Decrypt(decrypt::Arguments),
    /// Re-encrypt a ciphertext under another key or with another context; nobody sees the plaintext
    ReEncrypt(re_encrypt::Arguments),
    /// Bring the ciphertexts in a file to a key's current version
    Rewrap(rewrap::Arguments),
    /// Generate data keys
    #[command(subcommand)]
    DataKey(data_key::Command),
    /// Get random bytes from an HSM
    Random(random::Arguments),
    /// Manage key stores and see the health of their HSMs
    #[command(subcommand)]
    KeyStore(key_store::Command),
    /// Manage the clusters of HSMs that key stores use
    #[command(subcommand)]
    Cluster(cluster::Command),
    /// Approve other people's calls, where the configuration asks for that
    #[command(subcommand)]
    Approval(approval::Command),
    /// Seal and open files by envelope encryption
    #[command(subcommand)]
    File(file::Command),
    /// Show who you are to the service, and as which principal
    Whoami,
    /// Manage principals: who may call, by which certificates
    #[command(subcommand)]
    Principal(principal::Command),
    /// Manage access keys of principals, with which clients of AWS sign their calls
    #[command(subcommand)]
    AccessKey(access_key::Command),
    /// Manage groups of principals
    #[command(subcommand)]
    Group(group::Command),
    /// Manage identity policies: what principals and groups may do
    #[command(subcommand)]
    Policy(policy::Command),
    /// Manage grants: what principals may do with one key beside what policies say
    #[command(subcommand)]
    Grant(grant::Command),
    /// Ask why somebody may do something, and what is wrong with a policy
    #[command(subcommand)]
    Access(access::Command),
    /// Look at an audit log, over the network or its files, and check it
    #[command(subcommand)]
    Audit(audit::Command),
    /// Recreate here, under new keys, the settings of an AWS account's keys
    ImportSettings(import_settings::Arguments),
    /// Check whether the service accepts calls
    Health,
    /// Generate load on the service and measure it
    Bench(bench::Arguments),
    /// Watch each HSM's state, operations per second, latency and queue
    Top(top::Arguments),
    /// Print a completion script for a shell
    Completions(completions::Arguments),
    /// Write man pages, one for each command
    Man(man::Arguments),
}

/// What every command has at hand.
struct Context {
    connection: Connection,
    printer: Printer,
    clock: Clock,
}

/// Runs one command line, the program's name first, and says what the process should exit with.
#[must_use]
pub fn run(arguments: Vec<OsString>, clock: Clock) -> ExitCode {
    let arguments = match Arguments::try_parse_from(arguments) {
        Ok(arguments) => arguments,
        Err(error) => {
            if error.use_stderr() {
                // Without its styles: what was typed is in it too.
                printer::eprint_line(error.render().to_string().trim_end());
                return Exit::Usage.into();
            }
            // Help goes to standard output and is no error; a closed pipe is nobody's trouble.
            let _ = error.print();
            return ExitCode::SUCCESS;
        }
    };
    let Arguments { connection, json, command } = arguments;
    let printer = Printer::new(json).with_receipts(connection.receipts.clone());
    let context = Context { connection, printer, clock };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return context.printer.failure(&Failure::local(format!("cannot start threads: {error}")));
        }
    };
    let outcome = runtime.block_on(dispatch(&context, command));
    // A thread that waits for standard input would hold the process otherwise.
    runtime.shutdown_background();
    // What workers of the ceremony had to say comes before its end.
    log::flush(log::LAST_LINES);
    match outcome {
        Ok(()) => {
            context.printer.last_receipts();
            ExitCode::SUCCESS
        }
        Err(failure) => context.printer.failure(&failure),
    }
}

async fn dispatch(context: &Context, command: Command) -> Result<(), Failure> {
    if let Some(warning) = context.connection.exposed_key() {
        context.printer.note(warning);
    }
    match command {
        Command::Key(command) => key::run(context, command).await,
        Command::Alias(command) => alias::run(context, command).await,
        Command::Encrypt(arguments) => encrypt::run(context, arguments).await,
        Command::Decrypt(arguments) => decrypt::run(context, arguments).await,
        Command::ReEncrypt(arguments) => re_encrypt::run(context, arguments).await,
        Command::Rewrap(arguments) => rewrap::run(context, arguments).await,
        Command::DataKey(command) => data_key::run(context, command).await,
        Command::Random(arguments) => random::run(context, arguments).await,
        Command::KeyStore(command) => key_store::run(context, command).await,
        Command::Cluster(command) => cluster::run(context, command).await,
        Command::Approval(command) => approval::run(context, command).await,
        Command::File(command) => file::run(context, command).await,
        Command::Whoami => whoami::run(context).await,
        Command::Principal(command) => principal::run(context, command).await,
        Command::AccessKey(command) => access_key::run(context, command).await,
        Command::Group(command) => group::run(context, command).await,
        Command::Policy(command) => policy::run(context, command).await,
        Command::Grant(command) => grant::run(context, command).await,
        Command::Access(command) => access::run(context, command).await,
        Command::Audit(command) => audit::run(context, command).await,
        Command::ImportSettings(arguments) => import_settings::run(context, arguments).await,
        Command::Health => health::run(context).await,
        Command::Bench(arguments) => bench::run(context, arguments).await,
        Command::Top(arguments) => top::run(context, arguments).await,
        Command::Completions(arguments) => completions::run(context, &arguments),
        Command::Man(arguments) => man::run(context, arguments),
    }
}

/// Resolves when the user or the system wants the program to end.
async fn interruption() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut terminate) = signal(SignalKind::terminate()) else { return std::future::pending().await };
    tokio::select! {
        // Without a handler for Ctrl-C the signal ends the process by itself.
        Ok(()) = tokio::signal::ctrl_c() => {}
        _ = terminate.recv() => {}
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn global_flags_stand_before_and_behind_the_verb() {
        for line in
            ["keystorectl --json --address https://a:1 key list", "keystorectl key list --json --address https://a:1"]
        {
            let arguments = Arguments::try_parse_from(line.split(' ')).unwrap();
            assert!(arguments.json);
            assert_eq!(arguments.connection.address.as_deref(), Some("https://a:1"));
        }
    }

    #[test]
    fn plaintext_is_no_argument() {
        assert!(Arguments::try_parse_from(["keystorectl", "grant", "retire", "--token", "secret"]).is_err());
        assert!(Arguments::try_parse_from(["keystorectl", "encrypt", "KEY", "secret"]).is_err());
        assert!(Arguments::try_parse_from(["keystorectl", "encrypt", "KEY", "--plaintext", "secret"]).is_err());
    }

    #[test]
    fn a_policy_is_attached_to_one_holder() {
        for (holder, good) in
            [("--principal arn:a", true), ("--group g", true), ("", false), ("--principal arn:a --group g", false)]
        {
            let line = format!("keystorectl policy attach KeyUser {holder}");
            let parsed = Arguments::try_parse_from(line.split(' ').filter(|word| !word.is_empty()));
            assert_eq!(parsed.is_ok(), good, "{line}");
        }
    }

    #[test]
    fn a_grant_is_retired_by_its_token_or_by_key_and_id() {
        for (which, good) in [
            ("", true),
            ("--token-file -", true),
            ("arn:k 1a", true),
            ("arn:k", false),
            ("arn:k 1a --token-file t", false),
        ] {
            let line = format!("keystorectl grant retire {which}");
            let parsed = Arguments::try_parse_from(line.split(' ').filter(|word| !word.is_empty()));
            assert_eq!(parsed.is_ok(), good, "{line}");
        }
    }

    #[test]
    fn the_verbs_of_operators_take_stores_by_id_or_name() {
        for command in ["connect", "connect --wait --timeout 60s", "disconnect --wait", "delete --yes"] {
            for (which, good) in [("cks-1", true), ("--name lab", true), ("", false), ("cks-1 --name lab", false)] {
                let line = format!("keystorectl key-store {command} {which}");
                let parsed = Arguments::try_parse_from(line.split(' ').filter(|word| !word.is_empty()));
                assert_eq!(parsed.is_ok(), good, "{line}");
            }
        }
    }
}
