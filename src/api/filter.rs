//! Which rows of a table are the application's executions: conditions on columns, without any SQL.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::table::Identifier;

/// A value of a column as text, which Postgres reads as the column's type: at most 63 characters, none of them a control
/// character.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub struct ValueText(#[schemars(length(max = 63), regex(pattern = r"^\P{Cc}*$"))] pub String);

/// A condition on one column: exactly one of `equals`, `in`, `isNull` and `notNull`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = Rule::new(
    "[has(self.equals), has(self.__in__), has(self.isNull), has(self.notNull)].filter(set, set).size() == 1"
).message("set exactly one of equals, in, isNull and notNull"))]
#[x_kube(validation = Rule::new(
    "(!has(self.isNull) || self.isNull) && (!has(self.notNull) || self.notNull)"
).message("isNull and notNull can only be true: for the opposite set the other one"))]
pub struct RowCondition {
    /// The column, of any type that Postgres itself can compare.
    pub column: Identifier,
    /// It has this value, given as text: `"7"`, `"true"`, `"billing"`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub equals: Option<ValueText>,
    /// It has one of these values, given as texts.
    #[serde(rename = "in", skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 8))]
    pub in_: Option<Vec<ValueText>>,
    /// It is NULL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_null: Option<bool>,
    /// It is not NULL.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_null: Option<bool>,
}

/// What a condition asks of its column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Test<'a> {
    /// It has one of these values.
    OneOf(&'a [ValueText]),
    /// It is NULL.
    IsNull,
    /// It is not NULL.
    NotNull,
}

impl RowCondition {
    /// What it asks; `None`: not exactly one thing, which no API server lets pass.
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
