//! Attacks: what somebody else's schemas, rows, servers and objects may not bring about.

mod functions;
mod row_security;
mod rows;
mod work;
