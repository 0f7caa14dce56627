//! Where data workers have the keys from of which they make hot copies.

use bytes::Bytes;

use model::id::KeyVersionId;

/// Most copies that one worker is having made at a time. More are asked for again a second later.
pub(super) const AT_ONCE: usize = 1_024;

/// Keys, wrapped under their cluster's wrapping key.
pub trait WrappedKeys: Send + Sync + 'static {
    /// This version, where there is such a form of it and its material was not given up. Asked on a link's own task: it
    /// must not wait for anything.
    fn of(&self, key: KeyVersionId) -> Option<Bytes>;
}

/// None: for workers that keep no copies.
impl WrappedKeys for () {
    fn of(&self, _: KeyVersionId) -> Option<Bytes> {
        None
    }
}
