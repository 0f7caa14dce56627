//! Panics: where each one came from goes to the log, and some end the process.
//!
//! The message of a panic may quote what was being worked on, so only its place is told.

use std::cell::RefCell;
use std::io::Write as _;
use std::panic;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// How long the last words of the process may take: nobody may be reading them.
const LAST_WORDS: Duration = Duration::from_secs(1);

thread_local! {
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Has every panic of this process told with its place, in the log and nowhere else. Whoever catches it asks [`place`].
pub fn hear() {
    panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!(place, "a fault in this program: something panicked");
        PLACE.set(Some(place));
    }));
}

/// Where the panic was that this thread has just caught, in words.
pub(super) fn place() -> String {
    match PLACE.take() {
        Some(place) => format!("it panicked at {place}"),
        None => "it panicked".to_owned(),
    }
}

/// Ends the process as a crash would, which its workers survive for as long as they need. The message goes to the log,
/// and straight to standard error too: whoever writes the log may not come to it any more.
pub(super) fn end(message: &str) -> ! {
    let message = message.to_owned();
    let (said, all_said) = mpsc::channel();
    // On panic: the process ends without its last words. A thread of its own, because writing them may never end.
    let speaking = thread::Builder::new().name("last-words".to_owned()).spawn(move || {
        tracing::error!("{message}");
        let _ = writeln!(std::io::stderr(), "keystored: {message}");
        let _ = said.send(());
    });
    if speaking.is_ok() {
        let _ = all_said.recv_timeout(LAST_WORDS);
    }
    std::process::abort()
}
