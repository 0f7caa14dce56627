//! Commands that documents, errors and help name are there, with the options that stand behind them.

use std::fs;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory as _};

const PROGRAM: &str = "keystorectl ";
/// The file with the planted faults.
const THIS: &str = "documented.rs";
/// Where a command ends: with its quotes, where another program begins, and where its output goes.
const ENDS: [char; 10] = ['`', '"', '\'', ';', '|', '(', ')', '>', '<', '$'];
/// Behind them a sentence goes on.
const STOPS: [char; 4] = [',', '.', ':', '…'];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The files whose sentences people read.
fn files(under: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(under).unwrap().map(Result::unwrap) {
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        if entry.file_type().unwrap().is_dir() {
            files(&path, out);
        } else if [".md", ".rs", ".toml", ".proto"].into_iter().any(|ending| name.ends_with(ending)) && name != THIS {
            out.push(path);
        }
    }
}

/// A text without the breaks of its lines: of a string that goes on behind `\`, of a comment, of a paragraph.
fn joined(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for line in text.lines() {
        let bare = line.trim_start();
        let comment = ["/// ", "//! ", "// ", "# "].iter().find_map(|mark| bare.strip_prefix(mark));
        let goes_on = out.ends_with('\\');
        if goes_on {
            out.pop();
            out.push_str(bare);
        } else {
            out.push(' ');
            out.push_str(comment.unwrap_or(line));
        }
    }
    out
}

/// What is wrong with the commands in a text.
fn judge(program: &Command, text: &str) -> Vec<String> {
    let text = joined(text);
    let named = text.match_indices(PROGRAM).filter_map(|(at, _)| {
        let (before, behind) = (&text[..at], &text[at + PROGRAM.len()..]);
        // As code it is a command; in a sentence it may be the program that does something.
        let code = ["`", "$ ", "$(", "    "].iter().any(|mark| before.ends_with(mark));
        // A variable is no end.
        let variable = |at: usize| behind[at..].starts_with('$') && !behind[at..].starts_with("$ ");
        let ends = behind.match_indices(ENDS).map(|(at, _)| at).find(|at| !variable(*at));
        // Nor may the next command, on a line of its own, be taken for words of this one.
        let end = ends.into_iter().chain(behind.find(PROGRAM)).min().unwrap_or(behind.len());
        let words: Vec<&str> = behind[..end].split_whitespace().collect();
        Some(format!("{PROGRAM}{}: {}", words.join(" "), wrong(program, &words, code)?))
    });
    named.collect()
}

fn wrong(program: &Command, words: &[&str], code: bool) -> Option<String> {
    let (mut command, mut words) = (program, words.iter());
    let mut ended = false;
    while let Some(word) = words.next().filter(|_| !ended) {
        let bare = word.trim_end_matches(STOPS);
        // A sentence goes on behind it.
        ended = bare != *word;
        if let Some(option) = bare.strip_prefix("--") {
            let (name, value) = option.split_once('=').map_or((option, None), |(name, value)| (name, Some(value)));
            let known = command.get_arguments().find(|argument| argument.get_long() == Some(name));
            if known.is_none() && name != "help" {
                return Some(format!("there is no option --{name} of `{}`", command.get_name()));
            }
            if value.is_none() && known.is_some_and(|argument| argument.get_action().takes_values()) {
                ended = words.next().is_some_and(|value| value.ends_with(STOPS));
            }
        } else if command.has_subcommands() {
            match command.find_subcommand(bare) {
                Some(next) => command = next,
                None if code && bare.starts_with(|first: char| first.is_ascii_lowercase()) => {
                    return Some(format!("`{}` has no command {bare:?}", command.get_name()));
                }
                None => return None,
            }
        }
    }
    None
}

fn program() -> Command {
    let mut program = super::Arguments::command();
    // Has each command have the options that all have.
    program.build();
    program
}

#[test]
fn what_is_named_is_there() {
    let mut paths = Vec::new();
    for name in ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"] {
        paths.push(root().join(name));
    }
    for folder in ["docs", "deploy", "softhsm-config", "proto", "crates", "src"] {
        files(&root().join(folder), &mut paths);
    }
    let program = program();
    let wrong = paths.iter().flat_map(|path| {
        let text = fs::read_to_string(path).unwrap();
        judge(&program, &text).into_iter().map(|wrong| format!("{}: {wrong}", path.display())).collect::<Vec<_>>()
    });
    let wrong: Vec<String> = wrong.collect();
    assert!(paths.len() > 300, "only {} files; is this the repository?", paths.len());
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

/// One that finds nothing in planted faults would find nothing anywhere.
#[test]
fn planted_faults_are_found() {
    let program = program();
    for (text, what) in [
        ("see `keystorectl key maek`", "has no command \"maek\""),
        ("$ keystorectl kye list", "has no command \"kye\""),
        ("    keystorectl cluster \\\n        add-hsn", "has no command \"add-hsn\""),
        ("tell it (keystorectl key-store update --pin FILE)", "no option --pin"),
        ("/// `keystorectl key-store\n/// create lab --colour red`", "no option --colour"),
        ("`keystorectl --env-file dev/app.env key list --al`", "no option --al"),
        ("`keystorectl key list --json --names`", "no option --names"),
    ] {
        let found = judge(&program, text).join("\n");
        assert!(found.contains(what), "{text:?}: {found:?}");
    }
    for text in [
        "keystorectl therefore writes to a file",
        "`keystorectl key-store …` and `keystorectl`",
        "`keystorectl key create --json | awk --field`",
        "\"keystorectl cluster resync {cluster} --key {key}, and --so on\"",
        "$(keystorectl --receipt key create --tag team=payroll --tag stage=)",
        "keystorectl encrypt alias/payroll < FILE",
        "    keystorectl key disable KEY\n    keystorectl key destroy-material KEY --confirm ARN",
    ] {
        assert_eq!(judge(&program, text), Vec::<String>::new(), "{text:?}");
    }
}
