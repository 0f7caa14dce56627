//! Faults of the daemon's own, ordered by its tasks' names. Only debug builds know them.

use std::fs;
use std::path::PathBuf;

use super::daemon::Site;
use super::wait;

/// Where one daemon takes orders.
pub(crate) struct Faults {
    file: PathBuf,
}

impl Faults {
    /// The variable that tells the daemon where.
    pub(crate) const VARIABLE: &str = "KEYSTORED_FAULTS";

    /// For a daemon that is started here.
    pub(crate) fn of(site: &Site) -> Self {
        Self { file: site.path().join("faults") }
    }

    /// The variable's value.
    pub(crate) fn path(&self) -> &str {
        self.file.to_str().unwrap()
    }

    /// Orders one fault. The one before must have been taken.
    pub(crate) fn order(&self, order: &str) {
        assert!(!self.file.exists(), "an order is not taken: {:?}", fs::read_to_string(&self.file));
        // Written beside and moved, so that nobody reads half of it.
        let written = self.file.with_extension("new");
        fs::write(&written, order).unwrap();
        fs::rename(written, &self.file).unwrap();
    }

    /// Waits until the fault has come about.
    #[track_caller]
    pub(crate) fn taken(&self) {
        let what = fs::read_to_string(&self.file).unwrap_or_default();
        wait::until(&format!("{what:?} is taken"), wait::LONG, || (!self.file.exists()).then_some(()));
    }

    /// Whether it has.
    pub(crate) fn is_taken(&self) -> bool {
        !self.file.exists()
    }
}
