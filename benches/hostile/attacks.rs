//! Attacks by somebody who may write the objects of one namespace, the rows of one table, or the server that a store
//! names.

use futures::{StreamExt as _, stream};
use jobexec_operator::api::{ExecutionPolicy, ExecutionStore, JobExecution};
use serde_json::{Map, Value, json};

use crate::support::World;
use crate::support::hostile::{Harm, Hostile};

/// The number of concurrent requests.
const AT_ONCE: usize = 4;

/// An attack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attack {
    /// 40 policies of 0.5 MB.
    Policies,
    /// 200 objects of 1 MB, and 4,000 small ones.
    Objects,
    /// Six rows with 20 MB in each text.
    Rows,
    /// Servers that send invalid responses.
    Servers,
}

/// All attacks.
pub(crate) const ALL: [Attack; 4] = [Attack::Policies, Attack::Objects, Attack::Rows, Attack::Servers];

impl Attack {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Policies => "policies",
            Self::Objects => "objects",
            Self::Rows => "rows",
            Self::Servers => "servers",
        }
    }

    pub(crate) async fn launch(self, world: &World) {
        match self {
            Self::Policies => policies(world).await,
            Self::Objects => objects(world).await,
            Self::Rows => rows(world).await,
            Self::Servers => servers(world).await,
        }
    }
}

async fn apply<K>(world: &World, objects: Vec<Value>)
where
    K: kube::Resource<Scope = kube::core::NamespaceResourceScope>
        + Clone
        + serde::de::DeserializeOwned
        + std::fmt::Debug,
    K::DynamicType: Default,
{
    let each = objects.into_iter().map(|object| async move {
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        world.apply::<K>(&name, object).await.unwrap();
    });
    stream::iter(each).buffer_unordered(AT_ONCE).collect::<()>().await;
}

async fn policies(world: &World) {
    let policy = |number: usize| {
        let texts = |kind: &str| -> Vec<_> {
            (0..1_000).map(|n| format!("{kind}{number}-{n:-<width$}", width = 240)).collect()
        };
        let selector = json!({"jobIds": texts("id"), "jobTypes": texts("type")});
        World::policy_with(&format!("large-{number}"), json!({"timeout": "1h", "selector": selector}))
    };
    apply::<ExecutionPolicy>(world, (0..40).map(policy).collect()).await;
}

async fn objects(world: &World) {
    let prefix = "l".repeat(60);
    let labels: Map<String, Value> =
        (0..1_500).map(|n| (format!("{prefix}.{prefix}.{prefix}.io/k{n}"), json!("v".repeat(63)))).collect();
    let large = |n: usize| {
        let mut object =
            World::execution_with(&format!("large-{n}"), &format!("{n}"), json!({"timeout": "1h"}));
        object["metadata"]["labels"] = Value::Object(labels.clone());
        object["metadata"]["annotations"] = json!({"note": "a".repeat(250_000)});
        object
    };
    for some in (0..200).collect::<Vec<_>>().chunks(20) {
        apply::<JobExecution>(world, some.iter().copied().map(large).collect()).await;
    }
    let small = |n: usize| {
        World::execution_with(&format!("small-{n}"), &"x".repeat(200 + n % 50), json!({"timeout": "1h"}))
    };
    apply::<JobExecution>(world, (0..4_000).map(small).collect()).await;
}

async fn rows(world: &World) {
    world
        .sql(
            "CREATE TABLE heavy (id bigint PRIMARY KEY, job_id text, job_type text, execution_number integer, \
             status text, started_at timestamptz, completed_at timestamptz); \
             INSERT INTO heavy SELECT n, repeat(chr(96 + n), 20000000), repeat(chr(102 + n), 20000000), n, 'running', \
             now() - interval '2 days', NULL FROM generate_series(1, 6) n",
        )
        .await;
    world.sql(&format!("GRANT SELECT, UPDATE ON heavy TO {}", world.role)).await;
    let table = json!({"name": "heavy", "columns": {"jobType": "job_type"}});
    let store = World::store_with("heavy", json!({"table": table, "executionObjects": {"enabled": true}}));
    world.apply::<ExecutionStore>("heavy", store).await.unwrap();
}

/// The misbehaviour of the servers: they announce too much, send without end, or delay a login.
const HARMS: [Harm; 10] = [
    Harm::BigError,
    Harm::LateError,
    Harm::HugeRow,
    Harm::ManyRows,
    Harm::Notices,
    Harm::LateNotices,
    Harm::Parameters,
    Harm::Notifications,
    Harm::Scram,
    Harm::Drip,
];

async fn servers(world: &World) {
    for (number, harm) in HARMS.into_iter().enumerate() {
        let server = Hostile::start(harm).await;
        let name = format!("evil-{number}");
        world.secret(&name, json!({"uri": server.url("hunter2", "disable")})).await;
        let store = World::store_with(&name, json!({"connection": {"secretRef": {"name": name}}}));
        world.apply::<ExecutionStore>(&name, store).await.unwrap();
        // The server lives as long as the process.
        std::mem::forget(server);
    }
}
