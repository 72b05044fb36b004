//! Tests that play an attacker, or a server, row or object under an attacker's control. `make test-hostile` runs only
//! these.

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
