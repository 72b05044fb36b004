//! Tests that play an attacker, or a server, row or object that could be one. `make test-hostile` runs them alone.

mod addresses;
mod budget;
mod canary;
mod doors;
mod functions;
mod neighbour;
mod panic;
mod places;
mod raw;
mod row_security;
mod rows;
mod secrets;
mod server;
mod squatter;
pub(crate) mod work;
