//! The operator's own tables, where they exist: which store manages which table, and what was done.

pub mod announcements;
mod availability;
pub mod breaker;
mod claim;
mod claimant;
mod look_up;
mod owner;
mod record;

pub use availability::Ledger;
pub use claim::{Claim, claim, release};
pub use claimant::Claimant;
pub(super) use claimant::Holder;
pub use look_up::{Found, Known, enlist, look_up, now};
pub(super) use owner::OWNER;
pub(super) use record::{Entered, HIDDEN, Registered, enter, left_behind, registered};
