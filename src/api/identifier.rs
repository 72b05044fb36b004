//! The names of schemas, tables and columns.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A Postgres identifier: at most 63 letters, digits, `_` and `$`, starting with a letter or `_`. It is case-sensitive,
/// as if it were in double quotes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct Identifier(
    #[schemars(length(max = 63), regex(pattern = r"^[A-Za-z_][A-Za-z0-9_$]{0,62}$"))] pub String,
);

impl From<&str> for Identifier {
    fn from(name: &str) -> Self {
        Self(name.to_owned())
    }
}
