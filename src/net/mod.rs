//! Outgoing connections: to which addresses they may lead, and the connecting itself. The lowest room: it knows nothing of
//! Postgres, SMTP or HTTP.

pub mod address;
pub mod dial;

pub use address::AddressPolicy;
pub use dial::{DialError, Dialer};
