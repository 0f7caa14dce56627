//! The service over a real store and a cluster in memory.

mod access;
mod approvals;
mod approvals_all;
mod approvals_bound;
mod bench;
mod data;
mod decisions;
mod deletion;
mod disk;
mod dry_run;
mod explain;
mod fake;
mod grant_tokens;
mod grants;
mod keyring;
mod keys;
mod names;
mod permissions;
mod rates;
mod re_encrypt;
mod records;
mod release;
mod rotation;
mod states;
mod turns;
mod walk;
