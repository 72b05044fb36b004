//! Attackers: what a server, a row or an object may do, and what comes of it.

mod panic;
