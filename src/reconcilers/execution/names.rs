//! The names and labels of `JobExecution` objects. Pure.

use std::collections::BTreeMap;

use sha2::{Digest as _, Sha256};

use crate::api::labels::{JOB, LABELS, PHASE, STORE, TYPE};
use crate::db::execution::Execution;
use crate::db::mapping::IdType;

/// The longest value of a label, in bytes.
const VALUE_LIMIT: usize = 63;

/// The name of the object for an execution: `<store>-<id>` for integer ids, else [`hashed`].
pub fn name(store: &str, id_type: IdType, id: &str) -> String {
    match id_type {
        IdType::Integer => format!("{store}-{id}"),
        IdType::Uuid | IdType::Text => hashed(store, id),
    }
}

/// `<store>-x<hash>`: valid for any id, and never equal to the name for an integer id.
pub fn hashed(store: &str, id: &str) -> String {
    format!("{store}-x{}", hash(id))
}

/// The labels of an execution's object; without a row, only the label of its store.
pub fn labels(store: &str, row: Option<&Execution>) -> BTreeMap<String, String> {
    let mut labels = BTreeMap::from([(STORE.to_owned(), value(store))]);
    let Some(row) = row else { return labels };
    labels.insert(PHASE.to_owned(), row.phase.label().to_owned());
    labels.extend(row.job_id.as_deref().map(|job| (JOB.to_owned(), value(job))));
    labels.extend(row.job_type.as_deref().map(|type_| (TYPE.to_owned(), value(type_))));
    labels
}

/// Reports whether an object has exactly these values for the labels that the operator sets.
pub fn are_set(labels: &BTreeMap<String, String>, on: &BTreeMap<String, String>) -> bool {
    LABELS.iter().all(|label| labels.get(*label) == on.get(*label))
}

/// The value of a label: the text itself if it is a valid value, else `x<hash>`.
pub fn value(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric();
    let bytes = text.as_bytes();
    let ends = |end: Option<&u8>| end.copied().is_none_or(plain);
    let valid = bytes.len() <= VALUE_LIMIT
        && bytes.iter().all(|&byte| plain(byte) || b"-_.".contains(&byte))
        && ends(bytes.first())
        && ends(bytes.last());
    if valid { text.to_owned() } else { format!("x{}", hash(text)) }
}

/// The first 80 bits of a hash that is the same in every version of the operator.
fn hash(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().take(10).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integer_ids_are_readable_and_others_are_hashed() {
        assert_eq!(name("jobs", IdType::Integer, "39"), "jobs-39");
        assert_eq!(name("jobs", IdType::Integer, "-39"), "jobs--39");
        // The first 80 bits of SHA-256, which must never change.
        assert_eq!(name("jobs", IdType::Text, "abc"), "jobs-xba7816bf8f01cfea4141");
        assert_ne!(name("jobs", IdType::Text, "ABC"), name("jobs", IdType::Text, "abc"));
    }

    #[test]
    fn labels_hold_what_they_can() {
        for text in ["", "a", "nightly.import_2-x", "21"] {
            assert_eq!(value(text), text);
        }
        for text in ["-a", "a-", "a b", "ä", "<b>", &"a".repeat(64)] {
            let value = value(text);
            assert!(value.starts_with('x') && value.len() == 21, "{text}: {value}");
        }
    }
}
