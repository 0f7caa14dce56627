//! GenerateRandom: random bytes out of a key store's HSMs.

use std::sync::Arc;

use crate::core::hsm_cluster::Members;
use crate::core::notes::Notes;
use crate::core::{Core, validate};
use crate::{Error, Extras, RequestContext, Service};
use audit::event::{Fields, Value};
use cluster::item::Done;
use model::exception::Exception;
use model::id::KeyStoreId;
use model::key_store::ConnectionState;
use model::operation::Operation;
use model::secret::Secret;
use store::KeyStore;

impl Service {
    /// Random bytes. `key_store_id` empty: any connected store.
    pub async fn generate_random(
        &self,
        call: &RequestContext,
        number_of_bytes: Option<u32>,
        key_store_id: &str,
        extras: Extras,
    ) -> Result<Secret, Error> {
        let (core, options, key_store_id) = (self.core.clone(), self.core.options(call), key_store_id.to_owned());
        let notes = Notes::default();
        // AWS records no parameters of it.
        if let Some(number) = number_of_bytes {
            notes.add("numberOfBytes", Value::Number(number.into()));
        }
        if !key_store_id.is_empty() {
            notes.add("customKeyStoreId", key_store_id.as_str());
        }
        let resource = self.core.arn_of(Operation::GenerateRandom, "").noting(&notes);
        let work = async move {
            extras.check()?;
            core.check_grant_tokens(extras.grant_tokens)?;
            let number = number_of_bytes.ok_or_else(|| Error::validation("NumberOfBytes is required."))?;
            let length = validate::random_length(number)?;
            let (id, Members { hsm_cluster, hsms, .. }) = source(&core, &key_store_id)?;
            core.in_rate_of(&core.rates(), [&id])?;
            let random = hsm_cluster.random(length, options).await.map_err(|error| Error::of_cluster(error, None))?;
            notes.add("customKeyStoreId", id.as_str());
            if let Some((hsm, zone)) = hsms.get(random.place()) {
                let served = Fields::new().text("hsm", hsm.as_str()).text("zone", zone.as_str());
                notes.add("servedBy", Value::Object(served));
            }
            Ok((id, random))
        };
        // The store may have been disconnected meanwhile.
        let still = |core: &Core, (id, _): &(KeyStoreId, Done<Secret>)| source(core, id.as_str()).map(drop);
        let given = self.core.on_one_that(call, Operation::GenerateRandom, resource, work, still).await?;
        Ok(given.1.output)
    }
}

fn source(core: &Core, key_store_id: &str) -> Result<(KeyStoreId, Members), Error> {
    if !key_store_id.is_empty() {
        let (store, members) = core.connected_store(key_store_id)?;
        return Ok((store.id.clone(), members));
    }
    let catalogue = core.store().catalogue();
    let usable = |store: &Arc<KeyStore>| {
        let members = core.members_of(&store.id)?;
        (store.state == ConnectionState::Connected).then(|| (store.id.clone(), members))
    };
    catalogue.key_stores().find_map(usable).ok_or_else(|| {
        Error::permanent(Exception::CustomKeyStoreInvalidState, "no key store is connected; connect one first")
    })
}
