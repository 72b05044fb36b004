//! The operator's own tables, where they exist: which store manages which table, and what was done.

pub mod announcements;
mod availability;
pub mod breaker;
mod claim;
mod look_up;
mod owner;
mod record;
mod store_identity;

pub use availability::Ledger;
pub use claim::{Claim, claim, release};
pub use look_up::{Found, Known, look_up, now, register};
pub(super) use owner::OWNER;
pub(super) use record::{Entered, HIDDEN, Registered, enter, left_behind, registered};
pub(super) use store_identity::Holder;
pub use store_identity::StoreIdentity;
