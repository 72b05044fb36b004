//! Counts and deadlines of a store, read without changing it.

mod census;
mod live;
mod pulse;

pub use census::{Census, Contradictions, census, contradictions};
pub use live::{Live, Suspects, governed, live, running};
pub use pulse::{Pulse, pulse};
