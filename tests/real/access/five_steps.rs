//! docs/access.md from nothing to "this service may only decrypt with this context", as it stands there: each command is
//! typed into one shell in the directory of a development daemon, and answers as is written below it.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use crate::harness::daemon::Site;
use crate::harness::tool;

/// Characters of a key's id.
const KEY_ID: usize = 36;

/// A command, with all of its lines, and what is said to come of it.
struct Step {
    typed: String,
    answer: Vec<&'static str>,
}

/// What people are to type, in its order.
fn steps() -> Vec<Step> {
    let document = include_str!("../../../docs/access.md");
    let (_, part) = document.split_once("\n## Five steps").unwrap();
    let (part, _) = part.split_once("\n## ").unwrap();
    let mut steps: Vec<Step> = Vec::new();
    for block in part.split("```console\n").skip(1) {
        let (block, _) = block.split_once("```").unwrap();
        // What a line that ends so is followed by belongs to the command.
        let mut until: Option<&str> = None;
        for line in block.lines() {
            let Some(step) = steps.last_mut().filter(|_| !line.starts_with("$ ")) else {
                let typed = line.strip_prefix("$ ").unwrap_or_else(|| panic!("no command: {line}"));
                until = if typed.contains("<<'EOF'") { Some("EOF") } else { typed.ends_with('\\').then_some("") };
                steps.push(Step { typed: typed.to_owned(), answer: Vec::new() });
                continue;
            };
            match until {
                None => step.answer.push(line),
                Some(end) => {
                    write!(step.typed, "\n{line}").unwrap();
                    let goes_on = if end.is_empty() { line.ends_with('\\') } else { line != end };
                    until = until.filter(|_| goes_on);
                }
            }
        }
    }
    steps
}

/// A line without what is another one each time: ids and moments. How wide columns are does not matter.
fn masked(line: &str) -> String {
    let word = |word: &str| {
        let key = |at: &usize| word.get(*at..at + KEY_ID).is_some_and(|id| uuid::Uuid::try_parse(id).is_ok());
        match (0..word.len()).find(key) {
            Some(at) => format!("{}KEY{}", &word[..at], &word[at + KEY_ID..]),
            None if word.starts_with("AIDA") => "ID".to_owned(),
            None if word.starts_with("20") && word.ends_with('Z') => "MOMENT".to_owned(),
            None => word.to_owned(),
        }
    };
    line.split_whitespace().map(word).collect::<Vec<_>>().join(" ")
}

/// What a command said, beside what is written: as many lines, or those before `...`.
fn is_as_written(written: &[&str], said: &str) -> bool {
    let whole = written.last() != Some(&"...");
    let written: Vec<String> = written.iter().filter(|line| **line != "...").map(|line| masked(line)).collect();
    let said: Vec<String> = said.lines().map(masked).collect();
    if whole { said == written } else { said.starts_with(&written) }
}

fn read(folder: &Path, name: &str) -> String {
    fs::read_to_string(folder.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_five_steps_of_the_document_come_to_what_it_says() {
    let daemon = Site::prepare().await.launch_dev();
    daemon.wait_until_ready();
    let caller = daemon.caller().await;
    daemon.wait_until_healthy_for(&caller).await;
    let (folder, steps) = (tempfile::tempdir().unwrap(), steps());
    assert!(steps.len() > 20, "{}", steps.len());
    symlink(daemon.site().path(), folder.path().join("dev")).unwrap();

    let mut script = String::new();
    for (number, Step { typed, .. }) in steps.iter().enumerate() {
        write!(script, "{{\n{typed}\n}} >{number}.said 2>&1\necho $? >{number}.code\n").unwrap();
    }
    let programs = Path::new(env!("CARGO_BIN_EXE_keystorectl")).parent().unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    let mut shell = Command::new("bash");
    tool::run(shell.args(["-c", &script]).current_dir(folder.path()).env("PATH", path)).ok();

    for (number, Step { typed, answer }) in steps.iter().enumerate() {
        let [said, code] = ["said", "code"].map(|what| read(folder.path(), &format!("{number}.{what}")));
        let fails = answer.iter().any(|line| line.starts_with("error:"));
        assert_eq!(code.trim() != "0", fails, "{typed}\n{said}");
        // What is said of a command without an answer is nobody's business: openssl's dots.
        assert!(
            answer.is_empty() || is_as_written(answer, &said),
            "{typed}\nsays:\n{said}\nand not:\n{}",
            answer.join("\n")
        );
    }
}
