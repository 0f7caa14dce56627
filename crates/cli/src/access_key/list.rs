//! `keystorectl access-key list`

use clap::Args;
use serde::Serialize;

use super::Of;
use crate::Context;
use crate::failure::Failure;
use crate::printer::{Report, table};
use model::limits;
use proto::v1 as wire;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    of: Of,
}

#[derive(Serialize)]
struct AccessKey {
    access_key_id: String,
    principal: String,
    /// As AWS has it: Active or Inactive.
    status: &'static str,
    creation_date: Option<String>,
    /// Absent where it was never used.
    last_used_date: Option<String>,
    last_used_service: Option<String>,
}

impl From<wire::AccessKey> for AccessKey {
    fn from(key: wire::AccessKey) -> Self {
        let status = match key.status() {
            wire::AccessKeyStatus::Active => "Active",
            wire::AccessKeyStatus::Inactive => "Inactive",
            wire::AccessKeyStatus::Unspecified => "unknown",
        };
        Self {
            status,
            access_key_id: key.access_key_id,
            principal: key.principal,
            creation_date: key.creation_date.map(|date| date.to_string()),
            last_used_date: key.last_used_date.map(|date| date.to_string()),
            last_used_service: Some(key.last_used_service).filter(|service| !service.is_empty()),
        }
    }
}

#[derive(Serialize)]
struct AccessKeys {
    access_keys: Vec<AccessKey>,
}

impl Report for AccessKeys {
    fn text(&self) -> String {
        if self.access_keys.is_empty() {
            return "It has no access keys; `keystorectl access-key create` makes one.".to_owned();
        }
        let row = |key: &AccessKey| {
            let used = match (&key.last_used_date, &key.last_used_service) {
                (Some(date), Some(service)) => format!("{date} ({service})"),
                (date, _) => date.clone().unwrap_or_else(|| "never".to_owned()),
            };
            vec![key.access_key_id.clone(), key.status.to_owned(), key.creation_date.clone().unwrap_or_default(), used]
        };
        table(&["access key", "status", "since", "last used"], self.access_keys.iter().map(row))
    }
}

pub(super) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let client = context.connection.connect().await?;
    let (mut access_keys, mut marker, mut more) = (Vec::new(), String::new(), true);
    while more {
        let (principal, limit) = (arguments.of.arn.clone(), Some(limits::LIST_LIMIT));
        let page = client.list_access_keys(wire::ListAccessKeysRequest { principal, limit, marker }).await?;
        access_keys.extend(page.access_keys.into_iter().map(AccessKey::from));
        (more, marker) = (page.truncated, page.next_marker);
    }
    context.printer.report(&AccessKeys { access_keys })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_when_each_was_used_last() {
        let of = |used: bool| {
            AccessKey::from(wire::AccessKey {
                access_key_id: "AKKSA".into(),
                status: wire::AccessKeyStatus::Inactive.into(),
                last_used_service: if used { "kms".into() } else { String::new() },
                last_used_date: used.then(Default::default),
                ..Default::default()
            })
        };
        let text = AccessKeys { access_keys: vec![of(true)] }.text();
        assert!(text.contains("Inactive") && text.contains("1970") && text.contains("(kms)"), "{text}");
        assert!(AccessKeys { access_keys: vec![of(false)] }.text().contains("never"));
    }
}
