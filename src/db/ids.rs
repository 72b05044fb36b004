//! Ids of executions and jobs that are stored as text.

use super::mapping::IdType;

/// Returns the expression that casts a text to an id of this type; NULL if it is not one. It has the type of the column, so that
/// the column's index can be used.
pub(super) fn id_of(text: &str, type_: IdType) -> String {
    format!("CASE WHEN {} THEN {text}::{sql} END", sane(text, type_.sql()), sql = type_.sql())
}

/// Returns the condition that `text` can be cast to an id of this SQL type.
pub(super) fn sane(text: &str, type_: &str) -> String {
    if type_ == IdType::Integer.sql() {
        // A regular expression takes ten times as long, and there may be a thousand rules, so it is used only if it must decide.
        format!(
            "CASE WHEN length({text}) < 19 AND {text} > '' AND translate({text}, '0123456789', '') = '' THEN true \
             WHEN {text} ~ '^-?[0-9]{{1,19}}$' \
             THEN {text}::numeric BETWEEN -9223372036854775808 AND 9223372036854775807 ELSE false END"
        )
    } else if type_ == IdType::Uuid.sql() {
        format!("{text} ~ '^[0-9a-f]{{8}}(-[0-9a-f]{{4}}){{3}}-[0-9a-f]{{12}}$'")
    } else {
        "true".to_owned()
    }
}
