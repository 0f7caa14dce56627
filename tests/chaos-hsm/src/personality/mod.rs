//! What real HSMs do otherwise than SoftHSM: a list of functions that lies over the real module's where the settings say
//! anything of it. Faults (the rules) lie above.

mod births;
mod check;
mod gate;
mod gcm;
mod layer;
mod login;
mod mechanisms;
mod names;
mod objects;
mod plan;
mod presets;
mod settings;
mod templates;
mod topology;

pub(crate) use layer::{Below, Process, layered, through};
pub(crate) use presets::{KEYS, read};
pub(crate) use settings::Personality;
