//! Names, texts and conditions in the form for a statement. Every identifier is quoted and every text is an escaped literal.

use crate::api::Table;
use crate::api::filter::Test;
use crate::api::identifier::Identifier;
use crate::api::table::StatusText;

/// The longest id, in bytes, of an execution that the operator handles. An index entry has room for 2,704 bytes, and indexes of the
/// operator's own tables contain ids.
pub const ID_BYTES: u16 = 1_000;

/// The number of characters that are read of any other text of a row. The server compares texts in full, such as a job with the key
/// of a rule.
pub const TEXT_CHARS: u16 = 256;

/// The number of characters that are read of a text of a record. The operator writes shorter ones.
pub const RECORD_CHARS: i32 = 1_024;

/// The prefix of the columns of a row of the executions, which every statement reads as alias `execution`.
pub const EXECUTION: &str = "execution.";

/// Returns `column IN (…)` with one literal for each text; never true without texts.
pub fn condition(column: &str, texts: &[StatusText]) -> String {
    match texts {
        [] => "false".to_owned(),
        [one] => format!("{column} = {}", literal(&one.0)),
        many => {
            format!("{column} IN ({})", many.iter().map(|t| literal(&t.0)).collect::<Vec<_>>().join(", "))
        }
    }
}

/// Returns the condition that a row passes the filter of a table, if it has one. `alias` is the prefix of the columns. Values are
/// literals without a type, which Postgres reads in the type of the column.
pub fn filter(table: &Table, alias: &str) -> Option<String> {
    let conditions: Vec<String> = table
        .filter
        .iter()
        .map(|condition| {
            let column = format!("{alias}{}", quote(&condition.column.0));
            match condition.test() {
                Some(Test::OneOf([one])) => format!("{column} = {}", literal(&one.0)),
                Some(Test::OneOf(values)) => {
                    let values: Vec<String> = values.iter().map(|value| literal(&value.0)).collect();
                    format!("{column} IN ({})", values.join(", "))
                }
                Some(Test::IsNull) => format!("{column} IS NULL"),
                Some(Test::NotNull) => format!("{column} IS NOT NULL"),
                // Rejected when the store is opened.
                None => "false".to_owned(),
            }
        })
        .collect();
    (!conditions.is_empty()).then(|| conditions.join(" AND "))
}

/// Returns a condition on a row, combined with the filter of the table.
pub fn filtered(condition: String, table: &Table, alias: &str) -> String {
    match filter(table, alias) {
        Some(filter) => format!("({condition} AND {filter})"),
        None => condition,
    }
}

/// Returns the table with its schema, quoted.
pub fn qualified(table: &Table) -> String {
    in_schema(&table.schema, &table.name)
}

/// Returns the name of a table with its schema, quoted.
pub(in crate::db) fn in_schema(schema: &Identifier, name: &Identifier) -> String {
    format!("{}.{}", quote(&schema.0), quote(&name.0))
}

/// Returns an instant that the client can hold: the far ends of Postgres' range, including infinity, are clamped to the years 1 and
/// 9999. NULL stays NULL, which `LEAST` and `GREATEST` alone would ignore.
pub fn clamp_timestamp(instant: &str) -> String {
    format!(
        "CASE WHEN {instant} IS NOT NULL \
         THEN LEAST(GREATEST({instant}, '0001-01-01Z'::timestamptz), '9999-12-31Z'::timestamptz) END"
    )
}

/// Returns the first characters of the text of an SQL expression: enough for output, and no more than [`TEXT_CHARS`].
pub fn cut(expression: &str) -> String {
    format!("left({expression}::text, {TEXT_CHARS})")
}

/// Returns a quoted identifier.
pub fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// Returns a string literal that means the same with any `standard_conforming_strings`.
pub fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

/// Returns a column of the executions.
pub(in crate::db) fn column(name: &Identifier) -> String {
    format!("{EXECUTION}{}", quote(&name.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_names_stay_names() {
        assert_eq!(quote("a\"; drop table x; --"), "\"a\"\"; drop table x; --\"");
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal("\\'; drop"), "E'\\\\''; drop'");
    }
}
