//! Outgoing connections: allowed addresses and dialing. The lowest room: does not depend on Postgres, SMTP or HTTP.

pub mod address;
pub mod dial;

pub use address::AddressPolicy;
pub use dial::{DialError, Dialer};
