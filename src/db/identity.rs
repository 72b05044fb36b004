//! Which record is a table's. Its oid says so, and a rename changes nothing. After a dump and restore, or where a table was built
//! again beside the old one and took its name, only the name is as it was: such a record is left behind, which the store says, and
//! is taken over on request ([`super::adopt`]). Where oid and name lead to two records that are in use, neither counts.

mod told;

use std::collections::BTreeMap;
use std::fmt;

use sqlx::{AssertSqlSafe, PgConnection};

pub(super) use self::told::{contradiction, undecided};
pub use self::told::{is_for_a_person, left_alone, told};
use super::granted::{SOURCE, granted_in};
use super::ids::id_of;
use super::ledger::Claimant;
use super::{Mapping, outbox};

/// The reason of the condition `AuditAvailable` where records of a table by this name are left behind.
pub const LEFT: &str = "RecordsLeft";

/// The reason where oid and name lead to two records.
const CONTRADICT: &str = "RecordsContradict";

/// The columns of a rule that say how long people have let an execution go on, and until when that was promised.
const GRANTED: &str = "extend_by, extend_source, promised, promised_start, promised_by";

/// How many records are read at most, the newest.
const MOST: i64 = 10;

/// The record of another table, which was last known by the name that the table has now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left {
    /// Its number.
    pub store_id: i64,
    /// The store that claims it.
    pub claimant: Option<Claimant>,
    /// Whether that was confirmed of late.
    pub confirmed: bool,
    /// What its table is called now; `None`: it is gone, or the record is from a dump.
    pub now_called: Option<String>,
    /// Whether it comes from a dump.
    pub dumped: bool,
    /// How many executions a person has given more time in it.
    pub extended: i64,
    /// How many messages and events of it are still to be delivered.
    pub undelivered: i64,
}

impl Left {
    /// Whether its table is there, and a store is in charge of it: then it is as good a record as that of the oid.
    fn is_in_use(&self) -> bool {
        self.now_called.is_some() && self.claimant.is_some()
    }

    /// Whether what people granted in it counts for the store with this UID without a question: nobody else can have written
    /// it, or could since the dump.
    fn is_trusted(&self, uid: &str) -> bool {
        self.dumped || self.claimant.as_ref().is_some_and(|claimant| claimant.uid == uid)
    }
}

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "record {}", self.store_id)?;
        if let Some(Claimant { namespace, name, .. }) = &self.claimant {
            write!(f, " of the ExecutionStore {namespace}/{name}")?;
        }
        match &self.now_called {
            Some(name) => write!(f, " (its table is called {name} now"),
            None if self.dumped => write!(f, " (from a dump"),
            None => write!(f, " (its table is gone"),
        }?;
        match self.extended {
            0 => write!(f, ")"),
            some => write!(f, "; {some} executions were extended by hand)"),
        }
    }
}

/// The records among `left` of which a person has to say whether what was granted in them counts: until then the executions that
/// were given more time in them are left alone. `uid`: of the store that has claimed the table; `None`: none ever has, so that
/// nothing was [kept](keep) of any.
pub fn undecided_among(left: &[Left], uid: Option<&str>) -> Vec<i64> {
    let undecided = |left: &&Left| left.extended > 0 && !uid.is_some_and(|uid| left.is_trusted(uid));
    left.iter().filter(undecided).map(|left| left.store_id).collect()
}

/// Its number, UID, namespace and name of who claims it, whether that is fresh, what its table is called, whether it is from a
/// dump, and how many executions were extended.
type Row = (i64, Option<String>, Option<String>, Option<String>, bool, Option<String>, bool, i64);

/// The records of other tables than that of `store_id` which were last known by the name that it has now. `fresh` is the condition
/// that a claim was confirmed of late, by `$4` seconds.
pub(super) async fn left(
    tx: &mut PgConnection,
    mapping: &Mapping,
    store_id: Option<i64>,
    fresh: &str,
    seconds: f64,
) -> Result<Vec<Left>, sqlx::Error> {
    let (schema, name) = mapping.relation();
    let sql = format!(
        "SELECT store_id, uid, namespace, name, {fresh}, CASE WHEN relname IS NOT NULL THEN format('%I.%I', nspname, relname) END, dumped,
                (SELECT count(*) FROM jobexec.rules AS r WHERE r.store_id = s.store_id AND {granted})
         FROM (SELECT s.*, s.registry <> 'jobexec.stores'::regclass AS dumped, c.relname, n.nspname
               FROM jobexec.stores AS s
               LEFT JOIN pg_class AS c ON c.oid = s.table_oid AND c.relkind IN ('r', 'p') AND s.registry = 'jobexec.stores'::regclass
               LEFT JOIN pg_namespace AS n ON n.oid = c.relnamespace
               WHERE s.table_schema = $1 AND s.table_name = $2 AND s.store_id IS DISTINCT FROM $3::bigint) AS s
         ORDER BY store_id DESC LIMIT {MOST}",
        granted = granted_in("r", "$5"),
    );
    let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(schema)
        .bind(name)
        .bind(store_id)
        .bind(seconds)
        .bind(format!("{SOURCE}%"))
        .persistent(false)
        .fetch_all(&mut *tx)
        .await?;
    let undelivered = undelivered(tx, &rows.iter().map(|row| row.0).collect::<Vec<_>>()).await?;
    let left = |(store_id, uid, namespace, name, confirmed, now_called, dumped, extended): Row| {
        let claimant = match (uid, namespace, name) {
            (Some(uid), Some(namespace), Some(name)) => {
                Some(Claimant { uid, predecessor: None, namespace, name })
            }
            _ => None,
        };
        let undelivered = undelivered.get(&store_id).copied().unwrap_or_default();
        Left { store_id, claimant, confirmed, now_called, dumped, extended, undelivered }
    };
    Ok(rows.into_iter().map(left).collect())
}

/// How many messages and events of these records are still to be delivered, where this login can know that.
async fn undelivered(tx: &mut PgConnection, records: &[i64]) -> Result<BTreeMap<i64, i64>, sqlx::Error> {
    if records.is_empty() || !outbox::usable(tx).await? {
        return Ok(BTreeMap::new());
    }
    let counts: Vec<(i64, i64)> = sqlx::query_as(
        "SELECT s.store_id, (SELECT count(*) FROM jobexec.messages AS m WHERE m.store_id = s.store_id AND m.ended_at IS NULL)
                            + (SELECT count(*) FROM jobexec.outbox AS m WHERE m.store_id = s.store_id)
         FROM unnest($1::bigint[]) AS s (store_id)",
    )
    .bind(records)
    .persistent(false)
    .fetch_all(tx)
    .await?;
    Ok(counts.into_iter().collect())
}

/// Has count what people granted, and what was seen, of executions that are alive, where nobody else than the store itself can
/// have written that: a table that has got another oid is no reason to end one of them.
pub(super) async fn keep(
    tx: &mut PgConnection,
    mapping: &Mapping,
    store_id: i64,
    left: &[Left],
    uid: &str,
) -> Result<(), sqlx::Error> {
    let trusted: Vec<i64> =
        left.iter().filter(|left| left.is_trusted(uid)).map(|left| left.store_id).collect();
    if trusted.is_empty() {
        return Ok(());
    }
    let alive = format!(
        "EXISTS (SELECT FROM {} AS t WHERE {} = {} AND {})",
        mapping.table(),
        mapping.id(),
        id_of("o.key", mapping.id_type()),
        mapping.unfinished_anywhere(),
    );
    copy(tx, store_id, &trusted, &alive).await
}

/// Adds to `store_id` what people granted, and what was seen, of executions of which `which` is true (of the key of `o`), in the
/// records `from`, and the timeouts that were computed from their history.
pub(super) async fn copy(
    tx: &mut PgConnection,
    store_id: i64,
    from: &[i64],
    which: &str,
) -> Result<(), sqlx::Error> {
    let source = format!("{SOURCE}%");
    let computed = "INSERT INTO jobexec.figures (store_id, policy_uid, policy, generation, computed_at, figures)
         SELECT DISTINCT ON (policy_uid) $1, policy_uid, policy, generation, computed_at, figures FROM jobexec.figures
         WHERE store_id = ANY ($2) AND $3::text IS NOT NULL ORDER BY policy_uid, store_id DESC
         ON CONFLICT (store_id, policy_uid) DO NOTHING";
    for sql in [copy_granted(which), copy_seen(which), computed.to_owned()] {
        sqlx::query(AssertSqlSafe(sql))
            .bind(store_id)
            .bind(from)
            .bind(&source)
            .persistent(false)
            .execute(&mut *tx)
            .await?;
    }
    Ok(())
}

/// What a rule of the execution that is there already says stays, and what people granted is added to it: an extension where it has
/// none, and a promise to a later run, or a longer one to the same.
fn copy_granted(which: &str) -> String {
    let extends = "r.extend_by IS NULL AND excluded.extend_source LIKE $3";
    let promises = "excluded.promised IS NOT NULL AND (r.promised IS NULL \
                    OR (excluded.promised_start, excluded.promised) > (r.promised_start, r.promised))";
    let set = |column: &str, when: &str| {
        format!("{column} = CASE WHEN {when} THEN excluded.{column} ELSE r.{column} END")
    };
    let sets: Vec<String> = ["extend_by", "extend_source"]
        .map(|column| set(column, extends))
        .into_iter()
        .chain(["promised", "promised_start", "promised_by"].map(|column| set(column, promises)))
        .collect();
    format!(
        "INSERT INTO jobexec.rules AS r (store_id, scope, key, {GRANTED}, overruled, earliest, fixed)
         SELECT DISTINCT ON (o.key) $1, o.scope, o.key, {columns}, '{{}}'::text[], interval '0', false
         FROM jobexec.rules AS o WHERE o.store_id = ANY ($2) AND {granted} AND {which}
         ORDER BY o.key, o.store_id DESC
         ON CONFLICT (store_id, scope, key) DO UPDATE SET {sets} WHERE ({extends}) OR ({promises})",
        columns = GRANTED.split(", ").map(|column| format!("o.{column}")).collect::<Vec<_>>().join(", "),
        granted = granted_in("o", "$3"),
        sets = sets.join(", "),
    )
}

/// Of an execution that was seen since, the longer pause counts.
fn copy_seen(which: &str) -> String {
    format!(
        "INSERT INTO jobexec.observations AS r (store_id, kind, execution_id, started_at, since, total, detail)
         SELECT DISTINCT ON (o.kind, o.key) $1, o.kind, o.key, o.started_at, o.since, o.total, o.detail
         FROM (SELECT seen.*, seen.execution_id AS key FROM jobexec.observations AS seen) AS o
         WHERE o.store_id = ANY ($2) AND $3::text IS NOT NULL AND {which} ORDER BY o.kind, o.key, o.store_id DESC
         ON CONFLICT (store_id, kind, execution_id) DO UPDATE SET total = excluded.total
             WHERE r.started_at = excluded.started_at AND excluded.total > COALESCE(r.total, interval '0')"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn left(uid: Option<&str>, now_called: Option<&str>, dumped: bool) -> Left {
        let claimant = uid.map(|uid| Claimant {
            uid: uid.into(),
            predecessor: None,
            namespace: "prod".into(),
            name: "jobs".into(),
        });
        let now_called = now_called.map(str::to_owned);
        Left { store_id: 3, claimant, confirmed: false, now_called, dumped, extended: 2, undelivered: 0 }
    }

    #[test]
    fn two_records_that_are_in_use_contradict_each_other_and_others_do_not() {
        assert!(left(Some("a"), Some("app.old"), false).is_in_use());
        assert!(!left(None, Some("app.old"), false).is_in_use(), "it was given up");
        assert!(!left(Some("a"), None, false).is_in_use(), "its table is gone");
        assert!(!left(Some("a"), None, true).is_in_use());
    }

    #[test]
    fn what_anybody_may_have_written_counts_on_request_only() {
        assert!(left(Some("a"), None, false).is_trusted("a"));
        assert!(left(Some("a"), Some("app.old"), false).is_trusted("a"));
        assert!(left(Some("a"), None, true).is_trusted("b"), "nobody could write it since the dump");
        assert!(!left(Some("a"), None, false).is_trusted("b"));
        assert!(!left(None, None, false).is_trusted("b"));
    }

    #[test]
    fn what_became_of_its_table_is_told() {
        let texts = [(None, false), (None, true), (Some("app.old"), false)]
            .map(|(now, dumped)| left(Some("a"), now, dumped).to_string());
        assert!(
            texts[0].contains("its table is gone") && texts[0].contains("ExecutionStore prod/jobs"),
            "{texts:?}"
        );
        assert!(texts[1].contains("from a dump") && texts[2].contains("is called app.old now"), "{texts:?}");
        assert!(texts.iter().all(|text| text.contains("2 executions were extended by hand")), "{texts:?}");
    }

    #[test]
    fn executions_are_left_alone_where_nobody_knows_who_extended_them() {
        let all = [left(Some("a"), None, false), left(Some("b"), None, false), left(Some("b"), None, true)];
        assert_eq!(undecided_among(&all, Some("a")), [3]);
        assert_eq!(undecided_among(&all, None).len(), 3, "nothing was kept before the first claim");
        assert!(
            told::granted(&all, "a").contains("2 executions that were given more time in it are not ended")
        );
    }
}
