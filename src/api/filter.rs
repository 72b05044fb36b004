//! Conditions on columns, without SQL, that select the rows of a table that are executions.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::identifier::Identifier;

/// A column value as text, which Postgres casts to the column's type: at most 63 characters, without control
/// characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct ValueText(#[schemars(length(max = 63), regex(pattern = r"^\P{Cc}*$"))] pub String);

/// A condition on one column. Set exactly one of `equals`, `in`, `isNull` and `notNull`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "[has(self.equals), has(self.__in__), has(self.isNull), has(self.notNull)].filter(set, set).size() == 1"
).message("set exactly one of equals, in, isNull and notNull"))]
#[x_kube(validation = Rule::new(
    "(!has(self.isNull) || self.isNull) && (!has(self.notNull) || self.notNull)"
).message("isNull and notNull can only be true: to negate one, set the other"))]
pub struct RowCondition {
    /// The name of the column, which can have any type that Postgres can compare for equality.
    pub column: Identifier,
    /// Selects rows in which the column has this value, given as text: `"7"`, `"true"`, `"billing"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub equals: Option<ValueText>,
    /// Selects rows in which the column has one of these 1 to 8 values, given as text.
    #[serde(rename = "in", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8))]
    pub in_: Option<Vec<ValueText>>,
    /// Selects rows in which the column is NULL. Can only be `true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_null: Option<bool>,
    /// Selects rows in which the column is not NULL. Can only be `true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_null: Option<bool>,
}

/// The test that a condition applies to its column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Test<'a> {
    /// The column has one of these values.
    OneOf(&'a [ValueText]),
    /// The column is NULL.
    IsNull,
    /// The column is not NULL.
    NotNull,
}

impl RowCondition {
    /// Returns the test of this condition, or `None` unless exactly one test is set, which the API server rejects.
    pub fn test(&self) -> Option<Test<'_>> {
        match (&self.equals, self.in_.as_deref(), self.is_null, self.not_null) {
            (Some(value), None, None, None) => Some(Test::OneOf(std::slice::from_ref(value))),
            (None, Some(values), None, None) if !values.is_empty() => Some(Test::OneOf(values)),
            (None, None, Some(true), None) => Some(Test::IsNull),
            (None, None, None, Some(true)) => Some(Test::NotNull),
            _ => None,
        }
    }
}
