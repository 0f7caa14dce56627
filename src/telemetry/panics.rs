//! Panics: where each one came from goes to the log, and some end the process.
//!
//! The message of a panic may quote what was being worked on, so only its place is told.

use std::cell::RefCell;
use std::io::Write as _;
use std::panic;
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

/// How long it may take to tell: nobody may be reading what is told.
const PATIENCE: Duration = Duration::from_secs(1);
/// The thread that tells.
const TELLER: &str = "last-words";

thread_local! {
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Has every panic of this process told with its place, in the log and nowhere else. Whoever catches it asks for the place.
pub fn hear() {
    panic::set_hook(Box::new(|info| {
        let place = info.location().map(ToString::to_string).unwrap_or_default();
        PLACE.set(Some(place.clone()));
        // Where telling is itself what panics, there is nobody to tell.
        if thread::current().name() != Some(TELLER) {
            tell(move || tracing::error!(place, "a fault in this program: something panicked"));
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

/// Ends the process as a crash would, which its workers survive for as long as they need. The message goes to the log,
/// and straight to standard error too: whoever writes the log may not come to it any more.
pub(super) fn end(message: &str) -> ! {
    let message = message.to_owned();
    tell(move || {
        tracing::error!("{message}");
        let _ = writeln!(std::io::stderr(), "keystored: {message}");
    });
    std::process::abort()
}

/// Tells from a thread of its own, and waits for it a moment: a panic must neither wait for ever for a log that nobody
/// reads, nor panic again over one that cannot be written, which would end the process on the spot.
fn tell(what: impl FnOnce() + Send + 'static) {
    let (said, all_said) = mpsc::channel::<()>();
    // On panic: it is not told.
    let telling = thread::Builder::new().name(TELLER.to_owned()).spawn(move || {
        let _said = said;
        what();
    });
    if telling.is_ok() {
        let _ = all_said.recv_timeout(PATIENCE);
    }
}
