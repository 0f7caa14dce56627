//! Questions to the person at the terminal: the one place where keystorectl waits for one.
//!
//! They go to the terminal itself, because standard output holds results and standard error may lead into a file.
//!
//! **Invariant:** the terminal echoes again however a question without echo ends, by a signal too.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Read, Write};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use super::failure::{Exit, Failure};
use super::interruption;
use model::secret::Secret;

/// The longest line that Linux takes from a terminal, in bytes.
const LINE_BYTES: usize = 4_096;

/// Whether a person can be asked: standard input is a terminal.
pub(super) fn can_ask() -> bool {
    io::stdin().is_terminal()
}

/// Asks each question in turn; what is typed is not shown.
pub(super) async fn ask_hidden<const N: usize>(questions: [String; N]) -> Result<[Secret; N], Failure> {
    // The branches are polled in order: signals are caught before echo is off, and their arrival drops the guard.
    tokio::select! {
        biased;
        () = interruption() => Err(interrupted()),
        answers = async {
            let terminal = open()?;
            let quiet = Quiet::new(&terminal).map_err(failed)?;
            let mut answers = [const { None }; N];
            for (answer, question) in answers.iter_mut().zip(questions) {
                *answer = Some(line(&terminal, question).await?);
            }
            drop(quiet);
            Ok(answers.map(Option::unwrap_or_default))
        } => answers,
    }
}

/// Asks a question that `y` or `yes` affirms.
pub(super) async fn confirm(question: String) -> Result<bool, Failure> {
    let answer = tokio::select! {
        biased;
        () = interruption() => return Err(interrupted()),
        answer = async { line(&open()?, format!("{question} [y/N] ")).await } => answer?,
    };
    Ok([&b"y"[..], b"yes"].contains(&answer.expose().trim_ascii().to_ascii_lowercase().as_slice()))
}

/// Asks a question whose answer may be seen.
pub(super) async fn ask(question: String) -> Result<String, Failure> {
    let answer = tokio::select! {
        biased;
        () = interruption() => return Err(interrupted()),
        answer = async { line(&open()?, question).await } => answer?,
    };
    Ok(String::from_utf8_lossy(answer.expose()).into_owned())
}

fn open() -> Result<File, Failure> {
    OpenOptions::new().read(true).write(true).open("/dev/tty").map_err(failed)
}

fn failed(error: impl Into<io::Error>) -> Failure {
    Failure::local(format!("cannot ask on the terminal: {}", error.into()))
}

fn interrupted() -> Failure {
    // What comes next would stand behind the question otherwise.
    let _ = open().map(|mut terminal| terminal.write_all(b"\n"));
    Failure::new(Exit::Interrupted, "interrupted; nothing was done")
}

/// Reads one line, without its newline.
async fn line(terminal: &File, question: String) -> Result<Secret, Failure> {
    let mut terminal = terminal.try_clone().map_err(failed)?;
    // On panic: the command fails.
    let reading = tokio::task::spawn_blocking(move || {
        terminal.write_all(question.as_bytes())?;
        // A terminal gives a whole line at once. Reading past std's buffers leaves no copy in them.
        let mut buffer = Zeroizing::new(vec![0; LINE_BYTES]);
        let length = terminal.read(&mut buffer)?;
        if length == 0 {
            return Ok(None);
        }
        let typed = &buffer[..length];
        Ok(Some(Secret::new(typed.strip_suffix(b"\n").unwrap_or(typed).to_vec())))
    });
    let lost = |_| Err(io::Error::other("the reader is gone"));
    // Ctrl-D at the beginning of a line ends the input: nobody wants to answer.
    reading.await.unwrap_or_else(lost).map_err(failed)?.ok_or_else(interrupted)
}

/// A terminal that does not echo, until this is dropped.
struct Quiet {
    terminal: File,
    before: Termios,
}

impl Quiet {
    fn new(terminal: &File) -> io::Result<Self> {
        let terminal = terminal.try_clone()?;
        let before = tcgetattr(&terminal)?;
        let mut quiet = before.clone();
        quiet.local_modes.remove(LocalModes::ECHO);
        // The newline alone is shown: the next output begins on a line of its own.
        quiet.local_modes.insert(LocalModes::ECHONL | LocalModes::ICANON | LocalModes::ISIG);
        // What was typed before the question was shown, and is forgotten.
        tcsetattr(&terminal, OptionalActions::Flush, &quiet)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Quiet {
    fn drop(&mut self) {
        // Nobody can be told.
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.before);
    }
}
