//! AWS's policies: their language, and what they decide. Pure.
//!
//! [`Policy::compile`] reads a text once; [`decide`] answers for each request; [`check`] says what is doubtful, and
//! [`shown`] how a stored text is shown. What AWS documents is followed, but for variables without a value, which allow less
//! here (`condition`, `resource`). Where it says nothing the reading is taken that allows less, with a comment where that is.
//! `make conformance` compares the decisions with those of an implementation by others.
//!
//! From the text down: `json` (values with their places), `document` (elements), `compile` (statements), `resource`,
//! `condition` with `operator`, `keys`, `value`, `ordered` and `decimal`, `variable` and `pattern` (text that may have variables
//! and wildcards).
//! From the request: `request` (what is asked), `scene` (what it says of a key), `decide` with `principal` and `by_grant`.
//! For people: `finding` with `reach` and `lockout` (what is doubtful about a text), `near` (what would nearly have allowed a request).

mod actions;
mod by_grant;
mod compile;
mod compiled;
mod condition;
mod decide;
mod decimal;
mod document;
mod finding;
mod json;
mod keys;
mod lockout;
mod near;
mod operator;
mod ordered;
mod pattern;
mod principal;
mod reach;
mod render;
mod request;
mod resource;
mod scene;
mod value;
mod variable;

#[cfg(test)]
mod tests;

pub use compile::check;
pub use compiled::{Compiled, Kind, Policy, Refused};
pub use condition::Effect;
pub use decide::{Allowing, Deciding, Denying, Missing, Rules, Verdict, decide, decide_over, keeps_control, retire};
pub use document::POLICY_BYTES;
pub use finding::{Finding, Problem, Severity};
pub use near::{Lack, Near, Unmet, nearest};
pub use principal::Bindings;
pub use reach::Home;
pub use render::shown;
pub use request::{Caller, Circumstances, KEY_POLICY, Key, Names, NewGrant, Pairs, Parameters, Request, Target};
