//! What a daemon is started in, made once and copied: a ceremony over two tokens costs seconds of a processor, most of it for
//! RSA keys, and hundreds of tests want one.
//!
//! A test that has a second site gets that made by itself, with tokens and an authority of its own.

use std::cell::Cell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use model::clock::Clock;
use rustix::process::{Pid, test_kill_process};
use tokio::sync::OnceCell;

use super::daemon::PROGRAM;

/// By the number of zones. There are more in no test.
static MADE: [OnceCell<PathBuf>; 8] = [const { OnceCell::const_new() }; 8];
/// The folder of what this process and others have made, by the process's id.
const FOLDER: &str = "prepared-sites";

thread_local! {
    /// Each test has a thread of its own.
    static HAS_ONE: Cell<bool> = const { Cell::new(false) };
}

/// Prepares `dir` for a daemon with so many zones.
pub(super) async fn site(dir: &Path, zones: u8) -> provision::Layout {
    if !HAS_ONE.replace(true) {
        let made = MADE[usize::from(zones)].get_or_init(|| make(zones)).await;
        let copied = Command::new("cp").arg("-a").arg(made.join(".")).arg(dir).status().unwrap();
        assert!(copied.success(), "{} is not copied", made.display());
    }
    prepare(dir, zones).await
}

/// Makes what is copied.
async fn make(zones: u8) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(FOLDER);
    let dir = folder.join(std::process::id().to_string()).join(zones.to_string());
    remove_what_others_left(&folder);
    fs::create_dir_all(&dir).unwrap();
    let layout = prepare(&dir, zones).await;
    // It has absolute paths in it, and is written where it is missing.
    fs::remove_file(layout.config).unwrap();
    dir
}

/// A process does not learn that its last test has ended.
fn remove_what_others_left(folder: &Path) {
    for made in fs::read_dir(folder).into_iter().flatten().flatten() {
        let pid = made.file_name().to_str().and_then(|name| name.parse().ok()).and_then(Pid::from_raw);
        if pid.is_none_or(|pid| test_kill_process(pid).is_err()) {
            let _ = fs::remove_dir_all(made.path());
        }
    }
}

/// The code that `keystored dev` uses: makes what is not there.
async fn prepare(dir: &Path, zones: u8) -> provision::Layout {
    let options = provision::Options {
        dir: dir.to_owned(),
        zones: (b'a'..b'a' + zones).map(|name| char::from(name).to_string()).collect(),
        listen: [(); 3].map(|()| "127.0.0.1:0".to_owned()),
        worker: PathBuf::from(PROGRAM),
        module: None,
    };
    let mut told = Vec::new();
    let layout = provision::prepare(&options, &Clock::system(), &mut |step| told.push(step.to_owned())).await;
    layout.unwrap_or_else(|error| panic!("{error}\nafter: {told:#?}"))
}
