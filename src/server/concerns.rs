//! What troubles the daemon while it still answers calls: the reasons behind "degraded".
//!
//! Each part that can be in trouble is asked anew at each look, so that what is shown is so now. A look must not wait:
//! it reads what the part knows already.

use super::readiness::Trouble;

/// Asks one part; one sentence for each thing that is wrong, with what to do about it. Empty where all is well.
type Ask = Box<dyn Fn() -> Vec<String> + Send + Sync>;

/// The parts that are asked.
#[derive(Default)]
pub(super) struct Concerns(Vec<(Trouble, Ask)>);

impl Concerns {
    /// Has this part asked from now on.
    pub(super) fn ask(&mut self, trouble: Trouble, part: impl Fn() -> Vec<String> + Send + Sync + 'static) {
        self.0.push((trouble, Box::new(part)));
    }

    /// What is wrong now.
    pub(super) fn now(&self) -> impl Iterator<Item = (Trouble, String)> {
        self.0.iter().flat_map(|(trouble, part)| part().into_iter().map(|sentence| (*trouble, sentence)))
    }
}
