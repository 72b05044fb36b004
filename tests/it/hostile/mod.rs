//! Somebody means harm: each file plays one of them.

mod addresses;
mod server;
