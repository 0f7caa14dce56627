//! ScheduleKeyDeletion and CancelKeyDeletion.

use serde::Serialize;

use super::Answer;
use super::asked::{number, text};
use super::output::{Time, json};
use crate::aws::model::Input;
use model::key::KeyState;
use service::{RequestContext, ScheduledDeletion, Service};

/// Has a key deleted after a waiting period.
pub(super) async fn schedule(service: &Service, call: &RequestContext, asked: &mut Input) -> Answer {
    let window = number(asked, "PendingWindowInDays");
    scheduled(service.schedule_key_deletion(call, &text(asked, "KeyId"), window).await?)
}

/// Keeps a key that was to be deleted.
pub(super) async fn cancel(service: &Service, call: &RequestContext, asked: &mut Input) -> Answer {
    cancelled(service.cancel_key_deletion(call, &text(asked, "KeyId")).await?)
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ScheduledAnswer {
    deletion_date: Time,
    key_id: String,
    key_state: &'static str,
    pending_window_in_days: u32,
}

pub(super) fn scheduled(deletion: ScheduledDeletion) -> Answer {
    json(&ScheduledAnswer {
        deletion_date: Time::of(deletion.date),
        key_id: deletion.key_arn,
        key_state: KeyState::PendingDeletion.name(),
        pending_window_in_days: deletion.window_days,
    })
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct CancelledAnswer {
    key_id: String,
}

pub(super) fn cancelled(key_arn: String) -> Answer {
    json(&CancelledAnswer { key_id: key_arn })
}
