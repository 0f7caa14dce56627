//! Rotation: on demand, by itself, and what came of it. AWS refuses it for keys in a custom key store; here a key is
//! rotated in place there too, and the answers are those of AWS's other keys.

use serde::Serialize;

use super::Answer;
use super::asked::{number, text};
use super::output::{Time, json, nothing};
use crate::aws::model::Input;
use model::key::RotationCause;
use service::{KeyRotation, Page, RequestContext, RotationStatus, Service};

/// Has a key be rotated by itself.
pub(super) async fn enable(service: &Service, call: &RequestContext, asked: &mut Input) -> Answer {
    let period = number(asked, "RotationPeriodInDays");
    service.enable_key_rotation(call, &text(asked, "KeyId"), period).await?;
    Ok(nothing())
}

/// Has that no more.
pub(super) async fn disable(service: &Service, call: &RequestContext, asked: &mut Input) -> Answer {
    service.disable_key_rotation(call, &text(asked, "KeyId")).await?;
    Ok(nothing())
}

/// Shows whether a key is rotated by itself.
pub(super) async fn status(service: &Service, call: &RequestContext, asked: &mut Input) -> Answer {
    standing(&service.get_key_rotation_status(call, &text(asked, "KeyId")).await?)
}

/// Rotates a key now.
pub(super) async fn rotate(service: &Service, call: &RequestContext, asked: &mut Input) -> Answer {
    rotated(&service.rotate_key_on_demand(call, &text(asked, "KeyId")).await?)
}

/// Lists what a key was given.
pub(super) async fn list(service: &Service, call: &RequestContext, asked: &mut Input) -> Answer {
    let all = asked.text("IncludeKeyMaterial") == Some("ALL_KEY_MATERIAL");
    let (key_id, limit, marker) = (text(asked, "KeyId"), number(asked, "Limit"), text(asked, "Marker"));
    let (arn, page) = service.list_key_rotations(call, &key_id, all, limit, &marker).await?;
    listed(&arn, page)
}

/// The status and the list name a key by its id.
fn id_of(arn: &str) -> &str {
    arn.rsplit('/').next().unwrap_or(arn)
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct StatusAnswer<'a> {
    key_id: &'a str,
    key_rotation_enabled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_rotation_date: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rotation_period_in_days: Option<u32>,
}

pub(super) fn standing(status: &RotationStatus) -> Answer {
    json(&StatusAnswer {
        key_id: id_of(&status.key_arn),
        key_rotation_enabled: status.enabled,
        next_rotation_date: status.next.map(Time::of),
        rotation_period_in_days: status.period_days,
    })
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct RotatedAnswer<'a> {
    key_id: &'a str,
}

/// The ARN, where AWS's guide has the bare id: recordings of AWS show it.
pub(super) fn rotated(arn: &str) -> Answer {
    json(&RotatedAnswer { key_id: arn })
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct RotationsAnswer<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    next_marker: Option<String>,
    rotations: Vec<Rotation<'a>>,
    truncated: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Rotation<'a> {
    key_id: &'a str,
    key_material_id: String,
    key_material_state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    rotation_date: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rotation_type: Option<&'static str>,
}

pub(super) fn listed(arn: &str, page: Page<KeyRotation>) -> Answer {
    let rotation = |one: KeyRotation| Rotation {
        key_id: id_of(arn),
        key_material_id: one.material_id.to_string(),
        key_material_state: if one.current { "CURRENT" } else { "NON_CURRENT" },
        // The material that the key was made with came by no rotation.
        rotation_date: one.cause.map(|_| Time::of(one.date)),
        rotation_type: one.cause.map(|cause| match cause {
            RotationCause::Request => "ON_DEMAND",
            RotationCause::Period | RotationCause::Wear => "AUTOMATIC",
        }),
    };
    json(&RotationsAnswer {
        truncated: page.next_marker.is_some(),
        next_marker: page.next_marker,
        rotations: page.items.into_iter().map(rotation).collect(),
    })
}
