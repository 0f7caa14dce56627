//! Panics: where each one came from goes to the log, and some end the process.
//!
//! The message of a panic may quote what was being worked on, so only its place is told.

use std::cell::RefCell;
use std::panic;
use std::thread;
use std::time::Duration;

use super::log;

/// How long the last words of the process may take: nobody may be reading them.
const LAST_WORDS: Duration = Duration::from_secs(1);

thread_local! {
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Has every panic of this process told with its place, in the log and nowhere else. Whoever catches it asks [`place`].
pub fn hear() {
    panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        let thread = thread::current();
        tracing::error!(place, thread = thread.name(), "a fault in this program: something panicked");
        PLACE.set(Some(place));
        // The process ends with this one.
        if thread.name() == Some("main") {
            log::flush(LAST_WORDS);
        }
    }));
}

/// Where the panic was that this thread has just caught, in words.
pub(super) fn place() -> String {
    match PLACE.take() {
        Some(place) => format!("it panicked at {place}"),
        None => "it panicked".to_owned(),
    }
}

/// Ends the process as a crash would, which its workers survive for as long as they need. The message is its last line.
pub(super) fn end(message: &str) -> ! {
    tracing::error!("{message}");
    log::last_words(&format!("keystored: {message}"));
    log::flush(LAST_WORDS);
    std::process::abort()
}
