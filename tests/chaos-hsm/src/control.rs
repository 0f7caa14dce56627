//! The hand on the controls: for tests.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

use crate::forward::NAMES;
use crate::rules::Rules;
use crate::state::{self, State};

/// The file with the rules, in the module's directory.
pub(crate) const RULES: &str = "control.toml";
/// The file with what processes share.
pub(crate) const STATE: &str = "state";

/// Controls every module over one directory, whichever process it is in.
pub struct Control {
    dir: PathBuf,
    state: &'static State,
}

impl Control {
    /// Over a directory, which is made where it is missing.
    ///
    /// # Errors
    ///
    /// When the directory or the file in it cannot be made.
    pub fn open(dir: &Path) -> io::Result<Self> {
        fs::create_dir_all(dir)?;
        Ok(Self { dir: dir.to_owned(), state: state::open(&dir.join(STATE))? })
    }

    /// Puts rules in force: every call that begins later meets them.
    ///
    /// # Errors
    ///
    /// When they make no sense, or cannot be written.
    pub fn set(&self, rules: &str) -> io::Result<()> {
        Rules::parse(rules).map_err(io::Error::other)?;
        let new = self.dir.join("control.new");
        fs::write(&new, rules)?;
        fs::rename(new, self.dir.join(RULES))?;
        self.state.rules_set.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    /// No rules any more; what hangs goes on.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn clear(&self) -> io::Result<()> {
        self.set("")
    }

    /// How often a function was called, over all processes.
    #[must_use]
    pub fn calls(&self, function: &str) -> u64 {
        place(function).map_or(0, |at| self.state.calls[at].load(Ordering::Acquire))
    }

    /// How many of these calls met a fault.
    #[must_use]
    pub fn injected(&self, function: &str) -> u64 {
        place(function).map_or(0, |at| self.state.injected[at].load(Ordering::Acquire))
    }

    /// How often a session went from a back end that was down to another one.
    #[must_use]
    pub fn failovers(&self) -> u64 {
        self.state.failovers.load(Ordering::Acquire)
    }

    /// Lets a locked user try again, as an HSM's own tools would.
    pub fn unlock(&self) {
        self.state.wrong_pins.store(0, Ordering::Release);
    }

    /// The user has changed the PIN that somebody else chose, as by an HSM's own tools.
    pub fn pin_was_changed(&self) {
        self.state.changed_pin.store(1, Ordering::Release);
    }

    /// How many calls of any function met a fault.
    #[must_use]
    pub fn injected_in_all(&self) -> u64 {
        self.state.injected.iter().map(|count| count.load(Ordering::Acquire)).sum()
    }
}

/// A function's place among the counters.
pub(crate) fn place(function: &str) -> Option<usize> {
    NAMES.iter().position(|name| *name == function)
}
