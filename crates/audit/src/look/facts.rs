//! What records are looked for by. Of a record no more is read than that. One that is no record of ours, in a log that may be
//! anybody's work, says nothing.

use std::borrow::Cow;

use serde::Deserialize;

/// What a record says of what it may be looked for by.
#[derive(Debug, Default, Deserialize)]
pub struct Facts<'r> {
    #[serde(borrow, default, rename = "eventID")]
    event_id: Option<Cow<'r, str>>,
    #[serde(borrow, default, rename = "eventTime")]
    time: Option<Cow<'r, str>>,
    #[serde(borrow, default, rename = "eventName")]
    event_name: Option<Cow<'r, str>>,
    #[serde(borrow, default, rename = "errorCode")]
    error_code: Option<Cow<'r, str>>,
    #[serde(borrow, default, rename = "userIdentity")]
    who: Option<Who<'r>>,
    #[serde(borrow, default)]
    resources: Option<Vec<Resource<'r>>>,
}

#[derive(Debug, Deserialize)]
struct Who<'r> {
    #[serde(borrow, default)]
    arn: Option<Cow<'r, str>>,
    #[serde(borrow, default, rename = "principalId")]
    principal: Option<Cow<'r, str>>,
    #[serde(borrow, default, rename = "invokedBy")]
    by: Option<Cow<'r, str>>,
}

#[derive(Debug, Deserialize)]
struct Resource<'r> {
    #[serde(borrow, default, rename = "ARN")]
    arn: Option<Cow<'r, str>>,
}

impl<'r> Facts<'r> {
    /// Reads them.
    #[must_use]
    pub fn of(record: &'r [u8]) -> Self {
        serde_json::from_slice(record).unwrap_or_default()
    }

    /// The id of its event.
    #[must_use]
    pub fn event_id(&self) -> &str {
        self.event_id.as_deref().unwrap_or_default()
    }

    /// When it happened, UTC.
    #[must_use]
    pub fn time(&self) -> &str {
        self.time.as_deref().unwrap_or_default()
    }

    /// The name of the event: the operation.
    #[must_use]
    pub fn event_name(&self) -> &str {
        self.event_name.as_deref().unwrap_or_default()
    }

    /// Why it came to nothing; empty where it did not.
    #[must_use]
    pub fn error_code(&self) -> &str {
        self.error_code.as_deref().unwrap_or_default()
    }

    /// ARNs of what it is about.
    pub fn resources(&self) -> impl Iterator<Item = &str> {
        self.resources.iter().flatten().filter_map(|resource| resource.arn.as_deref())
    }

    /// Whose call it was: a principal of the policies, or who has none there, such as an administrator of the configuration,
    /// by the name of the certificate.
    #[must_use]
    pub fn who(&self) -> &str {
        let names = self.who.iter().flat_map(|who| [&who.arn, &who.principal, &who.by]);
        names.filter_map(|name| name.as_deref()).find(|name| !name.is_empty()).unwrap_or_default()
    }
}
