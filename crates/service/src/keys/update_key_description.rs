//! UpdateKeyDescription: what a key is for, said anew.

use std::sync::Arc;

use crate::core::access::Details;
use crate::core::repeated::{Again, Done};
use crate::core::{Core, validate};
use crate::{Error, RequestContext, Service};
use model::operation::Operation;
use store::Key;

impl Service {
    /// Describes a key anew; an empty description is one as well.
    pub async fn update_key_description(
        &self,
        call: &RequestContext,
        key_id: &str,
        description: String,
    ) -> Result<(), Error> {
        let operation = Operation::UpdateKeyDescription;
        let [said, looked, same] = [&description; 3].map(Clone::clone);
        let done = Done::default();
        let again = Again::seen(&done, "", move |core, _, id| {
            core.store().catalogue().key(id).is_some_and(|key| key.description == same)
        });
        let details = Details::default()
            .asking(move |_, say| say.text("description", &said))
            .if_before(move |_, _, _| validate::description(&looked))
            .unless_done(again);
        let work = move |core: Core, key: Arc<Key>| async move {
            validate::description(&description)?;
            if done.is_found() {
                return Ok(());
            }
            let states = operation.spec().allowed_states;
            core.store().set_description(key.id, &description, states).await.map_err(|error| core.of_store(error))
        };
        self.core.on_key_with(call, operation, key_id, details, work).await
    }
}
