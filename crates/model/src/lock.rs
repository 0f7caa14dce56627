//! Locks that are taken again after a panic.
//!
//! What these locks guard is set or entered as a whole: whoever panicked while holding one left it as it was, or as it
//! was to be. Where a change takes several steps, [`std::sync::PoisonError`] is looked at instead, and what is guarded
//! begins anew.

use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// For [`Mutex`].
pub trait MutexExt<T: ?Sized> {
    /// Takes the lock, whether or not somebody has panicked while holding it.
    fn lock_anyway(&self) -> MutexGuard<'_, T>;
}

/// For [`RwLock`].
pub trait RwLockExt<T: ?Sized> {
    /// Takes the lock for reading, whether or not somebody has panicked while holding it.
    fn read_anyway(&self) -> RwLockReadGuard<'_, T>;

    /// Takes the lock for writing, likewise.
    fn write_anyway(&self) -> RwLockWriteGuard<'_, T>;
}

impl<T: ?Sized> MutexExt<T> for Mutex<T> {
    fn lock_anyway(&self) -> MutexGuard<'_, T> {
        self.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: ?Sized> RwLockExt<T> for RwLock<T> {
    fn read_anyway(&self) -> RwLockReadGuard<'_, T> {
        self.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_anyway(&self) -> RwLockWriteGuard<'_, T> {
        self.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn a_lock_outlives_a_panic_of_whoever_held_it() {
        let (mutex, table) = (Mutex::new(7), RwLock::new(8));
        let held = catch_unwind(AssertUnwindSafe(|| {
            let _held = (mutex.lock_anyway(), table.write_anyway());
            panic!("while both are held");
        }));
        assert!(held.is_err() && mutex.is_poisoned() && table.is_poisoned());
        assert_eq!((*mutex.lock_anyway(), *table.read_anyway()), (7, 8));
        *table.write_anyway() = 9;
        assert_eq!(*table.read_anyway(), 9);
    }
}
