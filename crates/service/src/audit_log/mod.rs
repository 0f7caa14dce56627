//! Use cases on the audit log: what it is checked by, and its records.

pub(crate) mod follow_audit_records;
pub(crate) mod get_audit_consistency;
pub(crate) mod get_audit_head;
pub(crate) mod get_audit_keys;
pub(crate) mod get_audit_proof;
pub(crate) mod list_audit_records;
