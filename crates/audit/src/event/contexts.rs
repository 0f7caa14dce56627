//! The encryption contexts of a call's items, each once where those that follow each other are the same.

use std::collections::BTreeMap;

use super::items::{LOOK_BACK, NONE, index};
use super::json::{Container, Line, Out, needs_escape};
use model::limits::CONTEXT_BYTES;

/// JSON texts, one behind the other, each with a colon before it.
#[derive(Debug, Default)]
pub(super) struct Contexts {
    text: Vec<u8>,
    ends: Vec<usize>,
}

impl Contexts {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The text at this place.
    pub(super) fn get(&self, at: usize) -> &[u8] {
        let from = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        &self.text[from + 1..self.ends[at]]
    }

    /// Keeps what was written behind the last text, or finds that one of the last ones is the same.
    fn keep(&mut self) -> u32 {
        let from = self.ends.last().copied().unwrap_or(0);
        let new = &self.text[from + 1..];
        let before = (0..self.ends.len()).rev().take(LOOK_BACK).find(|at| self.get(*at) == new);
        if before.is_some() {
            self.text.truncate(from);
        } else {
            self.ends.push(self.text.len());
        }
        index(before.unwrap_or(self.ends.len() - 1))
    }

    /// The place of these pairs, which are kept if they are not those of the last ones; [`NONE`] where there are none.
    pub(super) fn pairs(&mut self, pairs: &BTreeMap<String, String>) -> u32 {
        if pairs.is_empty() {
            return NONE;
        }
        // Nearly always it is that of the item before, or a new one.
        if let Some(last) = self.ends.len().checked_sub(1).filter(|last| is_object(self.get(*last), pairs)) {
            return index(last);
        }
        let mut line = Line(std::mem::take(&mut self.text));
        // Behind a colon no comma is written: this is no further value of what is there.
        line.0.push(b':');
        let legal = pairs.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() <= CONTEXT_BYTES;
        let what = if legal { Container::Object } else { Container::Array };
        line.open(what);
        for (name, value) in pairs {
            if legal {
                line.any_name(name);
                line.text(value);
            } else {
                // Its names may be of any length: such a call is refused, and stands in the record all the same.
                line.open(Container::Array);
                line.text(name);
                line.text(value);
                line.close(Container::Array);
            }
        }
        line.close(what);
        self.text = line.0;
        self.keep()
    }
}

/// Whether a text is the object of these pairs. It may be so for pairs that are written otherwise than they are, of which
/// this says that it is not.
fn is_object(text: &[u8], pairs: &BTreeMap<String, String>) -> bool {
    let mut left = text;
    let mut take = |part: &[u8]| {
        left.strip_prefix(part).is_some_and(|rest| {
            left = rest;
            true
        })
    };
    let mut before: &[u8] = b"{\"";
    for (name, value) in pairs {
        let same = take(before) && take(name.as_bytes()) && take(b"\":\"") && take(value.as_bytes()) && take(b"\"");
        if !same || needs_escape(name) || needs_escape(value) {
            return false;
        }
        before = b",\"";
    }
    take(b"}") && left.is_empty()
}
