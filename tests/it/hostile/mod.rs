//! Tests that play an attacker, or a server, row or object that could be one. `make test-hostile` runs them alone.

mod addresses;
mod budget;
mod canary;
mod doors;
mod panic;
mod places;
mod raw;
mod secrets;
mod server;
