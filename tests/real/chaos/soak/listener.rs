//! Who reads a daemon's log: sometimes nobody does, and sometimes nobody is there.

use std::fs::{File, OpenOptions};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};

/// How long the listener waits for words before it looks whether it is to do something else.
const TURN: Duration = Duration::from_millis(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Listening {
    Yes,
    /// The pipe stays open, and nothing is taken out of it.
    Stalled,
    /// The pipe is closed at this end.
    Gone,
    /// For ever.
    Over,
}

/// A named pipe, and a thread that copies what comes out of it to a file.
pub(super) struct Listener {
    pipe: PathBuf,
    now: Arc<AtomicU8>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Listener {
    pub(super) fn start(dir: &Path, copy: &Path) -> Self {
        let pipe = dir.join("log.pipe");
        mknodat(CWD, &pipe, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).unwrap();
        let now = Arc::new(AtomicU8::new(Listening::Yes as u8));
        let mut copy = OpenOptions::new().create(true).append(true).open(copy).unwrap();
        let mut reader = Some(open(&pipe));
        let thread = std::thread::spawn({
            let (pipe, now) = (pipe.clone(), Arc::clone(&now));
            move || {
                let mut buffer = vec![0; 64 << 10];
                loop {
                    let listening = now.load(Ordering::Acquire);
                    if listening == Listening::Over as u8 {
                        return;
                    }
                    if listening == Listening::Gone as u8 {
                        reader = None;
                    } else if reader.is_none() {
                        reader = Some(open(&pipe));
                    }
                    let turn = Timespec::try_from(TURN).unwrap();
                    match reader.as_mut().filter(|_| listening == Listening::Yes as u8) {
                        Some(reader) => {
                            let _ = poll(&mut [PollFd::new(reader, PollFlags::IN)], Some(&turn));
                            // Where nobody writes at the moment there is nothing to read, which is no end.
                            if let Ok(length) = reader.read(&mut buffer) {
                                copy.write_all(&buffer[..length]).unwrap();
                            }
                        }
                        None => drop(poll(&mut [], Some(&turn))),
                    }
                }
            }
        });
        Self { pipe, now, thread: Some(thread) }
    }

    /// The end to write to.
    pub(super) fn end(&self) -> File {
        File::options().write(true).open(&self.pipe).unwrap()
    }

    pub(super) fn set(&self, listening: Listening) {
        self.now.store(listening as u8, Ordering::Release);
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.set(Listening::Over);
        drop(self.thread.take().map(std::thread::JoinHandle::join));
    }
}

/// Without waiting for a writer, and for words.
fn open(pipe: &Path) -> File {
    let flags = OFlags::NONBLOCK.bits() as i32;
    File::options().read(true).custom_flags(flags).open(pipe).unwrap()
}
