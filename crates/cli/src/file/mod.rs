//! `keystorectl file …`

mod open;
mod seal;

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Subcommand;
use indicatif::ProgressBar;
use serde::Serialize;

use super::failure::Failure;
use super::printer::Report;
use super::{Context, interruption};
use client::seal::Error;
use client::seal::file::{Summary, length};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Seal a file of any size under a key
    Seal(seal::Arguments),
    /// Open a sealed file
    Open(open::Arguments),
}

pub(super) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Seal(arguments) => seal::run(context, arguments).await,
        Command::Open(arguments) => open::run(context, arguments).await,
    }
}

/// How long the work has to end in order: it looks at the flag after each chunk.
const UNWINDING: Duration = Duration::from_secs(2);

/// What both commands tell.
#[derive(Serialize)]
struct Done {
    key_id: String,
    plaintext_bytes: u64,
    sealed_bytes: u64,
    chunks: u64,
    output: String,
    #[serde(skip)]
    done: &'static str,
}

impl Done {
    fn new(done: &'static str, output: &Path, summary: Summary) -> Self {
        let Summary { key_id, plaintext_bytes, sealed_bytes, chunks } = summary;
        Self { key_id, plaintext_bytes, sealed_bytes, chunks, output: output.display().to_string(), done }
    }
}

impl Report for Done {
    fn text(&self) -> String {
        let Self { key_id, plaintext_bytes, chunks, output, done, .. } = self;
        let chunks = if *chunks == 1 { "1 chunk".to_owned() } else { format!("{chunks} chunks") };
        format!("{done} {output}: {plaintext_bytes} bytes in {chunks} under {key_id}")
    }
}

/// A bar, and a flag that ends the work.
struct Watch {
    bar: ProgressBar,
    stop: Arc<AtomicBool>,
}

impl Watch {
    fn new(context: &Context, input: &Path) -> Result<Self, Failure> {
        let bytes = length(input)?;
        Ok(Self { bar: context.printer.progress(bytes), stop: Arc::default() })
    }

    fn progress(&self) -> impl FnMut(u64) -> ControlFlow<()> + Send + 'static {
        let (bar, stop) = (self.bar.clone(), Arc::clone(&self.stop));
        move |done| {
            bar.set_position(done);
            if stop.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
    }

    /// Runs the work to its end, which an interruption brings about in order: the temporary file goes away.
    async fn over(&self, work: impl Future<Output = Result<Summary, Error>>) -> Result<Summary, Failure> {
        let mut work = std::pin::pin!(work);
        let result = tokio::select! {
            result = &mut work => result,
            () = interruption() => {
                self.stop.store(true, Ordering::Relaxed);
                // An input that gives nothing, such as a pipe, is not waited for.
                tokio::time::timeout(UNWINDING, work).await.unwrap_or(Err(Error::Interrupted))
            }
        };
        self.bar.finish_and_clear();
        Ok(result?)
    }
}
