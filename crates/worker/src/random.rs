//! Random bytes: the token's XOR the operating system's, so that either may be bad without harm.
//!
//! Drawn in blocks, because a call into the token costs as much for 4 KiB as for 12 bytes; each byte is given out once
//! and wiped.

use cryptoki::session::Session;
use rustix::rand::{GetRandomFlags, getrandom};
use zeroize::{Zeroize, Zeroizing};

use super::fault::Failure;
use protocol::{Class, Fault};

/// What is drawn at once where the token gives so much.
const BLOCK_BYTES: usize = 4_096;

/// One session thread's stock of random bytes.
pub(super) struct RandomPool {
    block: Zeroizing<Vec<u8>>,
    /// Bytes before this one are used up.
    used: usize,
}

impl RandomPool {
    /// An empty stock. `most`: bytes that the token gives at once.
    pub(super) fn new(most: u64) -> Self {
        let bytes = usize::try_from(most).unwrap_or(BLOCK_BYTES).clamp(1, BLOCK_BYTES);
        Self { block: Zeroizing::new(vec![0; bytes]), used: bytes }
    }

    /// Fills `out` with bytes that were never given out before.
    pub(super) fn fill(&mut self, session: &Session, mut out: &mut [u8]) -> Result<(), Failure> {
        while !out.is_empty() {
            if self.used == self.block.len() {
                self.refill(session)?;
            }
            let count = out.len().min(self.block.len() - self.used);
            let (now, later) = out.split_at_mut(count);
            let source = &mut self.block[self.used..self.used + count];
            now.copy_from_slice(source);
            source.zeroize();
            self.used += count;
            out = later;
        }
        Ok(())
    }

    fn refill(&mut self, session: &Session) -> Result<(), Failure> {
        session.generate_random_slice(self.block.as_mut_slice())?;
        let mut system = Zeroizing::new([0_u8; BLOCK_BYTES]);
        let (mut filled, wanted) = (0, self.block.len());
        while filled < wanted {
            filled += getrandom(&mut system[filled..wanted], GetRandomFlags::empty())
                .map_err(|error| Fault::own(Class::Token, "getrandom", error.to_string()))?;
        }
        self.block.iter_mut().zip(system.iter()).for_each(|(byte, other)| *byte ^= other);
        self.used = 0;
        Ok(())
    }
}
