//! Rules in SQL: in `jobexec.rules`, or in a parameter if the operator's tables do not exist.

pub(super) mod columns;
mod replace;
pub(super) mod settings;
mod stored;

pub use replace::replace;
pub use stored::{load, stored};
