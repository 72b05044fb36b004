//! The outbox: posts of which people are still to be notified. A statement that ends an execution or warns of one makes a post in
//! the same transaction; later, everything posted by then is turned into messages ([`super::messages`]).

mod digest;
mod posting;

pub use digest::{Posted, digest};
pub use posting::{announce, recover};
pub(super) use posting::{note, ours, posting, usable};
