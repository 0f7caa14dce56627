//! What documents have a reader type is typed, as it stands there, and prints what stands there.
//!
//! A word with a digit in it stands for any other such word: ids, times, serial numbers. `...` stands for any lines.

use std::collections::hash_map::RandomState;
use std::fmt::Write as _;
use std::fs;
use std::hash::BuildHasher as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use rustix::process::Signal;

use crate::harness::{process, tool, wait};

/// One command, and the lines that follow it in the document.
struct Step {
    command: String,
    shows: Vec<String>,
}

/// The part of a document from one heading, or another line, to the next.
fn part(document: &str, from: &str, to: &str) -> String {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(document)).unwrap();
    let (_, rest) = text.split_once(from).unwrap_or_else(|| panic!("{document} has no {from:?}"));
    rest.split_once(to).unwrap_or_else(|| panic!("{document} has no {to:?} behind {from:?}")).0.to_owned()
}

/// The steps in the console's blocks of a text.
fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    for block in text.split("```console\n").skip(1).map(|rest| rest.split("```").next().unwrap()) {
        // What the command is not complete without: the end of a text, of a function, of a line.
        let (mut heredoc, mut function, mut goes_on) = (None, false, false);
        for line in block.lines() {
            if let Some(command) = line.strip_prefix("$ ") {
                steps.push(Step { command: command.to_owned(), shows: Vec::new() });
                heredoc = command.split_once("<<").map(|(_, end)| end.trim_matches(['\'', ' ']).to_owned());
                function = command.ends_with("<<EOF") && command.contains("() {");
                goes_on = command.ends_with('\\');
                continue;
            }
            let step = steps.last_mut().expect("a block begins with a command");
            if goes_on || heredoc.is_some() || function {
                step.command.push('\n');
                step.command.push_str(line);
                goes_on = goes_on && line.ends_with('\\');
                if heredoc.as_deref() == Some(line) {
                    heredoc = None;
                } else if heredoc.is_none() && line == "}" {
                    function = false;
                }
            } else if !line.is_empty() {
                step.shows.push(line.to_owned());
            }
        }
    }
    assert!(steps.len() > 10, "only {} steps", steps.len());
    steps
}

/// A line whose words with digits are all alike.
fn shape(line: &str) -> String {
    let word = |word: &str| if word.contains(|c: char| c.is_ascii_digit()) { "#".to_owned() } else { word.to_owned() };
    line.split_whitespace().map(word).collect::<Vec<_>>().join(" ")
}

/// Why what was printed is not what the document shows; nothing where it shows nothing.
fn differs(shows: &[String], printed: &[String]) -> Option<String> {
    let printed: Vec<String> = printed.iter().map(|line| shape(line)).collect();
    let shown: Vec<String> = shows.iter().map(|line| shape(line)).collect();
    // Steps of HSMs come in whatever order they take them, and the last ones may come after the end.
    if shown.iter().any(|line| line.contains(" # s ")) {
        let other = printed.iter().find(|line| !shown.contains(line));
        let end = (printed.last() != shown.last()).then(|| format!("it ends with {:?}", printed.last()));
        return other.map(|line| format!("{line:?} is not shown")).or(end);
    }
    let groups: Vec<&[String]> = shown.split(|line| line == "...").collect();
    let (mut rest, last) = (&printed[..], groups.len() - 1);
    for (place, group) in groups.into_iter().enumerate() {
        let at = if place == 0 {
            rest.starts_with(group).then_some(0)
        } else if place == last {
            rest.ends_with(group).then(|| rest.len() - group.len())
        } else {
            (0..=rest.len()).find(|at| rest[*at..].starts_with(group))
        };
        let Some(at) = at else { return Some(format!("{group:?} is not there")) };
        rest = &rest[at + group.len()..];
    }
    // At a last `...` nothing has to be left: it takes all.
    (!rest.is_empty()).then(|| format!("{rest:?} is not shown"))
}

/// Ends the daemon that a script has left, whatever became of it.
struct Left(PathBuf);

impl Drop for Left {
    fn drop(&mut self) {
        let pid = fs::read_to_string(&self.0).ok().and_then(|pid| pid.trim().parse().ok());
        let runs = |pid: &u32| process::arguments(*pid).contains("keystored");
        if let Some(pid) = pid.filter(runs) {
            process::signal(pid, Signal::TERM);
            // Its folder is taken away next.
            if !std::thread::panicking() {
                wait::until("the daemon ends", wait::LONG, || (!runs(&pid)).then_some(()));
            }
        }
    }
}

/// What is wrong with how a step went; nothing where the document shows just that. A step that shows nothing has to succeed
/// all the same, and one that shows an error to fail.
fn wrong(shows: &[String], printed: &[String], code: Option<i32>) -> Option<String> {
    let fails = shows.iter().any(|line| line.starts_with("error: "));
    match code {
        None => Some("it did not come to its end".to_owned()),
        Some(0) if fails => Some("it succeeded, and the document shows an error".to_owned()),
        Some(code) if code != 0 && !fails => Some(format!("it ended with {code}")),
        Some(_) if shows.is_empty() => None,
        Some(_) => differs(shows, printed),
    }
}

/// What a step printed, and its exit code, if it came to that.
fn of_step(all: &str, number: usize) -> (Vec<String>, Option<i32>) {
    let of_it = all.split_once(&format!("\n@@{number}\n")).map_or("", |(_, rest)| rest);
    let (printed, behind) = of_it.split_once("\n@@rc ").unwrap_or((of_it, ""));
    let printed = printed.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
    (printed, behind.lines().next().and_then(|code| code.parse().ok()))
}

/// Types the steps in a folder, after what has to be there, with words of theirs replaced.
#[track_caller]
fn follow(folder: &Path, before: &str, steps: &[Step], replaced: &[(&str, &str)]) {
    let replace = |text: &str| replaced.iter().fold(text.to_owned(), |text, (old, new)| text.replace(old, new));
    // Into a file: of a pipe the daemon, which stays, would keep an end, and who reads it would wait for that.
    let mut script = format!("exec > all-printed 2>&1\n{before}\n");
    for (number, step) in steps.iter().enumerate() {
        let command = replace(&step.command);
        writeln!(script, "printf '\\n@@{number}\\n'\n{command}\nprintf '\\n@@rc %s\\n' $?").unwrap();
        if step.command.contains("DAEMON=$!") {
            script.push_str("echo $DAEMON > \"$LEFT\"\n");
        }
    }
    fs::write(folder.join("steps.sh"), &script).unwrap();
    let left = Left(folder.join("daemon.pid"));
    let programs = Path::new(env!("CARGO_BIN_EXE_keystored")).parent().unwrap();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap());
    // Steps wait for what they have made, and where that does not come they would wait without end.
    let mut bash = Command::new("timeout");
    bash.args(["-k", "5", "220", "bash", "steps.sh"]).current_dir(folder).env("PATH", path).env("LEFT", &left.0);
    let ran = tool::run(&mut bash);
    let text = |file: &str| String::from_utf8_lossy(&fs::read(folder.join(file)).unwrap_or_default()).into_owned();
    let all = text("all-printed");
    let logs = || format!("{}{}", text("lab/daemon.log"), text("dev.log"));
    for (number, step) in steps.iter().enumerate() {
        let shows: Vec<String> = step.shows.iter().map(|line| replace(line)).collect();
        let (printed, code) = of_step(&all, number);
        if let Some(why) = wrong(&shows, &printed, code) {
            let (printed, shows) = (printed.join("\n"), shows.join("\n"));
            let logs = logs();
            panic!(
                "{}\nprinted\n{printed}\nand not\n{shows}\n({why})\nall of it\n{all}\n{logs}\n{ran:?}",
                step.command
            );
        }
    }
    assert_eq!(ran.code, Some(0), "{ran:?}\n{all}\n{}", logs());
}

fn folder() -> tempfile::TempDir {
    tempfile::TempDir::with_prefix("keystored-test-").unwrap()
}

/// An address of this machine that nobody else has, so that the ports of the document are free on it: a port that was found
/// free could be somebody else's by the time that the daemon takes it.
fn own_address() -> String {
    let [a, b, c, ..] = RandomState::new().hash_one(std::process::id()).to_ne_bytes();
    format!("127.{}.{b}.{}", 1 + a % 254, 1 + c % 254)
}

#[test]
fn a_key_store_by_hand_is_made_by_the_steps_of_the_readme() {
    let folder = folder();
    let mut steps = steps(&part("README.md", "\n## A key store by hand, step by step\n", "\n## What it can do\n"));
    // Keys are placed in the third HSM in the background.
    let status = steps.iter_mut().find(|step| step.command == "keystorectl cluster status").unwrap();
    status.command = "until keystorectl cluster status | grep -q 'hsm-c .* Healthy  *0 '; do sleep 0.1; done\n\
                      keystorectl cluster status"
        .to_owned();
    let address = own_address();
    let here = folder.path().join("lab").display().to_string();
    let cluster = format!("[ops]\nlisten = \"{address}:7412\"\n\n[[cluster]]\n");
    let replaced = [("127.0.0.1", &*address), ("[[cluster]]\n", &cluster), ("/home/me/lab", &here)];
    follow(folder.path(), "", &steps, &replaced);
}

#[test]
fn the_first_key_and_who_may_use_it_come_by_the_steps_of_readme_and_access() {
    let folder = folder();
    fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("LICENSE"), folder.path().join("LICENSE")).unwrap();
    let mut all = steps(&part("README.md", "\n## The first key, step by step\n", "\n### With AWS's clients\n"));
    all.extend(steps(&part("docs/access.md", "\n## Five steps to a service", "\n## Which name of a certificate")));
    all.retain(|step| step.command != "make run");
    let before = "keystored dev --dir dev --listen 127.0.0.1:0 --aws 127.0.0.1:0 --ops 127.0.0.1:0 > dev.out 2> dev.log &\n\
                  DAEMON=$!\necho $DAEMON > \"$LEFT\"\nuntil [ -s dev/dev.env ]; do sleep 0.1; done";
    let described = "keystorectl key create --description 'my first key'";
    let replaced = [
        (described, "keystorectl key create --description 'my first key' | tee created"),
        ("KEY=8e8538d6-3d9a-49b1-98c2-5a998063ecc5", "KEY=$(awk '/^Key id/ { print $3 }' created)"),
    ];
    follow(folder.path(), before, &all, &replaced);
}

/// What finds no difference would find none anywhere.
#[test]
fn what_differs_is_found() {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let differs = |shows: &str, printed: &str| differs(&lines(shows), &lines(printed)).is_some();
    for (shows, printed) in [
        ("Key id  8e8538d6", "Key id  8e8538d7"),
        ("one\n...", "one\ntwo\nthree"),
        ("...", ""),
        ("one\n...\nfour", "one\ntwo\nthree\nfour"),
        ("a  0.1 s  in\nb  0.2 s  in\nConnected", "b  0.3 s  in\nConnected"),
    ] {
        assert!(!differs(shows, printed), "{shows:?} {printed:?}");
    }
    for (shows, printed) in [
        ("Key id  8e8538d6", "Key  8e8538d6"),
        ("one", "one\ntwo"),
        ("one", ""),
        ("one\n...\nfour", "one\ntwo"),
        ("one\n...", "two\nthree"),
        ("one\n...\ntwo\n...\nfour", "one\nthree\nfour"),
        ("a  0.1 s  in\nConnected", "a  0.1 s  out\nConnected"),
        ("a  0.1 s  in\nConnected", "a  0.1 s  in"),
    ] {
        assert!(differs(shows, printed), "{shows:?} {printed:?}");
    }
}

/// A step that fails is found, also one that shows nothing, and one that the script never came to.
#[test]
fn a_step_that_fails_is_found() {
    let lines = |text: &str| text.lines().map(str::to_owned).collect::<Vec<_>>();
    let all = "\n@@0\n\n@@rc 0\n\n@@1\nerror: no\n\n@@rc 3\n\n@@2\nhalf\n";
    assert_eq!(of_step(all, 0), (Vec::new(), Some(0)));
    assert_eq!(of_step(all, 1), (lines("error: no"), Some(3)));
    assert_eq!(of_step(all, 2), (lines("half"), None));
    assert_eq!(of_step(all, 3), (Vec::new(), None));
    let is_wrong =
        |shows: &str, (printed, code): (Vec<String>, Option<i32>)| wrong(&lines(shows), &printed, code).is_some();
    for (shows, number, is_so) in [
        ("", 0, false),
        ("something", 0, true),
        ("error: no", 0, true),
        ("", 1, true),
        ("error: no", 1, false),
        ("error: yes", 1, true),
        ("half", 2, true),
        ("", 3, true),
    ] {
        assert_eq!(is_wrong(shows, of_step(all, number)), is_so, "{shows:?} {number}");
    }
}
