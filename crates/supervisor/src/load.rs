//! How much waits for or is in an HSM, and the bound on it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Of what there can be too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bound {
    Items,
    Bytes,
}

/// Items and bytes that one kind of worker of an HSM has taken on.
pub(super) struct Gauge {
    items: AtomicUsize,
    bytes: AtomicUsize,
    most_items: usize,
    most_bytes: usize,
    emptied: Notify,
}

impl Gauge {
    /// Nothing taken on; at most this much ever is.
    pub(super) fn new(most_items: usize, most_bytes: usize) -> Self {
        let (items, bytes) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Self { items, bytes, most_items, most_bytes, emptied: Notify::new() }
    }

    /// Takes on a request; says of which there would be too much.
    pub(super) fn reserve(self: &Arc<Self>, items: usize, bytes: usize) -> Result<Reservation, Bound> {
        // Added first and looked at then: two callers can both be refused at the brim, but never both be let in.
        let reservation = Reservation { gauge: Arc::clone(self), items, bytes };
        let items_before = self.items.fetch_add(items, Ordering::AcqRel);
        let bytes_before = self.bytes.fetch_add(bytes, Ordering::AcqRel);
        match () {
            () if items_before + items > self.most_items => Err(Bound::Items),
            () if bytes_before + bytes > self.most_bytes => Err(Bound::Bytes),
            () => Ok(reservation),
        }
    }

    /// Items taken on.
    pub(super) fn items(&self) -> usize {
        self.items.load(Ordering::Relaxed)
    }

    /// Waits until nothing is taken on.
    pub(super) async fn emptied(&self) {
        loop {
            let emptied = self.emptied.notified();
            let mut emptied = std::pin::pin!(emptied);
            // Listens before it looks, so that no signal falls in between.
            emptied.as_mut().enable();
            if self.items.load(Ordering::Acquire) == 0 {
                return;
            }
            emptied.await;
        }
    }
}

/// A request's share of a gauge, given back when it is dropped: when the reply is there or the worker is dead, whether
/// or not somebody still waits for it.
pub(super) struct Reservation {
    gauge: Arc<Gauge>,
    items: usize,
    bytes: usize,
}

impl Reservation {
    /// Items of the request.
    pub(super) fn items(&self) -> usize {
        self.items
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.gauge.bytes.fetch_sub(self.bytes, Ordering::AcqRel);
        if self.gauge.items.fetch_sub(self.items, Ordering::AcqRel) == self.items {
            self.gauge.emptied.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_bounds_hold_and_what_is_dropped_is_given_back() {
        let gauge = Arc::new(Gauge::new(10, 100));
        let first = gauge.reserve(6, 50).unwrap();
        assert_eq!(gauge.reserve(5, 10).err(), Some(Bound::Items));
        assert_eq!(gauge.reserve(1, 51).err(), Some(Bound::Bytes));
        assert_eq!(gauge.items(), 6);
        let second = gauge.reserve(4, 50).unwrap();
        drop(first);
        assert_eq!(gauge.items(), 4);
        drop(second);
        assert!(gauge.reserve(10, 100).is_ok());
    }

    #[tokio::test]
    async fn emptied_waits_for_the_last_one() {
        let gauge = Arc::new(Gauge::new(10, 100));
        gauge.emptied().await;
        let held = gauge.reserve(1, 1).unwrap();
        let waiter = tokio::spawn({
            let gauge = Arc::clone(&gauge);
            async move { gauge.emptied().await }
        });
        tokio::task::yield_now().await;
        assert!(!waiter.is_finished());
        drop(held);
        waiter.await.unwrap();
    }
}
