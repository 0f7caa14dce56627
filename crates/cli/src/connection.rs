//! How to reach the service: flags, a file of variables, the environment, in this order.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::failure::{Exit, Failure};
use super::parse;
use super::receipts::Receipts;
use client::{Client, Credentials, Settings};
use model::secret::{Secret, exposed};

/// What the names of all variables begin with.
const OURS: &str = "KEYSTORED_";
/// The variable that names the file with the private key.
const KEY: &str = "KEYSTORED_KEY";
/// A connection takes a moment or does not come.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Long enough for CreateKey in every HSM.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// Long enough for the logins of a connect, each of which may be killed and tried again.
const DEFAULT_PATIENCE: Duration = Duration::from_secs(60);
/// A file of variables is a few lines.
const ENV_FILE_BYTES: u64 = 64 << 10;
/// A PEM file holds a few certificates.
const PEM_BYTES: u64 = 1 << 20;

/// Flags that every command takes.
#[derive(Clone, Debug, Args)]
#[command(next_help_heading = "Connection")]
pub(super) struct Connection {
    /// Address of the service, https://HOST:PORT [env: KEYSTORED_ADDRESS]
    #[arg(long, global = true, value_name = "ADDRESS")]
    pub(super) address: Option<String>,
    /// PEM file with the CA of the service's certificate [env: KEYSTORED_CA]
    #[arg(long, global = true, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// PEM file with your certificate [env: KEYSTORED_CERT]
    #[arg(long, global = true, value_name = "FILE")]
    cert: Option<PathBuf>,
    /// PEM file with the private key of your certificate [env: KEYSTORED_KEY]
    #[arg(long, global = true, value_name = "FILE")]
    cert_key: Option<PathBuf>,
    /// File with lines NAME=VALUE of these variables, such as the dev.env of `keystored dev`. Goes before the
    /// environment
    #[arg(long, global = true, value_name = "FILE")]
    env_file: Option<PathBuf>,
    /// How long to wait for each answer, like 500ms or 5s [default: 30s; `cluster add-hsm` 120s, `top` 5s]; with --wait, for
    /// all of it [default: 60s]
    #[arg(long, global = true, value_name = "TIME", value_parser = parse::duration)]
    timeout: Option<Duration>,
    /// Tell where the audit log has the record of each call: on standard error, or as audit_records with --json
    #[arg(long, global = true)]
    receipt: bool,
    /// Who is told.
    #[arg(skip)]
    pub(super) receipts: Receipts,
}

impl Connection {
    /// What the user should know of the file with the private key, where it is open to others. The key is used all the
    /// same: what a stranger may have read of it, he has.
    pub(super) fn exposed_key(&self) -> Option<String> {
        let path = self.cert_key.clone().or_else(|| {
            let from_file =
                self.env_file.as_ref().and_then(|path| variables(&read(path, ENV_FILE_BYTES).ok()?, path).ok());
            let named = from_file.and_then(|mut variables| variables.remove(KEY));
            named.or_else(|| std::env::var(KEY).ok()).map(PathBuf::from)
        })?;
        let mode = std::fs::metadata(&path).ok()?.mode();
        let why = exposed(mode, "your private key")?;
        Some(format!(
            "warning: {}: {why}; chmod 0600 it, and have another certificate issued for another key",
            path.display()
        ))
    }

    /// Opens one connection, as flags, file and environment say.
    pub(super) async fn connect(&self) -> Result<Client, Failure> {
        self.connect_many(1).await
    }

    /// Connects for calls that take longer than others: how long they may take unless the user says otherwise.
    pub(super) async fn connect_for(&self, default: Duration) -> Result<Client, Failure> {
        Self { timeout: Some(self.timeout.unwrap_or(default)), ..self.clone() }.connect().await
    }

    /// How long a command with --wait waits.
    pub(super) fn patience(&self) -> Duration {
        self.timeout.unwrap_or(DEFAULT_PATIENCE)
    }

    /// Opens several connections.
    pub(super) async fn connect_many(&self, connections: usize) -> Result<Client, Failure> {
        let client = Client::connect(&self.settings(connections)?).await?;
        Ok(if self.receipt { client.with_receipts(self.receipts.heard()) } else { client })
    }

    fn settings(&self, connections: usize) -> Result<Settings, Failure> {
        let environment = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        let from_file = match &self.env_file {
            Some(path) => variables(&read(path, ENV_FILE_BYTES)?, path)?,
            None => BTreeMap::new(),
        };
        let variable = |name: &str| from_file.get(name).cloned().or_else(|| environment(name));
        let missing = |flag: &str, name: &str| {
            Failure::usage(format!("{flag} is missing: give the flag or set {name}"))
                .with_hint("after `keystored dev`, give --env-file dev/dev.env and nothing else")
        };
        let address = self.address.clone().or_else(|| variable("KEYSTORED_ADDRESS"));
        let address = address.ok_or_else(|| missing("--address", "KEYSTORED_ADDRESS"))?;
        let file = |flag: &Option<PathBuf>, what: &str, name: &str| {
            let path = flag.clone().or_else(|| variable(name).map(PathBuf::from)).ok_or_else(|| missing(what, name))?;
            read(&path, PEM_BYTES)
        };
        let credentials = Credentials {
            authorities: file(&self.ca, "--ca", "KEYSTORED_CA")?,
            certificate: file(&self.cert, "--cert", "KEYSTORED_CERT")?,
            key: Secret::new(file(&self.cert_key, "--cert-key", KEY)?),
        };
        Ok(Settings {
            address,
            credentials,
            connections,
            connect_timeout: CONNECT_TIMEOUT,
            deadline: Some(self.timeout.unwrap_or(DEFAULT_TIMEOUT)),
        })
    }
}

fn read(path: &Path, most: u64) -> Result<Vec<u8>, Failure> {
    let failed = |why: String| Failure::new(Exit::Local, format!("cannot read {}: {why}", path.display()));
    let length = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?.len();
    if length > most {
        return Err(failed(format!("it is larger than {most} bytes")));
    }
    std::fs::read(path).map_err(|error| failed(error.to_string()))
}

/// Reads lines `NAME=VALUE`, as a shell would: an `export` before the name and quotes around the value are allowed,
/// empty lines and comments too.
fn variables(text: &[u8], path: &Path) -> Result<BTreeMap<String, String>, Failure> {
    let wrong = |line: usize, why: &str| Failure::new(Exit::Local, format!("{} line {line}: {why}", path.display()));
    let text = std::str::from_utf8(text).map_err(|_| wrong(1, "this is not text"))?;
    let mut variables = BTreeMap::new();
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let line = line.strip_prefix("export ").unwrap_or(line);
        let (name, value) = line.split_once('=').ok_or_else(|| wrong(number, "a line must be NAME=VALUE"))?;
        let unquoted = ['"', '\''].iter().find_map(|&quote| value.strip_prefix(quote)?.strip_suffix(quote));
        variables.insert(name.trim().to_owned(), unquoted.unwrap_or(value).to_owned());
    }
    // Another file was meant: going on with the environment would call another service than the user thinks.
    if !variables.keys().any(|name| name.starts_with(OURS)) {
        return Err(Failure::new(Exit::Local, format!("{} has no line {OURS}…=…", path.display()))
            .with_hint("give the dev.env of `keystored dev`, or a file that names KEYSTORED_ADDRESS and the like"));
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_variables_is_read_as_a_shell_would() {
        let text = b"# made by keystored dev\nKEYSTORED_ADDRESS=https://127.0.0.1:1\n\nexport KEYSTORED_CA=\"/a b/ca.pem\"\nX='y'\n";
        let read = variables(text, Path::new("dev.env")).unwrap();
        assert_eq!(read["KEYSTORED_ADDRESS"], "https://127.0.0.1:1");
        assert_eq!(read["KEYSTORED_CA"], "/a b/ca.pem");
        assert_eq!(read["X"], "y");
    }

    #[test]
    fn a_file_that_says_nothing_of_the_service_is_refused() {
        for text in [&b""[..], b"# KEYSTORED_ADDRESS=https://a:1\n", b"AWS_ACCESS_KEY_ID=AKKS0\n"] {
            let failure = variables(text, Path::new("aws.env")).unwrap_err();
            assert_eq!((failure.exit, failure.message.as_str()), (Exit::Local, "aws.env has no line KEYSTORED_…=…"));
        }
    }

    #[test]
    fn a_wrong_line_is_named() {
        let failure = variables(b"A=1\nnonsense\n", Path::new("dev.env")).unwrap_err();
        assert_eq!(failure.message, "dev.env line 2: a line must be NAME=VALUE");
        assert_eq!(failure.exit, Exit::Local);
    }
}
