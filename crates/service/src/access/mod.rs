//! Operations on who may do what.

pub(crate) mod access_keys;
pub(crate) mod approvals;
pub(crate) mod explain;
pub(crate) mod grant_view;
pub(crate) mod grants;
pub(crate) mod groups;
pub(crate) mod key_policy;
pub(crate) mod policies;
pub(crate) mod principals;
