//! A namespace, a database and a role for one test.

mod database;
mod ground;
mod objects;
mod operator;
mod waits;

use std::path::PathBuf;

use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool};

use self::ground::{Ground, client, install_crds};
use super::rbac;

/// The eight rows of the case that started this project, with its `jobs` table.
pub(crate) const CASE: &str = include_str!("../../../../demo/case.sql");

/// The default table, empty.
pub(crate) const TABLE: &str = "CREATE TABLE job_executions (id bigint PRIMARY KEY, job_id bigint NOT NULL, \
     execution_number integer NOT NULL, status text NOT NULL, started_at timestamptz, completed_at timestamptz)";

/// A namespace, a database and a role of their own. Under `make test-sql` there is no API server: then there is no
/// namespace, and any request for an object fails.
pub(crate) struct World {
    pub(crate) client: Client,
    has_cluster: bool,
    pub(crate) namespace: String,
    /// The test's database, as its superuser.
    pub(crate) pool: PgPool,
    /// The role that the operator logs in with.
    pub(crate) role: String,
    admin_url: url::Url,
    admin_kubeconfig: PathBuf,
    folder: tempfile::TempDir,
    _cluster: Option<devcluster::Cluster>,
}

impl World {
    /// Creates a new world with the default table, empty, and the operator's schema, grants and Secret.
    pub(crate) async fn new(test: &str) -> Self {
        let world = Self::bare(test).await;
        world.sql(TABLE).await;
        world.prepare().await;
        world
    }

    /// Creates a new world with an empty database: no table, no schema of the operator, no Secret.
    pub(crate) async fn bare(test: &str) -> Self {
        Self::on(Ground::shared().installed().await, test).await
    }

    /// Like [`Self::new`], with the database on a server for this test alone.
    pub(crate) async fn on_server(test: &str, server: &devcluster::Server) -> Self {
        let ground = Ground { database_url: server.url().parse().unwrap(), ..Ground::shared() };
        let world = Self::on(ground.installed().await, test).await;
        world.sql(TABLE).await;
        world.prepare().await;
        world
    }

    /// Like [`Self::new`], on a cluster for this test alone with other CRDs.
    pub(crate) async fn on_own_cluster(test: &str, crds: Vec<CustomResourceDefinition>) -> Self {
        Self::on_cluster_with(test, crds, devcluster::Options::default()).await
    }

    /// Does the same with other options for the cluster.
    pub(crate) async fn on_cluster_with(
        test: &str,
        crds: Vec<CustomResourceDefinition>,
        options: devcluster::Options,
    ) -> Self {
        let ground = tokio::task::spawn_blocking(move || Ground::own(&options)).await.unwrap();
        install_crds(&client(&ground).await, crds).await;
        let world = Self::on(ground, test).await;
        world.sql(TABLE).await;
        world.prepare().await;
        world
    }

    async fn on(ground: Ground, test: &str) -> Self {
        let client = client(&ground).await;
        let has_cluster = ground.has_cluster();
        let suffix = &uuid::Uuid::new_v4().simple().to_string()[..8];
        let namespace = format!("{test}-{suffix}");
        if has_cluster {
            let meta = ObjectMeta { name: Some(namespace.clone()), ..ObjectMeta::default() };
            let object = Namespace { metadata: meta, ..Namespace::default() };
            Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &object).await.unwrap();
            rbac::install(&client, &namespace).await;
        }

        let mut admin_url = ground.database_url;
        let name = namespace.replace('-', "_");
        let server = PgPool::connect(admin_url.as_str()).await.unwrap();
        sqlx::raw_sql(AssertSqlSafe(format!("CREATE DATABASE {name}"))).execute(&server).await.unwrap();
        let role = format!("CREATE ROLE {name} LOGIN PASSWORD 'right/password'");
        sqlx::raw_sql(AssertSqlSafe(role)).execute(&server).await.unwrap();
        server.close().await;
        admin_url.set_path(&name);
        let pool = PgPool::connect(admin_url.as_str()).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        if has_cluster {
            rbac::kubeconfig(&client, &ground.kubeconfig, &namespace, &folder.path().join("kubeconfig"))
                .await;
        }
        let admin_kubeconfig = ground.kubeconfig;
        Self {
            client,
            has_cluster,
            namespace,
            pool,
            role: name,
            admin_url,
            admin_kubeconfig,
            folder,
            _cluster: ground.cluster,
        }
    }

    /// Creates a new world with the default table and the Secret `db`, whose role may create the operator's schema
    /// itself.
    pub(crate) async fn that_may_create(test: &str) -> Self {
        let world = Self::bare(test).await;
        world.sql(TABLE).await;
        world
            .sql(&format!(
                "GRANT SELECT, UPDATE ON job_executions TO {0}; GRANT CREATE ON DATABASE {0} TO {0}",
                world.role
            ))
            .await;
        world.secret("db", json!({"uri": world.url("right/password")})).await;
        world
    }

    /// Applies the operator's schema with the grants of its role, and creates the Secret `db`.
    pub(crate) async fn prepare(&self) {
        let role = self.role.clone();
        let output = self.jobexec(&["schema", "--apply", "--role", &role]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        self.secret("db", json!({"uri": self.url("right/password")})).await;
    }

    /// Creates a new world with these tables, and the permissions, indexes and Secret that a store with `spec` needs.
    pub(crate) async fn with(test: &str, tables: &str, spec: &Value) -> Self {
        let world = Self::bare(test).await;
        world.sql(tables).await;
        world.prepare_for(spec).await;
        world
    }

    /// Like [`Self::prepare`], for a store with this spec.
    pub(crate) async fn prepare_for(&self, spec: &Value) {
        let file = self.folder.path().join("store.yaml");
        std::fs::write(&file, Self::store_with("jobs", spec.clone()).to_string()).unwrap();
        let role = self.role.clone();
        let output = self.jobexec(&["schema", "-f", file.to_str().unwrap(), "--apply", "--role", &role]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        self.secret("db", json!({"uri": self.url("right/password")})).await;
    }

    /// Writes a file with this text, which exists as long as the world.
    pub(crate) fn file(&self, name: &str, text: &str) -> String {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }
}
