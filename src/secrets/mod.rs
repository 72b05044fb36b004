//! Secret values: how to hold them, and how to keep them out of texts. Does not depend on Kubernetes objects, SQL or HTTP.
//!
//! - [`SecretString`] holds such a value; `Debug` prints `[REDACTED]`, and only [`ExposeSecret`] returns it;
//! - `bundle` parses certificate authorities, which are not secret but may be named where a secret is;
//! - `echo` finds secrets in foreign text;
//! - `foreign` describes errors of libraries that may quote their input;
//! - `debug_check` checks that `Debug` prints no secret.

mod bundle;
#[cfg(test)]
mod debug_check;
mod echo;
mod foreign;

pub use bundle::{CaBundle, InvalidBundle};
pub use echo::{Echoes, OMITTED};
pub use foreign::{describe, describe_pem};
pub use secrecy::{ExposeSecret, SecretString};
