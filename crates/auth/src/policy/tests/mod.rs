//! What policies decide, as tables that a person can read, and what holds for all of them.

mod conditions;
mod cost;
mod decisions;
mod findings;
mod lockout;
mod near;
mod properties;
mod stored;
mod table;
mod world;
