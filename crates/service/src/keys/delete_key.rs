//! ScheduleKeyDeletion and CancelKeyDeletion. When the waiting period is over, `lifecycle::tend` does the rest.

use std::sync::Arc;

use super::recorded::{date_for_people, note_backing_keys};
use super::switch_key::forget;
use crate::core::Core;
use crate::core::access::Details;
use crate::core::notes::Notes;
use crate::{Error, RequestContext, Service};
use audit::event::Fields;
use model::limits::DELETION_WINDOW_DAYS;
use model::operation::Operation;
use store::Key;

/// A day in milliseconds.
pub(crate) const DAY_MILLIS: i64 = 24 * 60 * 60 * 1_000;

/// A deletion that was scheduled.
#[derive(Clone, Debug)]
pub struct ScheduledDeletion {
    /// The key's ARN.
    pub key_arn: String,
    /// Not before this, in milliseconds since the Unix epoch.
    pub date: i64,
    /// The waiting period.
    pub window_days: u32,
}

impl Service {
    /// Has a key deleted after a waiting period of 7 to 30 days, 30 unless told otherwise. When this returns, no
    /// operation with it succeeds any more.
    pub async fn schedule_key_deletion(
        &self,
        call: &RequestContext,
        key_id: &str,
        window_days: Option<u32>,
    ) -> Result<ScheduledDeletion, Error> {
        let notes = Notes::default();
        let noted = notes.clone();
        let work = move |core: Core, key: Arc<Key>| async move {
            let window_days = window(window_days)?;
            let date = core.clock().unix_millis().saturating_add(i64::from(window_days) * DAY_MILLIS);
            core.store().schedule_deletion(key.id, date).await.map_err(|error| core.of_store(error))?;
            core.wait_for_releases();
            forget(&core, &key).await;
            let arn = core.scope().key_arn(key.id);
            let answer = Fields::new().text("keyId", &arn).text("keyState", "PendingDeletion");
            let answer = answer.text("deletionDate", &date_for_people(date));
            notes.answer(answer.number("pendingWindowInDays", window_days.into()));
            note_backing_keys(&notes, &core, &key);
            tracing::info!(key = %key.id, window_days, "the deletion of the key was scheduled");
            Ok(ScheduledDeletion { key_arn: arn, date, window_days })
        };
        let pending_window_days = Some(window_days.unwrap_or(DELETION_WINDOW_DAYS.1));
        let details = Details { pending_window_days, ..Details::default() }
            .asking(move |_, say| say.number("pendingWindowInDays", pending_window_days))
            .if_before(move |_, _, _| window(window_days).map(drop))
            .noting(&noted);
        self.core.on_key_with(call, Operation::ScheduleKeyDeletion, key_id, details, work).await
    }

    /// Keeps a key that was to be deleted: it is Disabled then. Gives its ARN.
    pub async fn cancel_key_deletion(&self, call: &RequestContext, key_id: &str) -> Result<String, Error> {
        let notes = Notes::default();
        let noted = notes.clone();
        let work = move |core: Core, key: Arc<Key>| async move {
            core.store().cancel_deletion(key.id).await.map_err(|error| core.of_store(error))?;
            notes.answer(Fields::new().text("keyId", &core.scope().key_arn(key.id)));
            tracing::info!(key = %key.id, "the deletion of the key was cancelled");
            Ok(core.scope().key_arn(key.id))
        };
        let details = Details::default().asking(|_, say| say).noting(&noted);
        self.core.on_key_with(call, Operation::CancelKeyDeletion, key_id, details, work).await
    }
}

/// The waiting period, in days.
fn window(days: Option<u32>) -> Result<u32, Error> {
    let (least, most) = DELETION_WINDOW_DAYS;
    let days = days.unwrap_or(most);
    // AWS's words: its model's own bounds are wider.
    let wrong = || Error::validation(format!("PendingWindowInDays must be between {least} and {most}"));
    if (least..=most).contains(&days) { Ok(days) } else { Err(wrong()) }
}
