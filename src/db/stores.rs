//! The effective mapping of each store, in `jobexec.stores.mapping`: all parts of its spec that decide how rows are read and
//! judged. The operator writes it with the rules, and tools that work on the database without Kubernetes judge by the same mapping.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Layout;
use super::{Database, DbError};
use crate::api::{Duration, ExecutionStore, ExecutionStoreSpec};

/// The fields of a spec that no judgement depends on. Everything else in a spec is kept, including fields that later versions add.
const NOT_JUDGED: [&str; 8] = [
    "connection",
    "history",
    "maxFailuresPerSweep",
    "executionObjects",
    "mode",
    "notifications",
    "pollInterval",
    "sweepInterval",
];

/// The maximum length of a mapping that is read, in bytes: no spec is nearly as long.
const LONGEST: i32 = 262_144;

/// The maximum number of stores that are read.
const MOST: i64 = 1_000;

/// The way in which an operator reads and judges the rows of a table.
#[derive(Clone, Debug)]
pub struct Effective {
    /// The version of the operator that wrote it.
    pub operator: String,
    /// The namespace of the store.
    pub namespace: String,
    /// The name of the store.
    pub name: String,
    /// Its spec; fields that no judgement depends on have their default. The table has its present name.
    pub spec: ExecutionStoreSpec,
}

/// The stored form.
#[derive(Serialize, Deserialize)]
struct Kept {
    operator: String,
    namespace: String,
    name: String,
    spec: Map<String, Value>,
}

/// The reason why a mapping cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("operator {operator} recorded it and this is version {this}, which cannot read it: {why}", this = env!("CARGO_PKG_VERSION"))]
pub struct Unreadable {
    /// The version of the operator that wrote it, if it is known.
    pub operator: String,
    /// The part that cannot be read.
    pub why: String,
}

/// A table that the operator's tables contain.
#[derive(Clone, Debug)]
pub struct Stored {
    /// Its id in them.
    pub store_id: i64,
    /// Its schema.
    pub schema: String,
    /// Its name.
    pub table: String,
    /// The store that claims it, as `namespace/name`.
    pub claimed_by: Option<String>,
    /// The mapping of its rows, if an operator has recorded it.
    pub mapping: Option<Result<Effective, Unreadable>>,
}

impl Stored {
    /// Returns the store that reads it, or did so last, as `namespace/name`.
    pub fn store(&self) -> Option<String> {
        let recorded = || self.mapping.as_ref().and_then(|mapping| mapping.as_ref().ok());
        self.claimed_by.clone().or_else(|| recorded().map(|e| format!("{}/{}", e.namespace, e.name)))
    }
}

/// Returns the effective mapping of a store in the stored form.
pub fn record(store: &ExecutionStore) -> Value {
    let kept = Kept {
        operator: env!("CARGO_PKG_VERSION").to_owned(),
        namespace: store.metadata.namespace.clone().unwrap_or_default(),
        name: store.metadata.name.clone().unwrap_or_default(),
        spec: judged(&store.spec),
    };
    // It contains only texts, numbers, lists and objects with texts for keys, which JSON can always represent.
    serde_json::to_value(kept).unwrap_or_default()
}

/// Returns the parts of a spec that decide how rows are read and judged.
pub fn judged(spec: &ExecutionStoreSpec) -> Map<String, Value> {
    let owner = spec.connection.schema_owner.clone();
    let Ok(Value::Object(mut fields)) = serde_json::to_value(spec) else { return Map::new() };
    fields.retain(|name, _| !NOT_JUDGED.contains(&name.as_str()));
    if let Some(owner) = owner {
        fields.insert("schemaOwner".to_owned(), Value::String(owner));
    }
    fields
}

/// Returns the differences between two specs in the parts that decide how rows are read and judged: each place with the values in
/// the first and the second.
pub fn differences(one: &ExecutionStoreSpec, other: &ExecutionStoreSpec) -> Vec<(String, Value, Value)> {
    let mut found = Vec::new();
    compare("", &Value::Object(judged(one)), &Value::Object(judged(other)), &mut found);
    found
}

fn compare(place: &str, one: &Value, other: &Value, found: &mut Vec<(String, Value, Value)>) {
    match (one, other) {
        (Value::Object(a), Value::Object(b)) => {
            let mut names: Vec<&String> = a.keys().chain(b.keys()).collect();
            names.sort_unstable();
            names.dedup();
            for name in names {
                let place = if place.is_empty() { name.clone() } else { format!("{place}.{name}") };
                let of = |fields: &Map<String, Value>| fields.get(name).cloned().unwrap_or_default();
                compare(&place, &of(a), &of(b), found);
            }
        }
        // `60m` equals `1h`. The only texts of a table that stand alone are names, and those begin with a letter.
        (Value::String(a), Value::String(b))
            if a.parse::<Duration>().is_ok_and(|a| b.parse().is_ok_and(|b| a == b)) => {}
        (a, b) if a == b => {}
        (a, b) => found.push((place.to_owned(), a.clone(), b.clone())),
    }
}

/// Reads what an operator has recorded about the table that now has this name. What another version has recorded is used only if
/// nothing in it is lost: ignoring a condition would end rows of others.
pub fn read(recorded: &str, schema: &str, table: &str) -> Result<Effective, Unreadable> {
    let unreadable =
        |operator: &str, why: String| Unreadable { operator: operator.chars().take(64).collect(), why };
    let kept: Kept = serde_json::from_str(recorded)
        .map_err(|error| unreadable("of an unknown version", error.to_string()))?;
    let Kept { operator, namespace, name, spec: fields } = kept;
    let mut whole = fields.clone();
    let mut connection = Map::from_iter([("secretRef".to_owned(), serde_json::json!({"name": "-"}))]);
    if let Some(owner) = whole.remove("schemaOwner") {
        connection.insert("schemaOwner".to_owned(), owner);
    }
    whole.insert("connection".to_owned(), Value::Object(connection));
    let mut spec: ExecutionStoreSpec =
        serde_json::from_value(Value::Object(whole)).map_err(|e| unreadable(&operator, e.to_string()))?;
    if let Some(place) = lost("", &Value::Object(fields), &Value::Object(judged(&spec))) {
        return Err(unreadable(&operator, format!("it does not know {place}")));
    }
    // The oid identifies the table, whatever its present name, and whatever somebody else has written there.
    if spec.adapter.is_none() {
        spec.table.schema = schema.into();
        spec.table.name = table.into();
    } else {
        // An adapter has tables of its own: those of another record must not be ended because of this one.
        let stands_for = Layout::of(&spec).table;
        if stands_for.schema.0 != schema || stands_for.name.0 != table {
            return Err(unreadable(&operator, "its adapter is for another table".to_owned()));
        }
    }
    Ok(Effective { operator, namespace, name, spec })
}

/// Returns the first place of the recorded mapping that the result of reading it lacks.
fn lost(place: &str, recorded: &Value, read: &Value) -> Option<String> {
    match (recorded, read) {
        (Value::Object(recorded), Value::Object(read)) => recorded.iter().find_map(|(name, value)| {
            let place = if place.is_empty() { name.clone() } else { format!("{place}.{name}") };
            lost(&place, value, read.get(name).unwrap_or(&Value::Null))
        }),
        (Value::Array(recorded), Value::Array(read)) if recorded.len() == read.len() => {
            recorded.iter().zip(read).find_map(|(one, other)| lost(place, one, other))
        }
        (recorded, read) => (recorded != read).then(|| place.to_owned()),
    }
}

/// Returns the tables that the operator's tables contain and this login may see: those that a store claims, or whose mapping is
/// recorded. Returns none without the operator's tables. The caller first checks whether those can be trusted.
pub async fn all(database: &Database) -> Result<Vec<Stored>, DbError> {
    match read_all(database).await {
        // A login without the privilege sees no tables.
        Err(DbError::Privilege(_)) => Ok(Vec::new()),
        other => other,
    }
}

/// A table: its id, its schema and name, the store that claims it, whether a mapping is recorded, and the mapping unless it is too
/// long.
type Row = (i64, String, String, Option<String>, bool, Option<String>);

async fn read_all(database: &Database) -> Result<Vec<Stored>, DbError> {
    let sql = include_str!("stores/all.sql");
    let mut tx = database.read().await?;
    let there = "SELECT to_regclass('jobexec.stores') IS NOT NULL";
    let rows: Vec<Row> = match sqlx::query_scalar(there).persistent(false).fetch_one(&mut *tx).await {
        Ok(true) => sqlx::query_as(sql).bind(MOST).bind(LONGEST).persistent(false).fetch_all(&mut *tx).await,
        Ok(false) => Ok(Vec::new()),
        Err(error) => Err(error),
    }?;
    tx.commit().await?;
    Ok(rows
        .into_iter()
        .map(|(store_id, schema, table, claimed_by, recorded, text)| {
            let mapping = recorded.then(|| match &text {
                Some(text) => read(text, &schema, &table),
                None => Err(Unreadable {
                    operator: "of an unknown version".to_owned(),
                    why: "it is longer than any".to_owned(),
                }),
            });
            Stored { store_id, schema, table, claimed_by, mapping }
        })
        .collect())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[allow(clippy::needless_pass_by_value, reason = "it keeps the calls readable")]
    fn store(spec: Value) -> ExecutionStore {
        let mut whole = json!({"connection": {"secretRef": {"name": "db"}}});
        for (name, value) in spec.as_object().unwrap() {
            whole[name] = value.clone();
        }
        let mut store = ExecutionStore::new("jobs", serde_json::from_value(whole).unwrap());
        store.metadata.namespace = Some("prod".to_owned());
        store
    }

    fn there_and_back(store: &ExecutionStore) -> Effective {
        let table = &store.spec.table;
        read(&record(store).to_string(), &table.schema.0, &table.name.0).unwrap()
    }

    /// Columns that a spec can name.
    const COLUMNS: [&str; 16] = [
        "id",
        "jobId",
        "executionNumber",
        "status",
        "startedAt",
        "completedAt",
        "error",
        "jobType",
        "heartbeatAt",
        "checkpoint",
        "checkpointAt",
        "workload",
        "createdAt",
        "timeout",
        "deadlineAt",
        "owner",
    ];

    /// Generates any spec that decides something.
    fn specs() -> impl Strategy<Value = Value> {
        let name = || "[a-z_][a-z0-9_$]{0,8}".prop_map(Value::String);
        let texts =
            |least: usize| prop::collection::vec("[a-z' \\\\\"é]{1,9}".prop_map(Value::String), least..4);
        let length = || "[0-9]{1,4}(h|m|s|ms)([0-9]{1,3}s)?".prop_map(Value::String);
        let maybe = |value: BoxedStrategy<Value>| prop::option::of(value);
        let columns = prop::collection::hash_map(prop::sample::select(COLUMNS.to_vec()), name(), 0..12);
        let table = (name(), name(), columns, (texts(0), texts(1), texts(1), texts(1), texts(0)), "[A-Z][a-z]{2,5}")
            .prop_map(|(schema, table, columns, (scheduled, running, completed, failed, cancelled), zone)| {
                json!({"schema": schema, "name": table, "columns": columns, "timeZone": zone, "statuses": {
                    "scheduled": scheduled, "running": running, "completed": completed, "failed": failed,
                    "cancelled": cancelled}})
            });
        let jobs = (name(), name(), name(), texts(1), length()).prop_map(|(table, id, type_, finished, grace)| {
            json!({"name": table, "columns": {"id": id, "type": type_}, "finished": finished, "gracePeriod": grace})
        });
        let grace = || length().prop_map(|grace| json!({"gracePeriod": grace}));
        (
            (maybe(table.boxed()), maybe(jobs.boxed()), maybe(grace().boxed()), maybe(grace().boxed())),
            (maybe(length().boxed()), maybe(length().boxed()), maybe(length().boxed())),
            (
                maybe((0..99_i32).prop_map(|n| json!({"threshold": n})).boxed()),
                prop::option::of("[a-z]{1,9}"),
            ),
        )
            .prop_map(
                |(
                    (table, jobs, single_active_execution, workloads),
                    (timeout, grace, heartbeat),
                    (long, owner),
                )| {
                    let mut spec = json!({"connection": {"secretRef": {"name": "db"}, "schemaOwner": owner}});
                    for (name, value) in [
                        ("table", table),
                        ("jobs", jobs),
                        ("singleActiveExecution", single_active_execution),
                        ("workloads", workloads),
                        ("defaultTimeout", timeout),
                        ("gracePeriod", grace),
                        ("heartbeatTimeout", heartbeat),
                        ("longRunning", long),
                    ] {
                        if let Some(value) = value {
                            spec[name] = value;
                        }
                    }
                    spec
                },
            )
    }

    proptest! {
        #[test]
        fn nothing_that_decides_is_lost_on_the_way(spec in specs()) {
            let store = store(spec);
            let read = there_and_back(&store);
            prop_assert_eq!(differences(&store.spec, &read.spec), Vec::new());
            prop_assert_eq!(judged(&store.spec), judged(&read.spec));
            prop_assert_eq!((read.namespace.as_str(), read.name.as_str()), ("prod", "jobs"));
        }
    }

    #[test]
    fn a_recorded_adapter_stands_for_the_table_of_its_record_only() {
        let recorded = record(&store(json!({"adapter": "river"}))).to_string();
        let read = |table| read(&recorded, "public", table);
        assert_eq!(read("river_job").unwrap().spec.adapter.as_deref(), Some("river"));
        assert_eq!(read("t").unwrap_err().why, "its adapter is for another table");
    }

    #[test]
    fn nothing_of_people_or_secrets_is_recorded() {
        let recorded = record(&store(json!({
            "connection": {"secretRef": {"name": "topsecret"}},
            "notifications": {"channels": [{"name": "ops", "email": {"smtpSecretRef": {"name": "topsecret"}, "to": ["a@b.example"]}}]},
        })));
        let text = recorded.to_string();
        assert!(!text.contains("topsecret") && !text.contains("b.example"), "{text}");
    }

    #[test]
    fn what_another_version_recorded_is_not_read_in_part() {
        let mut recorded = record(&store(json!({})));
        recorded["operator"] = json!("9.0.0");
        recorded["spec"]["table"]["rowsOf"] = json!([{"column": "app"}]);
        let unreadable = read(&recorded.to_string(), "public", "job_executions").unwrap_err();
        assert_eq!(
            (unreadable.operator.as_str(), unreadable.why.as_str()),
            ("9.0.0", "it does not know table.rowsOf")
        );
        // An older version does not have what was added later, which has its default.
        recorded["spec"]["table"].as_object_mut().unwrap().remove("rowsOf");
        recorded["spec"].as_object_mut().unwrap().remove("longRunning");
        recorded["spec"]["table"].as_object_mut().unwrap().remove("statuses");
        let read = read(&recorded.to_string(), "public", "job_executions").unwrap();
        assert_eq!(read.spec.long_running.threshold, 5);
    }

    #[test]
    fn a_table_is_the_one_whose_oid_it_is() {
        let recorded = record(&store(json!({"table": {"schema": "other", "name": "secret"}})));
        let read = read(&recorded.to_string(), "public", "mine").unwrap();
        assert_eq!((read.spec.table.schema.0.as_str(), read.spec.table.name.0.as_str()), ("public", "mine"));
    }

    #[test]
    fn lengths_are_compared_as_such() {
        let (one, other) = (store(json!({"defaultTimeout": "1h"})), store(json!({"defaultTimeout": "60m"})));
        assert_eq!(differences(&one.spec, &other.spec), Vec::new());
        let other = store(json!({"defaultTimeout": "2h", "table": {"columns": {"jobType": "kind"}}}));
        let places: Vec<String> =
            differences(&one.spec, &other.spec).into_iter().map(|(place, ..)| place).collect();
        assert_eq!(places, ["defaultTimeout", "table.columns.jobType"]);
    }
}
