//! Somebody else writes to the log's directory: nothing hangs, takes memory without bound, or writes outside of it.

use super::*;
use rustix::fs::{CWD, FileType, Mode, RenameFlags, mknodat, renameat_with};
use rustix::io::Errno;

/// What is put in place of a file.
#[derive(Clone, Copy, Debug)]
enum Planted {
    Pipe,
    Folder,
    Link,
    HardLink,
    Endless,
    Nothing,
}

const ALL: [Planted; 6] =
    [Planted::Pipe, Planted::Folder, Planted::Link, Planted::HardLink, Planted::Endless, Planted::Nothing];

impl Planted {
    /// Puts it there, in place of what is there. Links lead to `outside`.
    fn plant(self, path: &Path, outside: &Path) {
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("a directory");
        let beside = &outside.with_extension("planted");
        match self {
            Self::Pipe => mknodat(CWD, beside, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a pipe"),
            Self::Folder => std::fs::create_dir(beside).expect("a directory"),
            Self::Link => std::os::unix::fs::symlink(outside, beside).expect("a link"),
            Self::HardLink => std::fs::hard_link(outside, beside).expect("a link"),
            Self::Endless => std::fs::File::create(beside).and_then(|file| file.set_len(1 << 42)).expect("a file"),
            Self::Nothing => std::fs::write(beside, b"").expect("a file"),
        }
        swap(beside, path);
        clear(beside);
    }
}

/// Puts what is at one path at another one, and what is there, if anything, at the first: in one step, so that the log does not
/// write there in between.
fn swap(one: &Path, other: &Path) {
    loop {
        match renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE) {
            Err(Errno::NOENT) => {}
            exchanged => return exchanged.expect("exchanged"),
        }
        match renameat_with(CWD, one, CWD, other, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => {}
            moved => return moved.expect("moved"),
        }
    }
}

fn clear(path: &Path) {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => std::fs::remove_dir_all(path).expect("removed"),
        Ok(_) => std::fs::remove_file(path).expect("removed"),
        Err(_) => {}
    }
}

/// In memory, where that can be: much is synced here.
fn quick() -> Setup {
    let directory = quick_directory();
    let mut setup = Setup::at(&directory.path().join("audit"));
    setup._directory = Some(directory);
    setup
}

/// A file elsewhere that nobody must write to, in a folder that nothing must appear in.
struct Outside(TempDir);

impl Outside {
    fn new(beside: &Setup) -> Self {
        // On the same file system, for hard links.
        let folder = tempfile::tempdir_in(beside.directory().parent().expect("a parent")).expect("a directory");
        std::fs::write(folder.path().join("file"), b"somebody's").expect("written");
        Self(folder)
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("file")
    }

    fn check(&self, case: &str) {
        assert_eq!(std::fs::read(self.file()).expect("read"), b"somebody's", "{case}");
        assert_eq!(std::fs::read_dir(self.0.path()).expect("a directory").count(), 1, "{case}");
    }
}

/// Names that the writer makes files under before they get their own, planted while it runs: it goes on.
#[test]
fn what_is_planted_under_temporary_names_is_not_written_to() {
    for planted in ALL {
        let setup = quick();
        let outside = Outside::new(&setup);
        let log = setup.open();
        fill(&log, 0..300);
        for name in ["new-tile", "new-compressed", "journal/new"] {
            planted.plant(&setup.directory().join(name), &outside.file());
        }
        fill(&log, 300..1_000);
        for path in journal_files(setup.directory()) {
            let _planted_or_trimmed = std::fs::remove_file(path);
        }
        until("it goes on", || log.state().accepting() && data(&log, 1_000).is_ok());
        let size = log.state().size;
        until(&format!("a head is over it ({planted:?}, {:?})", log.state()), || log.head().size == size);
        log.close();
        // What may hold something of somebody's is not removed.
        assert_eq!(setup.directory().join("journal/new.apart").is_dir(), matches!(planted, Planted::Folder));
        outside.check(&format!("{planted:?}"));
        assert_eq!(contents(setup.directory())[..1_000], records_of(0..1_000)[..], "{planted:?}");
    }
}

/// What the log has is another thing while it runs: it is told or put right, and the log ends when it is told to.
#[test]
fn what_is_planted_in_place_of_files_holds_nothing_up() {
    for planted in ALL {
        for name in ["checkpoint", "heads", "tile/0/001", "tile/entries/001", "tile", "journal"] {
            let case = format!("{planted:?} as {name}");
            if name == "heads" && matches!(planted, Planted::HardLink) {
                // Whoever can make one to a file can write to that file (fs.protected_hardlinks).
                continue;
            }
            let mut setup = quick();
            setup.sizes.tiles_grace = Duration::ZERO;
            let outside = Outside::new(&setup);
            let to = if matches!(planted, Planted::Link) && ["tile", "journal"].contains(&name) {
                outside.0.path().to_owned()
            } else {
                outside.file()
            };
            let log = setup.open();
            fill(&log, 0..600);
            until("a head is over it", || log.head().size == 600);
            let (path, before) = (setup.directory().join(name), setup.directory().join("before"));
            if path.is_dir() {
                planted.plant(&before, &to);
                swap(&before, &path);
            } else {
                planted.plant(&path, &to);
            }
            for number in 600..900 {
                let _told = data(&log, number);
            }
            let size = log.state().size;
            until("it is signed or told", || log.head().size >= size || !log.state().accepting());
            if before.exists() {
                swap(&before, &path);
                clear(&before);
            } else {
                clear(&path);
            }
            until("it goes on", || log.state().accepting() && data(&log, 0).is_ok());
            log.close();
            outside.check(&case);
        }
    }
}

/// What has the name of a file of the journal is put aside when the journal is made anew, or the next start would meet it.
#[test]
fn what_has_the_name_of_the_journal_s_file_is_in_nobody_s_way() {
    for planted in [Planted::Pipe, Planted::Link, Planted::Folder, Planted::Nothing] {
        let setup = quick();
        let outside = Outside::new(&setup);
        let log = setup.open();
        fill(&log, 0..600);
        until("a head is over it", || log.head().size == 600);
        // All of it that is missed is behind the bundles that are closed.
        until("they are closed", || !setup.directory().join(layout::bundle(1, 256)).exists());
        let path = setup.directory().join(layout::journal(0));
        planted.plant(&path, &outside.file());
        until("it is noticed", || !log.state().accepting() || !path.exists());
        until("it goes on", || data(&log, 600).is_ok());
        assert!(std::fs::symlink_metadata(&path).is_err(), "{planted:?}");
        let apart = setup.directory().join("journal/00000000000000000000.apart");
        assert!(std::fs::symlink_metadata(&apart).is_ok(), "{planted:?}");
        log.close();
        drop(log);
        drop(setup.open());
        outside.check(&format!("{planted:?}"));
        clear(&apart);
        assert_eq!(contents(setup.directory())[..600], records_of(0..600)[..], "{planted:?}");
    }
}

/// Folders in the very place where the journal is written anew, again and again, and in those of later files.
#[test]
fn folders_in_the_journal_s_own_place_are_put_aside_each_time() {
    let mut setup = quick();
    setup.sizes.segment = 2_000;
    let log = setup.open();
    let folder = setup.directory().join("journal");
    let aside = || {
        let found = std::fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path());
        found.filter(|path| path.is_dir() && path.display().to_string().contains(".apart")).collect::<Vec<_>>()
    };
    let (mut end, mut all) = (0, 0);
    for count in [200, 10, 10] {
        fill(&log, end..end + count);
        end += count;
        let mut files = journal_files(setup.directory());
        files.retain(|path| path.is_file() && path.file_name().is_some_and(|name| name.len() == 20));
        assert!(count < 200 || files.len() > 2);
        for path in &files {
            // At once, so that the log does not write a file there in between.
            let planted = setup.directory().join("planted");
            std::fs::create_dir(&planted).expect("a directory");
            std::fs::write(planted.join("kept"), b"").expect("written");
            let exchanged = renameat_with(CWD, &planted, CWD, path, RenameFlags::EXCHANGE);
            exchanged.expect("exchanged");
            std::fs::remove_file(planted).expect("removed");
        }
        all += files.len();
        until("it goes on", || aside().len() >= all && log.state().accepting());
        assert!(data(&log, end).is_ok());
        end += 1;
        assert!(files.iter().all(|path| !path.is_dir()));
    }
    log.close();
    drop(log);
    for path in aside() {
        assert!(path.join("kept").exists(), "what was in it stays");
        clear(&path);
    }
    assert_eq!(contents(setup.directory()), records_of(0..end));
}

/// What is kept beside the log goes where the log is.
#[test]
fn the_log_s_directory_is_the_one_that_is_written_to() {
    let setup = quick();
    let log = setup.open();
    let away = setup.directory().with_extension("away");
    std::fs::rename(setup.directory(), &away).expect("moved");
    std::fs::create_dir(setup.directory()).expect("another");
    assert!(log.directory().is_at(&away).expect("looked at"));
    let put = log.directory().put(Path::new("new"), Path::new("beside"), b"x", 0o600, true);
    assert!(put.is_ok() && away.join("beside").exists() && files(setup.directory()).is_empty());
    std::fs::remove_dir(setup.directory()).expect("empty");
    std::fs::rename(&away, setup.directory()).expect("moved back");
    log.close();
}

/// A log is opened in a directory that somebody prepared: it opens or says why not, at once.
#[test]
fn a_directory_that_was_prepared_is_opened_or_refused() {
    for planted in ALL {
        for name in [
            "checkpoint",
            "heads",
            "journal/00000000000000000000",
            "journal/00000000000000000600",
            "journal/new",
            "new-tile",
            "tile/0/001.p/88",
            "tile/entries/002.p/88",
            "tile",
            "journal",
        ] {
            let case = format!("{planted:?} as {name}");
            let hard = matches!(planted, Planted::HardLink);
            if hard && (name == "heads" || name.starts_with("journal/0")) {
                continue;
            }
            let setup = quick();
            let outside = Outside::new(&setup);
            let log = setup.open();
            fill(&log, 0..600);
            drop(log);
            let to = if name.contains('/') || name.contains('-') || !matches!(planted, Planted::Link) {
                outside.file()
            } else {
                outside.0.path().to_owned()
            };
            planted.plant(&setup.directory().join(name), &to);
            match setup.try_open() {
                Ok(log) => {
                    let _told = data(&log, 600);
                    log.close();
                }
                Err(error) => assert!(!error.to_string().is_empty(), "{case}"),
            }
            outside.check(&case);
        }
    }
}

/// What is moved away is what the log has, not what a link in it leads to.
#[test]
fn links_are_not_archived() {
    let setup = quick();
    let outside = Outside::new(&setup);
    let log = setup.open();
    fill(&log, 0..1_000);
    until("a head is over it", || log.head().size == 1_000);
    until("it is compressed", || !setup.directory().join(layout::bundle(2, 256)).exists());
    log.close();
    let to = tempfile::tempdir().expect("a directory");
    for planted in [Planted::Pipe, Planted::Folder, Planted::Link, Planted::Endless] {
        planted.plant(&setup.directory().join(bundles::compressed(1)), &outside.file());
        assert!(archive(setup.directory(), to.path(), 0).is_err(), "{planted:?}");
        assert!(!to.path().join(bundles::compressed(1)).exists(), "{planted:?}");
    }
    for planted in [Planted::Pipe, Planted::Folder, Planted::Link, Planted::Endless] {
        planted.plant(&setup.directory().join(layout::CHECKPOINT), &outside.file());
        assert!(archive(setup.directory(), to.path(), 0).is_err(), "{planted:?}");
    }
    outside.check("archived");
    // Of a head that says anything, bundles are not looked for without end.
    let key = LogKey::generate(ORIGIN).expect("a key");
    let head = Head { size: crate::files::MOST_RECORDS, root: [7; 32] };
    let text = Checkpoint::text_of(ORIGIN, &head).expect("a text");
    let endless = Checkpoint::new(ORIGIN, head, vec![key.sign(&text)]).expect("a head").to_bytes();
    clear(&setup.directory().join(layout::CHECKPOINT));
    std::fs::write(setup.directory().join(layout::CHECKPOINT), endless).expect("written");
    let middle = setup.directory().join(bundles::compressed(crate::files::MOST_RECORDS / FULL / 2));
    std::fs::create_dir_all(middle.parent().expect("a folder")).expect("a folder");
    std::fs::write(&middle, b"a bundle").expect("written");
    let archived = archive(setup.directory(), to.path(), 0).expect("archived");
    assert_eq!((archived.bundles, archived.bytes), (1, 8));
}

/// Nor is anything written where links in an archive lead to.
#[test]
fn nothing_is_archived_through_links() {
    for name in [PathBuf::from("new-archived"), "tile".into(), "tile/entries".into(), bundles::compressed(0)] {
        let setup = quick();
        let outside = Outside::new(&setup);
        let log = setup.open();
        fill(&log, 0..600);
        until("a head is over it", || log.head().size == 600);
        until("it is compressed", || !setup.directory().join(layout::bundle(1, 256)).exists());
        log.close();
        // On the file system of what is planted.
        let to = quick_directory();
        let leads_to = if name.starts_with("tile") && name != bundles::compressed(0) {
            outside.0.path().to_owned()
        } else {
            outside.file()
        };
        Planted::Link.plant(&to.path().join(&name), &leads_to);
        // What bears the name of what is written first is unlinked.
        let is_first = name == Path::new("new-archived");
        assert_eq!(archive(setup.directory(), to.path(), 0).is_ok(), is_first, "{name:?}");
        assert_eq!(setup.directory().join(bundles::compressed(0)).exists(), !is_first, "{name:?}");
        outside.check("archived to");
    }
}
