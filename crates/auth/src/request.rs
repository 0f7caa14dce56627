//! What every call comes with, whatever interface it came by, and what is asked of the rules about it.

use std::any::Any;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use super::peer::Principal;
use model::call_options::{CallOptions, FlowId};
use model::context::EncryptionContext;

/// By which interface a call came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interface {
    /// The project's own, over gRPC.
    Grpc,
}

impl Interface {
    /// Its name in records.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
        }
    }
}

/// Who calls, from where, by which interface, under which id, until when. Cheap to clone.
#[derive(Clone, Debug)]
pub struct RequestContext {
    /// The caller.
    pub principal: Principal,
    /// The address that the connection came from; absent where an interface has none.
    pub source: Option<IpAddr>,
    /// What the caller's client calls itself; said by the caller, so proof of nothing.
    pub user_agent: Option<Arc<str>>,
    /// How the call came.
    pub interface: Interface,
    /// Chosen by the interface, in every log line and record of this call.
    pub request_id: Arc<str>,
    /// When the caller stops waiting.
    pub deadline: Instant,
    /// What the interface counts for the call. Kept until the last of its work has ended, which may be after its caller
    /// has left.
    pub charge: Option<Arc<dyn Any + Send + Sync>>,
}

impl RequestContext {
    /// For the HSMs.
    #[must_use]
    pub fn options(&self) -> CallOptions {
        CallOptions { deadline: self.deadline, flow: FlowId::of(self.principal.as_str()) }
    }
}

/// The resource of what names none: policies match it by `*` alone.
pub const NO_RESOURCE: &str = "*";

/// What the rules are asked: may this caller do this with that?
#[derive(Clone, Copy, Debug)]
pub struct AuthorizationRequest<'a> {
    /// Who asks, from where, by what.
    pub context: &'a RequestContext,
    /// The permission that the operation needs.
    pub action: &'static str,
    /// The ARN of what it is to be done with, whether there is such a thing or not; [`NO_RESOURCE`] where none is named.
    pub resource: &'a str,
    /// What else a statement may depend on.
    pub conditions: Conditions<'a>,
}

/// Properties of a call on which a statement may depend.
#[derive(Clone, Copy, Debug, Default)]
pub struct Conditions<'a> {
    /// The encryption context, where the operation has one.
    pub encryption_context: Option<&'a EncryptionContext>,
}
