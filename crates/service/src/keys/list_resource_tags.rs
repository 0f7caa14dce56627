//! ListResourceTags: the tags of a key, in the order of their keys.

use std::ops::Bound;
use std::sync::Arc;

use crate::core::access::Details;
use crate::core::{Core, page, validate};
use crate::{Error, Page, RequestContext, Service};
use model::limits::LIST_TAGS_LIMIT;
use model::operation::Operation;
use store::Key;

impl Service {
    /// Lists the tags of a key: key and value.
    pub async fn list_resource_tags(
        &self,
        call: &RequestContext,
        key_id: &str,
        limit: Option<u32>,
        marker: &str,
    ) -> Result<Page<(String, String)>, Error> {
        let [said, marker] = [marker; 2].map(str::to_owned);
        let details = Details::default().asking(move |_, say| say.page(limit, &said));
        let work = move |_: Core, key: Arc<Key>| async move {
            let limit = validate::page_limit_of(limit, LIST_TAGS_LIMIT, LIST_TAGS_LIMIT)?;
            let after = page::after('t', &marker, |name| Some(name.to_owned()))?;
            let from = after.map_or(Bound::Unbounded, Bound::Excluded);
            let tags = key.tags.range((from, Bound::Unbounded)).map(|(name, value)| (name.clone(), value.clone()));
            Ok(page::cut('t', tags, limit, |(name, _)| name.clone()))
        };
        self.core.on_key_with(call, Operation::ListResourceTags, key_id, details, work).await
    }
}
