//! The outbox: what happened and people are still to be told of. A statement that ends an execution or warns of one posts
//! that in the same transaction; later, messages are made of all that has been posted until then ([`super::messages`]).

mod digest;
mod posting;

pub use digest::{Posted, digest};
pub use posting::{announce, recover};
pub(super) use posting::{note, ours, posting, usable};
