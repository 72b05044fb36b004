//! Which record is a table's. Its oid says so, and a rename changes nothing. After a dump and restore, or where a table was built
//! again beside the old one and took its name, only the name is as it was: such a record is left behind, which the store says, and
//! is taken over on request ([`super::adopt`]). Where oid and name lead to two records that are in use, neither counts.

use std::fmt;

use sqlx::{AssertSqlSafe, PgConnection};

use super::ledger::Claimant;
use super::schema::Refusal;
use super::{Mapping, extend};

/// The reason of the condition `AuditAvailable` where records of a table by this name are left behind.
pub const LEFT: &str = "RecordsLeft";

/// The reason where oid and name lead to two records.
const CONTRADICT: &str = "RecordsContradict";

/// The columns of a rule that say how long people have let an execution go on, and until when that was promised.
const GRANTED: &str = "extend_by, extend_source, promised, promised_start, promised_by";

/// How many records are read at most.
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

/// What a condition says of records that are left behind.
pub fn told(left: &[Left], mapping: &Mapping, uid: &str) -> String {
    let (schema, name) = mapping.relation();
    let all: Vec<String> = left.iter().map(ToString::to_string).collect();
    let extended = left.iter().any(|left| left.extended > 0);
    let granted = match left.iter().filter(|left| left.extended > 0).all(|left| left.is_trusted(uid)) {
        _ if !extended => "",
        true => ", except for the extensions of executions that run",
        false => ", extensions included",
    };
    format!(
        "what is done is recorded, and what was recorded before for a table called {schema}.{name} does not count{granted}: {}. \
         `jobexec adopt --table {schema}.{name}` on the database takes it over; with --discard what belongs to a table that is gone is \
         deleted, and the rest left to its table. The annotation jobexec.dev/adopt of this store does the same, with a new value or one \
         that begins with `discard`",
        all.join(", ")
    )
}

/// Why a record is not used where a person has to say first what becomes of the others.
pub(super) fn undecided(left: &[Left], mapping: &Mapping) -> Option<Refusal> {
    let first = left.iter().find(|left| left.extended > 0)?;
    let (schema, name) = mapping.relation();
    Some(Refusal {
        reason: LEFT,
        why: format!(
            "nothing is recorded of this table, and executions of a table by its name were given more time: {first}. Run `jobexec \
             adopt --table {schema}.{name}` to take that over, or the same with --discard where it is another table"
        ),
        owner_trusted: true,
    })
}

/// Why nothing is ended where the record of the table, whose name was another one, and a record by its name are both in use.
pub(super) fn contradiction(left: &[Left], was: &str, mapping: &Mapping) -> Option<Refusal> {
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
                (SELECT count(*) FROM jobexec.rules AS r WHERE r.store_id = s.store_id AND r.extend_source LIKE $5)
         FROM (SELECT s.*, s.registry <> 'jobexec.stores'::regclass AS dumped, c.relname, n.nspname
               FROM jobexec.stores AS s
               LEFT JOIN pg_class AS c ON c.oid = s.table_oid AND c.relkind IN ('r', 'p') AND s.registry = 'jobexec.stores'::regclass
               LEFT JOIN pg_namespace AS n ON n.oid = c.relnamespace
               WHERE s.table_schema = $1 AND s.table_name = $2 AND s.store_id IS DISTINCT FROM $3::bigint) AS s
         ORDER BY store_id LIMIT {MOST}"
    );
    let rows: Vec<Row> = sqlx::query_as(AssertSqlSafe(sql))
        .bind(schema)
        .bind(name)
        .bind(store_id)
        .bind(seconds)
        .bind(format!("{}%", extend::SOURCE))
        .persistent(false)
        .fetch_all(tx)
        .await?;
    let left = |(store_id, uid, namespace, name, confirmed, now_called, dumped, extended): Row| {
        let claimant = match (uid, namespace, name) {
            (Some(uid), Some(namespace), Some(name)) => {
                Some(Claimant { uid, predecessor: None, namespace, name })
            }
            _ => None,
        };
        Left { store_id, claimant, confirmed, now_called, dumped, extended }
    };
    Ok(rows.into_iter().map(left).collect())
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
        super::judge::id_of("key", mapping.id_type()),
        mapping.unfinished_anywhere(),
    );
    copy(tx, store_id, &trusted, &alive).await
}

/// Adds to `store_id` what people granted, and what was seen, of executions of which `which` is true, in the records `from`.
pub(super) async fn copy(
    tx: &mut PgConnection,
    store_id: i64,
    from: &[i64],
    which: &str,
) -> Result<(), sqlx::Error> {
    let source = format!("{}%", extend::SOURCE);
    for sql in [
        format!(
            "INSERT INTO jobexec.rules AS r (store_id, scope, key, {GRANTED}, overruled, earliest, fixed)
             SELECT DISTINCT ON (key) $1, scope, key, {GRANTED}, '{{}}'::text[], interval '0', false
             FROM jobexec.rules AS o
             WHERE store_id = ANY ($2) AND scope = 'execution' AND (extend_source LIKE $3 OR promised IS NOT NULL) AND {which}
             ORDER BY key, store_id DESC
             ON CONFLICT (store_id, scope, key) DO NOTHING"
        ),
        format!(
            "INSERT INTO jobexec.observations (store_id, kind, execution_id, started_at, since, total, detail)
             SELECT DISTINCT ON (kind, key) $1, kind, key, started_at, since, total, detail
             FROM (SELECT o.*, execution_id AS key FROM jobexec.observations AS o) AS o
             WHERE store_id = ANY ($2) AND $3::text IS NOT NULL AND {which} ORDER BY kind, key, store_id DESC
             ON CONFLICT (store_id, kind, execution_id) DO NOTHING"
        ),
    ] {
        sqlx::query(AssertSqlSafe(sql)).bind(store_id).bind(from).bind(&source).persistent(false).execute(&mut *tx).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn left(uid: Option<&str>, now_called: Option<&str>, dumped: bool) -> Left {
        let claimant = uid.map(|uid| Claimant {
            uid: uid.into(),
            predecessor: None,
            namespace: "prod".into(),
            name: "jobs".into(),
        });
        let now_called = now_called.map(str::to_owned);
        Left { store_id: 3, claimant, confirmed: false, now_called, dumped, extended: 2 }
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
}
