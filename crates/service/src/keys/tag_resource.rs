//! TagResource and UntagResource: what people sort keys by.

use std::sync::Arc;

use crate::core::access::Details;
use crate::core::repeated::{Again, Done};
use crate::core::room;
use crate::core::{Core, validate};
use crate::{Error, RequestContext, Service};
use model::operation::Operation;
use store::{Admits, Key};

impl Service {
    /// Gives a key tags; one with a name that it has already takes the other one's place.
    pub async fn tag_resource(
        &self,
        call: &RequestContext,
        key_id: &str,
        tags: Vec<(String, String)>,
    ) -> Result<(), Error> {
        let operation = Operation::TagResource;
        let [said, looked, same] = [&tags; 3].map(Clone::clone);
        let done = Done::default();
        let again = Again::seen(&done, "", move |core, _, id| {
            let catalogue = core.store().catalogue();
            let key = catalogue.key(id);
            key.is_some_and(|key| same.iter().all(|(name, value)| key.tags.get(name) == Some(value)))
        });
        let details = Details { tags: Some(tags.clone()), ..Details::default() }
            .asking(move |_, say| say.tags(&said))
            .if_before(move |core, _, id| {
                let tags = validate::tags(looked.clone(), core.quotas().tags_per_key)?;
                core.has_room(|catalogue| room::for_tags(catalogue, id, &tags, core.quotas().tags_per_key))
            })
            .unless_done(again);
        let work = move |core: Core, key: Arc<Key>| async move {
            let most = core.quotas().tags_per_key;
            let tags = validate::tags(tags, most)?;
            if done.is_found() {
                return Ok(());
            }
            let admits = Admits { states: operation.spec().allowed_states, most };
            core.store().set_tags(key.id, &tags, admits).await.map_err(|error| core.of_store(error))
        };
        self.core.on_key_with(call, operation, key_id, details, work).await
    }

    /// Takes tags away from a key; a success where it has none of them.
    pub async fn untag_resource(
        &self,
        call: &RequestContext,
        key_id: &str,
        tag_keys: Vec<String>,
    ) -> Result<(), Error> {
        let operation = Operation::UntagResource;
        let [said, looked, same] = [&tag_keys; 3].map(Clone::clone);
        let done = Done::default();
        let again = Again::seen(&done, "", move |core, _, id| {
            let catalogue = core.store().catalogue();
            catalogue.key(id).is_some_and(|key| same.iter().all(|name| !key.tags.contains_key(name)))
        });
        let details = Details { tag_keys: Some(tag_keys.clone()), ..Details::default() }
            .asking(move |_, say| say.texts("tagKeys", said.iter().map(String::as_str)))
            .if_before(move |core, _, id| {
                let has = core.store().catalogue().key(id).map_or(0, |key| key.tags.len());
                validate::tag_keys(looked.clone(), core.quotas().tags_per_key.max(has)).map(drop)
            })
            .unless_done(again);
        let work = move |core: Core, key: Arc<Key>| async move {
            // A key that has more than it may have by now can be rid of all of them at once.
            let names = validate::tag_keys(tag_keys, core.quotas().tags_per_key.max(key.tags.len()))?;
            if done.is_found() {
                return Ok(());
            }
            let states = operation.spec().allowed_states;
            core.store().remove_tags(key.id, &names, states).await.map_err(|error| core.of_store(error))
        };
        self.core.on_key_with(call, operation, key_id, details, work).await
    }
}
