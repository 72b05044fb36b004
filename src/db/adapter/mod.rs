//! Adapters in a database: whether one is installed as this version needs it (`problem`), its installation ([`apply`]), and a trial
//! of any table ([`rehearse`]).

mod install;
mod rehearse;
mod state;

pub use self::install::{AdapterError, apply, remove, script};
pub use self::rehearse::{Finding, rehearse};
pub(super) use self::state::problem;
