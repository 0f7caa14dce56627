//! ListKeys: every key, in the order of the ids.

use crate::core::{page, validate};
use crate::{Call, Error, Page, Service};
use model::id::KeyId;
use model::operation::Operation;

impl Service {
    /// Lists keys: id and ARN.
    pub async fn list_keys(
        &self,
        call: &Call,
        limit: Option<u32>,
        marker: &str,
    ) -> Result<Page<(KeyId, String)>, Error> {
        self.core.on_catalogue(call, Operation::ListKeys, |_| {
            let limit = validate::page_limit(limit)?;
            let after = page::after('k', marker, KeyId::parse)?;
            let catalogue = self.core.store().catalogue();
            let entries = catalogue.keys_after(after).map(|key| (key.id, self.core.scope().key_arn(key.id)));
            Ok(page::cut('k', entries, limit, |(id, _)| *id))
        })
    }
}
