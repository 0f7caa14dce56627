//! Operations with keys: on items, through the pipeline.

pub(crate) mod decrypt;
pub(crate) mod encrypt;
pub(crate) mod extras;
pub(crate) mod generate_data_key;
mod generate_random;
pub(crate) mod re_encrypt;
