//! Rules as SQL has them: in `jobexec.rules`, or in a parameter where the operator's tables are not there.

pub(super) mod columns;
mod replace;
mod stored;

pub use replace::replace;
pub use stored::{load, stored};
