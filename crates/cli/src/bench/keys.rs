//! Which keys the load goes to.

use super::Arguments;
use crate::Context;
use crate::failure::Failure;
use client::Client;
use model::limits;
use proto::v1::{CreateKeyRequest, ListKeysRequest};

/// The keys named, or the first ones listed. What is missing is made.
pub(super) async fn choose(context: &Context, client: &Client, arguments: &Arguments) -> Result<Vec<String>, Failure> {
    let Some(wanted) = arguments.keys else { return Ok(arguments.key.clone()) };
    let wanted = wanted as usize;
    let mut keys: Vec<String> = Vec::with_capacity(wanted);
    let mut marker = String::new();
    while keys.len() < wanted {
        let limit = u32::try_from(wanted - keys.len()).unwrap_or(u32::MAX).min(limits::LIST_LIMIT);
        let page = client.list_keys(ListKeysRequest { limit: Some(limit), marker, ..Default::default() }).await?;
        let more = page.truncated && !page.keys.is_empty();
        keys.extend(page.keys.into_iter().map(|key| key.key_arn));
        if !more {
            break;
        }
        marker = page.next_marker;
    }
    keys.truncate(wanted);
    if keys.len() < wanted {
        context.printer.note(format!("making {} keys", wanted - keys.len()));
    }
    let bar = context.printer.progress((wanted - keys.len()) as u64);
    while keys.len() < wanted {
        let request = CreateKeyRequest { description: "keystorectl bench".to_owned(), ..Default::default() };
        keys.push(client.create_key(request).await?.arn);
        bar.inc(1);
    }
    bar.finish_and_clear();
    Ok(keys)
}
