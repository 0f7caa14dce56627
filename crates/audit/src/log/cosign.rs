//! The zones' HSMs, asked to sign a head by a thread of their own: no head waits for one that hangs.

use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::locked;
use super::shared::Shared;
use crate::note::{Cosigner, Line, NOTE_BYTES};

/// Most lines of others that are put under a head.
const MOST: usize = 64;

/// Asks, and has the answer.
pub(crate) struct Cosigning(Arc<Asked>);

#[derive(Default)]
pub(crate) struct Asked {
    inside: Mutex<Inside>,
    changed: Condvar,
}

#[derive(Default)]
struct Inside {
    /// What is to be signed next: the newest alone.
    text: Option<Vec<u8>>,
    /// What was signed last, and by whom.
    answer: Option<(Vec<u8>, Vec<Line>)>,
    closing: bool,
}

impl Cosigning {
    pub(crate) fn new(asked: Arc<Asked>) -> Self {
        Self(asked)
    }

    /// Asks for signatures of this, instead of what was asked for before and not begun.
    pub(crate) fn ask(&self, text: &[u8]) {
        let mut inside = locked(&self.0.inside);
        inside.text = Some(text.to_owned());
        inside.answer = None;
        self.0.changed.notify_all();
    }

    /// Who has signed this, if that is known within that time; nobody otherwise.
    pub(crate) fn answer(&self, text: &[u8], most: Duration) -> Vec<Line> {
        let inside = locked(&self.0.inside);
        let answered = |inside: &Inside| inside.answer.as_ref().is_some_and(|(of, _)| of == text);
        let waited = self.0.changed.wait_timeout_while(inside, most, |inside| !answered(inside));
        let inside = waited.unwrap_or_else(PoisonError::into_inner).0;
        match &inside.answer {
            Some((of, lines)) if of == text => lines.clone(),
            _ => Vec::new(),
        }
    }
}

/// Lines under one text: these, and those from before of keys that have not signed anew. The first is the log's own.
pub(crate) fn together(lines: impl Iterator<Item = Line>, before: &[Line]) -> Vec<Line> {
    let mut together: Vec<Line> = lines.collect();
    let mut bytes = 0;
    for line in before {
        let again = together.iter().any(|one| (one.name(), one.id()) == (line.name(), line.id()));
        bytes += line.name().len() + 2 * line.signature().len();
        // More than are taken from who signs now were not put there by us.
        if !again && together.len() <= MOST && bytes < NOTE_BYTES / 4 {
            together.push(line.clone());
        }
    }
    together
}

impl Drop for Cosigning {
    /// Ends the thread, as soon as the cosigner has answered.
    fn drop(&mut self) {
        locked(&self.0.inside).closing = true;
        self.0.changed.notify_all();
    }
}

/// The thread's work.
pub(crate) fn run(asked: &Asked, cosigner: &dyn Cosigner, shared: &Shared) {
    loop {
        let text = {
            let inside = locked(&asked.inside);
            let waited = asked.changed.wait_while(inside, |inside| inside.text.is_none() && !inside.closing);
            let mut inside = waited.unwrap_or_else(PoisonError::into_inner);
            if inside.closing {
                return;
            }
            inside.text.take()
        };
        let Some(text) = text else { continue };
        let mut lines = cosigner.cosign(&text);
        lines.truncate(MOST);
        locked(&asked.inside).answer = Some((text, lines));
        asked.changed.notify_all();
        shared.tiles_bell.ring();
    }
}
