//! Values that nobody may see: how they are held, and how they are kept out of texts. Knows nothing of Kubernetes' objects,
//! SQL or HTTP.
//!
//! - [`SecretString`] holds such a value; `Debug` shows `[REDACTED]`, and only [`ExposeSecret`] gives it out;
//! - `bundle` reads certificate authorities, which are no secret but may be named where one is;
//! - `echo` finds a secret in a text that came from outside;
//! - `foreign` describes errors of libraries whose own text may quote what they read.

mod bundle;
mod echo;
mod foreign;
#[cfg(test)]
mod held;

pub use bundle::{CaBundle, InvalidBundle};
pub use echo::{Echoes, OMITTED};
pub use foreign::{describe, describe_pem};
pub use secrecy::{ExposeSecret, SecretString};
