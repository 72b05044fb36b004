//! The texts for people about records that are left behind.

use std::fmt;

use super::{CONTRADICT, COUNTED, LEFT, Left};
use crate::api::ADOPT;
use crate::db::Mapping;
use crate::db::schema::Refusal;

/// The text of a condition about records that are left behind. Two texts are equal as long as the records are: the number of
/// undelivered messages changes all the time.
#[derive(Clone, Debug)]
pub struct Told {
    text: String,
    left: Vec<Left>,
}

impl PartialEq for Told {
    fn eq(&self, other: &Self) -> bool {
        self.left == other.left
    }
}

impl fmt::Display for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Returns the text of a condition about these records; `None`: there are none.
pub fn told(left: &[Left], mapping: &Mapping, uid: &str) -> Option<Told> {
    let same = |left: &Left| Left { undelivered: 0, confirmed: false, ..left.clone() };
    (!left.is_empty()).then(|| Told { text: text(left, mapping, uid), left: left.iter().map(same).collect() })
}

fn text(left: &[Left], mapping: &Mapping, uid: &str) -> String {
    let (schema, name) = mapping.relation();
    let all: Vec<String> = left.iter().map(ToString::to_string).collect();
    format!(
        "what is done is recorded, and what was recorded before for a table called {schema}.{name} does not count{granted}: {all}. \
         {remedy}",
        granted = granted(left, uid),
        all = all.join(", "),
        remedy = remedy(left, &format!("{schema}.{name}")),
    )
}

/// Returns whether extensions that people granted in these records count, in words.
pub(super) fn granted(left: &[Left], uid: &str) -> String {
    let alone: i64 = left.iter().filter(|left| !left.is_trusted(uid)).map(|left| left.extended).sum();
    match left.iter().any(|left| left.extended > 0) {
        false => String::new(),
        true if alone == 0 => ", except for the extensions of executions that run".to_owned(),
        true => format!(
            ", extensions included, so that {alone} executions that were given more time in it are not ended until a person has \
             said what becomes of it"
        ),
    }
}

/// Returns the remedy. If the database may be a copy, the command that notifies nobody comes first.
fn remedy(left: &[Left], table: &str) -> String {
    let adopt = format!("`jobexec adopt --table {table}`");
    let delivers = match counted(left.iter().map(|left| left.undelivered).sum()) {
        None => String::new(),
        Some(some) => format!(" and delivers {some} messages and events that were still to be delivered"),
    };
    if left.iter().any(|left| left.dumped) {
        return format!(
            "If this database is a copy, `jobexec adopt --discard --table {table}` on it deletes what came along, and nobody \
             is notified; {adopt} takes it over{delivers}. The annotation {ADOPT} of this store does the same, with a value that \
             begins with `discard` or with another new one"
        );
    }
    format!(
        "{adopt} on the database takes it over{delivers}; with --discard what belongs to a table that is gone is deleted, and the \
         rest left to its table. The annotation {ADOPT} of this store does the same, with a new value or one that begins with \
         `discard`"
    )
}

/// Returns the number of messages and events as far as they were counted, in words; `None`: there are none.
fn counted(undelivered: i64) -> Option<String> {
    match undelivered {
        0 => None,
        some if some > COUNTED => Some(format!("more than {COUNTED}")),
        some => Some(some.to_string()),
    }
}

/// Returns the warning of the command line about executions that are left alone.
pub fn left_alone(mapping: &Mapping) -> String {
    let (schema, name) = mapping.relation();
    format!(
        "executions that were given more time in a record of another table or store by the name {schema}.{name}, and not in this \
         table's own, are left alone until a person has said what becomes of it: run `jobexec adopt --table {schema}.{name}` to take it over, or the same with \
         --discard where it is another table's"
    )
}

/// Returns the reason why a record is not used until a person has decided about the others.
pub(in crate::db) fn undecided(left: &[Left], mapping: &Mapping) -> Option<Refusal> {
    let first = left.iter().find(|left| left.extended > 0)?;
    let (schema, name) = mapping.relation();
    let delivers = counted(first.undelivered)
        .map_or(String::new(), |some| format!(", which has {some} messages and events delivered"));
    Some(Refusal {
        reason: LEFT,
        why: format!(
            "nothing is recorded of this table, and executions of a table by its name were given more time: {first}. Run `jobexec \
             adopt --table {schema}.{name}` to take that over{delivers}, or the same with --discard where it is another table"
        ),
        owner_trusted: true,
    })
}

/// Reports whether a person has to choose between records before anything is written to one.
pub fn is_for_a_person(refusal: &Refusal) -> bool {
    [LEFT, CONTRADICT].contains(&refusal.reason)
}

/// Returns the reason why nothing is ended if both the record of the table, which had another name, and a record by its present
/// name are in use.
pub(in crate::db) fn contradiction(left: &[Left], was: &str, mapping: &Mapping) -> Option<Refusal> {
    let other = left.iter().find(|left| left.is_in_use())?;
    let (schema, name) = mapping.relation();
    Some(Refusal {
        reason: CONTRADICT,
        why: format!(
            "this table was called {was} when it was last looked at, and has its own record; and there is {other}, which was that of \
             {schema}.{name}. Which one counts is for a person to say: if tables were renamed, run `jobexec adopt --discard --table \
             {schema}.{name}`, which leaves each record to its table; if this table was built from the other one, run `jobexec adopt \
             --table {schema}.{name}`, which adds the other's record to this table's. The annotation jobexec.dev/adopt does the same"
        ),
        owner_trusted: true,
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::left;
    use super::*;

    #[test]
    fn of_a_copy_that_which_notifies_nobody_is_named_first() {
        let told = |dumped| remedy(&[Left { undelivered: 7, ..left(Some("a"), None, dumped) }], "app.runs");
        let copy = told(true);
        assert!(copy.find("--discard").unwrap() < copy.find("takes it over").unwrap(), "{copy}");
        assert!(
            copy.contains("delivers 7 messages and events") && told(false).contains("delivers 7"),
            "{copy}"
        );
        assert_eq!(counted(1001).unwrap(), "more than 1000");
    }
}
