//! A place for what is made by somebody who need not know what it is.

use std::sync::{Arc, Mutex};

use crate::lock::MutexExt as _;

/// Work of many kinds goes one way (transactions, calls), which asks only whether it was done: what it gave lies here
/// meanwhile, for whom it was done. So the way is compiled once, and not for each kind of work in each crate that waits for one.
pub struct Given<T>(Arc<Mutex<Option<T>>>);

impl<T> Default for Given<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T> Clone for Given<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<T> Given<T> {
    /// Puts it here. What was here before is dropped.
    pub fn put(&self, value: T) {
        *self.0.lock_anyway() = Some(value);
    }

    /// Lets it be looked at where it lies, if it does.
    pub fn look<R>(&self, look: impl FnOnce(&T) -> R) -> Option<R> {
        self.0.lock_anyway().as_ref().map(look)
    }

    /// Takes it out.
    pub fn take(&self) -> Option<T> {
        self.0.lock_anyway().take()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_there_is_looked_at_and_taken_once() {
        let given = Given::default();
        let other = given.clone();
        assert_eq!(given.look(|number| number + 1), None::<i32>);
        other.put(1);
        other.put(2);
        assert_eq!(given.look(|number| number + 1), Some(3));
        assert_eq!((given.take(), other.take()), (Some(2), None));
    }
}
