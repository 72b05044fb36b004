//! Many stores of one database: store `s0` with table `t0`, and so on.

use jobexec_operator::api::ExecutionStore;
use serde_json::{Value, json};

use super::World;
use super::https::Https;

impl World {
    /// Creates tables like the default one that the operator may update, with a store each.
    pub(crate) async fn tables(&self, count: usize, spec: Value) {
        let create = |n| {
            let role = &self.role;
            format!(
                "CREATE TABLE t{n} (LIKE job_executions INCLUDING ALL); GRANT SELECT, UPDATE ON t{n} TO {role}"
            )
        };
        self.sql(&(0..count).map(create).collect::<Vec<_>>().join(";")).await;
        for n in 0..count {
            let mut spec = spec.clone();
            spec["table"] = json!({"name": format!("t{n}")});
            let name = format!("s{n}");
            self.apply::<ExecutionStore>(&name, Self::store_with(&name, spec)).await.unwrap();
        }
    }

    /// Creates three stores with this many overdue executions each, which the operator does not end, and waits until the
    /// API lists all of them. Returns the API for an administrator.
    pub(crate) async fn large_stores(&self, https: &Https, rows: u32) -> Https {
        // All connections of a store read at once.
        let spec = json!({"connection": {"poolSize": 5}, "mode": "Observe", "pollInterval": "1h"});
        self.tables(3, spec).await;
        for n in 0..3 {
            self.sql(&format!(
                "INSERT INTO t{n} SELECT n, n, 1, 'running', now() - interval '30 hours' FROM generate_series(1, {rows}) n; \
                 ANALYZE t{n}"
            ))
            .await;
        }
        let admin = https.with(&self.token("jobexec-administrator").await);
        let listed = |status, page: &Value| {
            let stores = page["executions"].as_array().map_or(0, Vec::len);
            status == 200 && stores > 0 && page["unavailable"] == json!([])
        };
        admin.until("/api/system/executions/running", listed).await;
        admin
    }

    /// Puts an overdue execution into each table.
    pub(crate) async fn overdue(&self, count: usize, id: usize) {
        self.overdue_in((0..count).map(|n| format!("t{n}")), id).await;
    }

    /// Does the same for these tables.
    pub(crate) async fn overdue_in(&self, tables: impl IntoIterator<Item = String>, id: usize) {
        let insert =
            |table| format!("INSERT INTO {table} VALUES ({id}, 1, 1, 'running', now() - interval '2 days')");
        self.sql(&tables.into_iter().map(insert).collect::<Vec<_>>().join(";")).await;
    }

    /// Waits until the execution with this id has failed in this many tables: it reads the records, since polling every
    /// table would take processor time from the operators.
    pub(crate) async fn until_failed(&self, count: usize, id: usize) {
        let recorded = "SELECT count(*) FROM jobexec.events WHERE action = 'Failed' AND execution_id =";
        self.until_true(&format!("SELECT ({recorded} '{id}') >= {count}")).await;
    }
}
