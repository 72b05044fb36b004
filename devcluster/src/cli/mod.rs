//! The commands, one per file.

pub(crate) mod exec;
pub(crate) mod image;
pub(crate) mod init;
mod node;
mod signals;
pub(crate) mod sql;
pub(crate) mod state;
pub(crate) mod supervise;
pub(crate) mod tool;
pub(crate) mod up;
pub(crate) mod watch;
