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

/// The form of an identifier that can be missing although it has a default: the empty string.
pub mod or_empty {
    use schemars::{Schema, SchemaGenerator, json_schema};
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Identifier;

    /// Writes the name, or the empty string.
    pub fn serialize<S: Serializer>(name: &Option<Identifier>, serializer: S) -> Result<S::Ok, S::Error> {
        name.as_ref().map_or("", |name| name.0.as_str()).serialize(serializer)
    }

    /// Reads a name, or the empty string.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Identifier>, D::Error> {
        let name = String::deserialize(deserializer)?;
        Ok((!name.is_empty()).then_some(Identifier(name)))
    }

    /// Returns the schema.
    pub fn schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "maxLength": 63, "pattern": "^([A-Za-z_][A-Za-z0-9_$]{0,62})?$" })
    }
}
