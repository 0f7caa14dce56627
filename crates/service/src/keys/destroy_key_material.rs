//! DestroyKeyMaterial: what people take a key store of their own for. The material is destroyed in the HSMs now, and
//! nothing brings it back.

use std::sync::Arc;

use super::delete_key::DAY_MILLIS;
use super::describe_key::{KeyDestruction, destructions};
use super::recorded::{date_for_people, note_backing_keys};
use super::switch_key::forget;
use crate::core::Core;
use crate::core::access::Details;
use crate::core::notes::Notes;
use crate::lifecycle::Lifecycle;
use crate::{Error, RequestContext, Service};
use audit::event::Fields;
use model::limits::DELETION_WINDOW_DAYS;
use model::operation::Operation;
use store::{GiveUp, Key};

/// What was destroyed where.
#[derive(Clone, Debug)]
pub struct DestroyedMaterial {
    /// The key's ARN.
    pub key_arn: String,
    /// When the rest of the key goes, not before this, in milliseconds since the Unix epoch.
    pub deletion_date: i64,
    /// For each HSM, whether all versions are gone there. One that could not be reached is done when it returns; one that
    /// replicates its keys by itself is seen to be done only a while later.
    pub destructions: Vec<KeyDestruction>,
}

impl Service {
    /// Destroys the material of a key that is Disabled or pending deletion. The caller repeats the key's ARN.
    pub async fn destroy_key_material(
        &self,
        call: &RequestContext,
        key_id: &str,
        confirmed_arn: &str,
    ) -> Result<DestroyedMaterial, Error> {
        let (lifecycle, confirmed) = (self.lifecycle.clone(), confirmed_arn.to_owned());
        let notes = Notes::default();
        let noted = notes.clone();
        let work = move |core: Core, key: Arc<Key>| async move {
            let done = destroy(&core, &lifecycle, &key, &confirmed).await?;
            let answer = Fields::new().text("keyId", &done.key_arn);
            notes.answer(answer.text("deletionDate", &date_for_people(done.deletion_date)));
            note_backing_keys(&notes, &core, &key);
            Ok(done)
        };
        let [said, looked] = [confirmed_arn; 2].map(str::to_owned);
        let details = Details::default()
            .asking(move |_, say| say.text("confirmKeyArn", &said))
            .if_before(move |core, _, id| is_confirmed(&core.scope().key_arn(id), &looked))
            .noting(&noted);
        self.core.on_key_with(call, Operation::DestroyKeyMaterial, key_id, details, work).await
    }
}

fn is_confirmed(key_arn: &str, confirmed: &str) -> Result<(), Error> {
    if confirmed == key_arn {
        return Ok(());
    }
    Err(Error::validation(format!(
        "confirmKeyArn must be the ARN of the key whose material is to be destroyed for ever, {key_arn}."
    )))
}

async fn destroy(core: &Core, lifecycle: &Lifecycle, key: &Key, confirmed: &str) -> Result<DestroyedMaterial, Error> {
    let key_arn = core.scope().key_arn(key.id);
    is_confirmed(&key_arn, confirmed)?;
    let (_, window) = DELETION_WINDOW_DAYS;
    let date = core.clock().unix_millis().saturating_add(i64::from(window) * DAY_MILLIS);
    lifecycle.give_up_material(key, GiveUp::Asked { date }).await?;
    core.wait_for_releases();
    forget(core, key).await;
    lifecycle.destroy_material(key.id).await;
    let catalogue = core.store().catalogue();
    // All of it may be done by now, and the row gone.
    let now = catalogue.key(key.id).map_or(key, |key| &**key);
    Ok(DestroyedMaterial {
        key_arn,
        deletion_date: now.deletion.map_or(date, |deletion| deletion.date),
        destructions: destructions(now),
    })
}
