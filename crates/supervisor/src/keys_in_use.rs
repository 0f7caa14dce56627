//! Whether many keys are in use at the moment, by single items. Where there are, each item had better go to the worker
//! that has met its key before; where there are few, whoever has least to do takes it, and everybody sees some of the
//! traffic.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};

use model::id::KeyVersionId;

/// After so many items it is judged anew.
const LOOK: u32 = 256;
/// So many of the 64 equal parts of all keys have to be met among them: some 45 keys in even use are enough.
const MANY: u32 = 32;

/// What was seen of the newest items. Items at the same time may be missed, which changes nothing about the judgement.
#[derive(Default)]
pub struct KeysInUse {
    /// A bit for each part that was met since the last judgement.
    met: AtomicU64,
    items: AtomicU32,
    many: AtomicBool,
}

impl KeysInUse {
    /// An item under this key; whether many keys are in use.
    pub fn note(&self, key: KeyVersionId) -> bool {
        let part = 1 << (key.spread() >> (u32::BITS - u64::BITS.ilog2()));
        if self.met.load(Ordering::Relaxed) & part == 0 {
            self.met.fetch_or(part, Ordering::Relaxed);
        }
        if self.items.fetch_add(1, Ordering::Relaxed) % LOOK == LOOK - 1 {
            let met = self.met.swap(0, Ordering::Relaxed);
            self.many.store(met.count_ones() >= MANY, Ordering::Relaxed);
        }
        self.many.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use model::id::KeyId;

    use super::*;

    fn used(in_use: &KeysInUse, keys: u32, items: u32) -> bool {
        let key = |at: u32| {
            let mut id = [7; 16];
            // Evenly over all numbers, as the random bytes of ids are.
            id[12..].copy_from_slice(&(at % keys).wrapping_mul(0x9e37_79b9).to_be_bytes());
            KeyVersionId { key: KeyId::from_bytes(id), version: 1 }
        };
        (0..items).map(|at| in_use.note(key(at))).last().unwrap()
    }

    #[test]
    fn many_keys_are_told_from_few_and_both_ends_of_it_are_noticed() {
        let in_use = KeysInUse::default();
        assert!(!used(&in_use, 10_000, LOOK - 1), "nothing was judged yet");
        assert!(used(&in_use, 10_000, 1), "the item that completes a look knows it");
        assert!(used(&in_use, 1_000, 3 * LOOK) && used(&in_use, 100, 3 * LOOK));
        assert!(used(&in_use, 1, LOOK - 1) && !used(&in_use, 1, 1));
        assert!(!used(&in_use, 16, 3 * LOOK));
    }
}
