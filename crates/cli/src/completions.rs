//! `keystorectl completions`: what a shell knows of the command line, made from its definition.

use clap::{Args, CommandFactory as _, ValueEnum};
use clap_complete::Shell;

use super::Context;
use super::failure::Failure;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// The shell that is to complete
    shell: Known,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Known {
    Bash,
    Zsh,
    Fish,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<(), Failure> {
    let shell = match arguments.shell {
        Known::Bash => Shell::Bash,
        Known::Zsh => Shell::Zsh,
        Known::Fish => Shell::Fish,
    };
    // Into memory first: the generator panics where a pipe is closed.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut super::Arguments::command(), "keystorectl", &mut script);
    context.printer.bytes(&script)
}
