//! TagResource, UntagResource and ListResourceTags.

use serde::Serialize;

use super::Answer;
use super::asked::{number, text, texts};
use super::output::{json, nothing};
use crate::aws::model::Input;
use service::{Page, RequestContext, Service};

/// Gives a key tags.
pub(super) async fn tag(service: &Service, call: &RequestContext, asked: &mut Input) -> Answer {
    let tags = asked.pairs("Tags").unwrap_or_default();
    service.tag_resource(call, &text(asked, "KeyId"), tags).await?;
    Ok(nothing())
}

/// Takes tags away from a key.
pub(super) async fn untag(service: &Service, call: &RequestContext, asked: &mut Input) -> Answer {
    service.untag_resource(call, &text(asked, "KeyId"), texts(asked, "TagKeys")).await?;
    Ok(nothing())
}

/// Lists the tags of a key.
pub(super) async fn list(service: &Service, call: &RequestContext, asked: &mut Input) -> Answer {
    let (key_id, limit, marker) = (text(asked, "KeyId"), number(asked, "Limit"), text(asked, "Marker"));
    listed(service.list_resource_tags(call, &key_id, limit, &marker).await?)
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct TagsAnswer {
    #[serde(skip_serializing_if = "Option::is_none")]
    next_marker: Option<String>,
    tags: Vec<Tag>,
    truncated: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct Tag {
    tag_key: String,
    tag_value: String,
}

pub(super) fn listed(page: Page<(String, String)>) -> Answer {
    json(&TagsAnswer {
        truncated: page.next_marker.is_some(),
        next_marker: page.next_marker,
        tags: page.items.into_iter().map(|(tag_key, tag_value)| Tag { tag_key, tag_value }).collect(),
    })
}
