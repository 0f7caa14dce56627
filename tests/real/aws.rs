//! Clients of AWS KMS: their requests, their signatures, their connections. What each operation does is told elsewhere.

mod at_once;
mod bounds;
mod http;
mod listener;
mod requests;
mod wiped;
