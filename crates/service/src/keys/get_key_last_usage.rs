//! GetKeyLastUsage: when a key was used last, as far back as the installation remembers.

use std::sync::Arc;

use crate::core::Core;
use crate::{Error, RequestContext, Service};
use model::id::KeyId;
use model::operation::Operation;
use store::{Key, LastUse};

/// When a key was used last.
#[derive(Clone, Debug)]
pub struct KeyLastUsage {
    /// The key.
    pub key: KeyId,
    /// When it was made, in milliseconds since the Unix epoch.
    pub created_at: i64,
    /// The last use that succeeded, if there was one.
    pub last: Option<LastUse>,
}

impl Service {
    /// Shows when a key was used last. After a crash of the daemon that may be a minute older than it was.
    pub async fn get_key_last_usage(&self, call: &RequestContext, key_id: &str) -> Result<KeyLastUsage, Error> {
        let work = |core: Core, key: Arc<Key>| async move {
            Ok(KeyLastUsage { key: key.id, created_at: key.created_at, last: core.usages().of(key.id).last() })
        };
        self.core.on_key(call, Operation::GetKeyLastUsage, key_id, work).await
    }
}
