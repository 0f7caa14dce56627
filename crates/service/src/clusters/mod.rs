//! Operations on clusters and their HSMs.

pub(crate) mod add_hsm;
pub(crate) mod describe_clusters;
pub(crate) mod diagnose_hsm;
pub(crate) mod get_statistics;
pub(crate) mod resync_keys;
