//! `keystorectl man`: man pages, made from the definition of the command line.

use std::fs;
use std::path::PathBuf;

use clap::{Args, CommandFactory as _};
use serde::Serialize;

use super::Context;
use super::failure::Failure;
use super::printer::Report;

#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Directory to write them to, one for each command; made where it is not there
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
}

#[derive(Serialize)]
struct Written {
    dir: PathBuf,
    pages: usize,
}

impl Report for Written {
    fn text(&self) -> String {
        let dir = self.dir.display();
        format!("Wrote {} man pages to {dir}; `man {dir}/keystorectl.1` shows the first", self.pages)
    }
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let dir = arguments.dir;
    let failed = |error: std::io::Error| Failure::local(format!("{} cannot be written: {error}", dir.display()));
    fs::create_dir_all(&dir).map_err(failed)?;
    let mut command = super::Arguments::command().disable_help_subcommand(true);
    command.build();
    let mut left = vec![command];
    let mut pages = 0;
    while let Some(command) = left.pop() {
        left.extend(command.get_subcommands().filter(|sub| !sub.is_hide_set()).cloned());
        clap_mangen::Man::new(command).generate_to(&dir).map_err(failed)?;
        pages += 1;
    }
    context.printer.report(&Written { dir, pages })
}
