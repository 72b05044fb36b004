//! A namespace, a database and a role for one test.

use std::fmt::Debug;
use std::path::PathBuf;
use std::process::{Command, Output};

use jobexec_operator::api::{
    ExecutionPolicy, ExecutionPolicyStatus, ExecutionStore, ExecutionStoreStatus, JobExecution,
    JobExecutionStatus,
};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::rbac::v1::Role;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{ApiResource, DynamicObject, ObjectMeta, Patch, PatchParams, PostParams};
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client, ResourceExt as _};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, PgPool};
use tokio::sync::OnceCell;

use super::{Operator, PATIENCE, rbac};

/// The eight rows of the case that started this project, with its `jobs` table.
pub(crate) const CASE: &str = include_str!("../../../demo/case.sql");

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

/// The servers of a world.
struct Ground {
    kubeconfig: PathBuf,
    database_url: url::Url,
    /// Set if the servers belong to the test alone.
    cluster: Option<devcluster::Cluster>,
}

impl Ground {
    /// The dev cluster that all tests share.
    fn shared() -> Self {
        let var = |name| {
            std::env::var(name).unwrap_or_else(|_| panic!("no {name}: run the tests with `make test`"))
        };
        assert_eq!(var("DEVCLUSTER"), "1", "not on a dev cluster: run the tests with `make test`");
        Self {
            kubeconfig: var("KUBECONFIG").into(),
            database_url: var("DATABASE_URL").parse().unwrap(),
            cluster: None,
        }
    }

    /// Reports whether it has an API server, or Postgres alone.
    fn has_cluster(&self) -> bool {
        self.kubeconfig.exists()
    }

    /// Installs the CRDs, on the shared cluster only once.
    async fn installed(self) -> Self {
        static INSTALLED: OnceCell<()> = OnceCell::const_new();
        if !self.has_cluster() {
            return self;
        }
        let install = async || install_crds(&client(&self).await, jobexec_operator::api::crds()).await;
        INSTALLED.get_or_init(install).await;
        self
    }

    /// A cluster for this test alone.
    fn own(options: &devcluster::Options) -> Self {
        let cluster = devcluster::Cluster::start(options, &mut devcluster::Quiet).unwrap();
        Self {
            kubeconfig: cluster.kubeconfig().to_owned(),
            database_url: cluster.database_url().parse().unwrap(),
            cluster: Some(cluster),
        }
    }
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

    /// The URL that the operator's role logs in with.
    pub(crate) fn url(&self, password: &str) -> String {
        let mut url = self.admin_url.clone();
        url.set_username(&self.role).unwrap();
        url.set_password(Some(&password.replace('/', "%2F"))).unwrap();
        url.to_string()
    }

    /// The URL of the test's database as its superuser.
    pub(crate) fn superuser(&self) -> String {
        self.admin_url.to_string()
    }

    /// Runs the binary to its end, with the URL of the database's superuser in `DATABASE_URL`.
    pub(crate) fn jobexec(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_jobexec"))
            .args(args)
            .env("DATABASE_URL", self.admin_url.as_str())
            .output()
            .unwrap()
    }

    /// Runs SQL as the superuser, in one transaction: again after a deadlock with the operator, as a DROP may cause.
    pub(crate) async fn sql(&self, sql: &str) {
        loop {
            match sqlx::raw_sql(AssertSqlSafe(sql)).execute(&self.pool).await {
                Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("40P01") => {}
                outcome => {
                    outcome.unwrap_or_else(|error| panic!("{sql}: {error}"));
                    return;
                }
            }
        }
    }

    /// The single value that a query returns.
    pub(crate) async fn one<T>(&self, sql: &str) -> T
    where
        T: Send + Unpin + sqlx::Type<sqlx::Postgres> + for<'r> sqlx::Decode<'r, sqlx::Postgres> + 'static,
    {
        sqlx::query_scalar(AssertSqlSafe(sql))
            .fetch_one(&self.pool)
            .await
            .unwrap_or_else(|e| panic!("{sql}: {e}"))
    }

    /// Waits until a query returns true.
    pub(crate) async fn until_true(&self, sql: &str) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !self.one::<Option<bool>>(sql).await.unwrap_or_default() {
            assert!(tokio::time::Instant::now() < deadline, "never true: {sql}");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    }

    /// Ends every session of the operator's role on the server.
    pub(crate) async fn terminate(&self) -> i64 {
        self.one(&format!(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE usename = '{}'",
            self.role
        ))
        .await
    }

    /// The status of a row of `job_executions`.
    pub(crate) async fn status(&self, id: i64) -> String {
        self.one(&format!("SELECT status::text FROM job_executions WHERE id = {id}")).await
    }

    /// Connects the operator to a different API server in front of the real one, and returns a client of the real one
    /// that has no identity of its own.
    pub(crate) async fn redirect_operator(&self, server: &str) -> Client {
        let path = self.kubeconfig();
        let mut kubeconfig = Kubeconfig::read_from(&path).unwrap();
        let mut anonymous = kubeconfig.clone();
        anonymous.auth_infos[0].auth_info = Some(AuthInfo::default());
        let cluster = kubeconfig.clusters[0].cluster.as_mut().unwrap();
        cluster.server = Some(server.to_owned());
        cluster.certificate_authority_data = None;
        std::fs::write(&path, serde_json::to_string(&kubeconfig).unwrap()).unwrap();
        let options = KubeConfigOptions::default();
        let mut config = kube::Config::from_custom_kubeconfig(anonymous, &options).await.unwrap();
        config.default_retry = false;
        Client::try_from(config).unwrap()
    }

    /// Starts the operator in this namespace.
    pub(crate) fn operator(&self) -> Operator {
        self.operator_with(&[])
    }

    /// Starts the operator in this namespace with further environment.
    pub(crate) fn operator_with(&self, env: &[(&str, &str)]) -> Operator {
        Operator::start(&self.namespace, &self.kubeconfig(), self.folder.path().join("log"), env)
    }

    /// Starts the operator for these namespaces, with a log of its own by this name.
    pub(crate) fn operator_in(&self, namespaces: &str, log: &str, env: &[(&str, &str)]) -> Operator {
        Operator::start(namespaces, &self.kubeconfig(), self.folder.path().join(log), env)
    }

    /// The kubeconfig of the operator.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("kubeconfig")
    }

    /// The kubeconfig of a cluster administrator.
    pub(crate) fn admin_kubeconfig(&self) -> PathBuf {
        self.admin_kubeconfig.clone()
    }

    /// Starts the operator as a `Deployment` would, as the operator's `ServiceAccount` of its namespace.
    pub(crate) async fn deployed(&self, deployment: &Value) -> Operator {
        let namespace = deployment["metadata"]["namespace"].as_str().unwrap();
        let kubeconfig = self.folder.path().join("deployed");
        rbac::kubeconfig(&self.client, &self.admin_kubeconfig, namespace, &kubeconfig).await;
        let container = &deployment["spec"]["template"]["spec"]["containers"][0];
        Operator::of_container(container, &kubeconfig, self.folder.path().join("log"))
    }

    /// Labels the namespace.
    pub(crate) async fn label_namespace(&self, labels: Value) {
        let patch = json!({"metadata": {"labels": labels}});
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        namespaces.patch(&self.namespace, &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    }

    /// The objects of a kind in this namespace.
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Creates or replaces a Secret that may be used for notifications.
    pub(crate) async fn secret(&self, name: &str, data: Value) {
        self.secret_for(name, json!({"jobexec.dev/use": "notifications"}), data).await;
    }

    /// Creates or replaces a Secret with these labels, if there is an API server: only an operator reads it.
    pub(crate) async fn secret_for(&self, name: &str, labels: Value, data: Value) {
        if !self.has_cluster {
            return;
        }
        let metadata = json!({"name": name, "labels": labels});
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": data});
        self.api::<Secret>()
            .patch(name, &PatchParams::apply("test").force(), &Patch::Apply(secret))
            .await
            .unwrap();
    }

    /// Returns a store with the Secret `db`, the given additions to its spec, and a short poll interval.
    pub(crate) fn store_with(name: &str, spec: Value) -> Value {
        let mut object = json!({
            "apiVersion": "jobexec.dev/v1alpha1", "kind": "ExecutionStore", "metadata": {"name": name},
            "spec": {
                "connection": {"secretRef": {"name": "db"}}, "pollInterval": "1s",
                // Many tests have many stale rows; the circuit breaker has tests of its own.
                "maxFailuresPerSweep": 1_000_000,
                // The operator's objects have tests of their own too.
                "executionObjects": {"enabled": false},
            },
        });
        merge(&mut object["spec"], spec);
        object
    }

    /// Creates or changes the store `jobs`.
    pub(crate) async fn store(&self, spec: Value) -> ExecutionStore {
        self.apply("jobs", Self::store_with("jobs", spec)).await.unwrap()
    }

    /// Changes the store `jobs`, and waits until the operator has observed the change.
    pub(crate) async fn store_changed(&self, operator: &Operator, spec: Value) {
        let generation = self.store(spec).await.metadata.generation;
        self.store_until(operator, |s| s.observed_generation == generation).await;
    }

    /// Creates or changes a `JobExecution` of the store `jobs`.
    pub(crate) async fn execution(&self, name: &str, id: &str, spec: Value) -> JobExecution {
        self.apply(name, Self::execution_with(name, id, spec)).await.unwrap()
    }

    /// Returns a `JobExecution` of the store `jobs`.
    pub(crate) fn execution_with(name: &str, id: &str, spec: Value) -> Value {
        let mut object = json!({
            "apiVersion": "jobexec.dev/v1alpha1", "kind": "JobExecution", "metadata": {"name": name},
            "spec": {"storeRef": {"name": "jobs"}, "executionId": id},
        });
        merge(&mut object["spec"], spec);
        object
    }

    /// Creates or changes an `ExecutionPolicy` of the store `jobs`.
    pub(crate) async fn policy(&self, name: &str, spec: Value) -> ExecutionPolicy {
        self.apply(name, Self::policy_with(name, spec)).await.unwrap()
    }

    /// Returns an `ExecutionPolicy` of the store `jobs`.
    pub(crate) fn policy_with(name: &str, spec: Value) -> Value {
        let mut object = json!({
            "apiVersion": "jobexec.dev/v1alpha1", "kind": "ExecutionPolicy", "metadata": {"name": name},
            "spec": {"storeRef": {"name": "jobs"}},
        });
        merge(&mut object["spec"], spec);
        object
    }

    /// Deletes an object.
    pub(crate) async fn delete<K>(&self, name: &str)
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
        K::DynamicType: Default,
    {
        self.api::<K>().delete(name, &kube::api::DeleteParams::default()).await.unwrap();
    }

    /// Sets an annotation of the store `jobs` as a user would.
    pub(crate) async fn annotate(&self, key: &str, value: &str) {
        let patch = json!({"metadata": {"annotations": {key: value}}});
        self.api::<ExecutionStore>()
            .patch("jobs", &PatchParams::default(), &Patch::Merge(patch))
            .await
            .unwrap();
    }

    /// Applies an object as a user would.
    pub(crate) async fn apply<K>(&self, name: &str, object: Value) -> Result<K, kube::Error>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope> + Clone + DeserializeOwned + Debug,
        K::DynamicType: Default,
    {
        self.api::<K>().patch(name, &PatchParams::apply("test").force(), &Patch::Apply(object)).await
    }

    /// Creates a Pod once the namespace accepts one.
    pub(crate) async fn pod(&self, name: &str, pod: Value) {
        use k8s_openapi::api::core::v1::{Pod, ServiceAccount};
        let account =
            await_condition(self.api::<ServiceAccount>(), "default", |o: Option<&ServiceAccount>| {
                o.is_some()
            });
        tokio::time::timeout(PATIENCE, account).await.unwrap().unwrap();
        self.apply::<Pod>(name, pod).await.unwrap();
    }

    /// Waits until the status of the store `jobs` is as wanted, and returns it.
    pub(crate) async fn store_until(
        &self,
        operator: &Operator,
        wanted: impl Fn(&ExecutionStoreStatus) -> bool,
    ) -> ExecutionStoreStatus {
        self.store_named_until(operator, "jobs", wanted).await
    }

    /// Waits until the status of a store is as wanted, and returns it.
    pub(crate) async fn store_named_until(
        &self,
        operator: &Operator,
        name: &str,
        wanted: impl Fn(&ExecutionStoreStatus) -> bool,
    ) -> ExecutionStoreStatus {
        let as_wanted =
            |store: Option<&ExecutionStore>| store.and_then(|s| s.status.as_ref()).is_some_and(&wanted);
        let store = self.until(operator, name, as_wanted).await;
        store.status.unwrap()
    }

    /// Waits until the status of a `JobExecution` is as wanted, and returns it.
    pub(crate) async fn execution_until(
        &self,
        operator: &Operator,
        name: &str,
        wanted: impl Fn(&JobExecutionStatus) -> bool,
    ) -> JobExecutionStatus {
        let as_wanted = |e: Option<&JobExecution>| e.and_then(|e| e.status.as_ref()).is_some_and(&wanted);
        let execution = self.until(operator, name, as_wanted).await;
        execution.status.unwrap()
    }

    /// Waits until the status of an `ExecutionPolicy` describes its latest spec and is as wanted, and returns it.
    pub(crate) async fn policy_until(
        &self,
        operator: &Operator,
        name: &str,
        wanted: impl Fn(&ExecutionPolicyStatus) -> bool,
    ) -> ExecutionPolicyStatus {
        let as_wanted = |p: Option<&ExecutionPolicy>| {
            p.is_some_and(|p| {
                p.status.as_ref().is_some_and(|s| s.observed_generation == p.metadata.generation && wanted(s))
            })
        };
        let policy = self.until(operator, name, as_wanted).await;
        policy.status.unwrap()
    }

    /// Waits until an object of any kind, which need not decode, has a condition with this reason, and returns all.
    pub(crate) async fn raw_conditions_until(
        &self,
        operator: &Operator,
        kind: &str,
        name: &str,
        type_: &str,
        reason: &str,
    ) -> Vec<Condition> {
        let gvk = GroupVersionKind::gvk("jobexec.dev", "v1alpha1", kind);
        let resource = ApiResource::from_gvk(&gvk);
        let api = Api::<DynamicObject>::namespaced_with(self.client.clone(), &self.namespace, &resource);
        let conditions = |object: &DynamicObject| -> Vec<Condition> {
            serde_json::from_value(object.data["status"]["conditions"].clone()).unwrap_or_default()
        };
        let wanted = |object: Option<&DynamicObject>| {
            object.is_some_and(|o| conditions(o).iter().any(|c| c.type_ == type_ && c.reason == reason))
        };
        let waited = tokio::time::timeout(PATIENCE, await_condition(api, name, wanted)).await;
        let object =
            waited.unwrap_or_else(|_| panic!("{kind} {name} was not told {reason}\n{}", operator.log()));
        conditions(&object.unwrap().unwrap())
    }

    /// Waits until an object is as wanted, and returns it; otherwise prints it and the operator's log.
    async fn until<K>(&self, operator: &Operator, name: &str, wanted: impl Fn(Option<&K>) -> bool) -> K
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope>
            + Clone
            + DeserializeOwned
            + Debug
            + Send
            + serde::Serialize
            + 'static,
        K::DynamicType: Default,
    {
        let waited = tokio::time::timeout(PATIENCE, await_condition(self.api::<K>(), name, wanted)).await;
        if let Ok(found) = waited {
            return found.unwrap().unwrap();
        }
        let now = self.api::<K>().get_opt(name).await.unwrap();
        panic!("{name} did not become as wanted: {now:#?}\n{}", operator.log());
    }

    /// Waits for an Event about `regarding` with this reason, and returns its note.
    pub(crate) async fn event_until(&self, operator: &Operator, regarding: &str, reason: &str) -> String {
        let fits = |e: &Event| {
            e.reason.as_deref() == Some(reason)
                && e.regarding.as_ref().and_then(|r| r.name.as_deref()) == Some(regarding)
        };
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            if let Some(event) = self.events().await.into_iter().find(&fits) {
                return event.note.unwrap_or_default();
            }
            assert!(tokio::time::Instant::now() < deadline, "no Event {reason}\n{}", operator.log());
            self.event_change().await;
        }
    }

    /// Removes the operator's permissions for a resource.
    pub(crate) async fn forbid(&self, resource: &str) {
        let roles = self.api::<Role>();
        let mut role = roles.get("jobexec-operator").await.unwrap();
        role.metadata.managed_fields = None;
        for rule in role.rules.iter_mut().flatten() {
            rule.resources.iter_mut().flatten().for_each(|r| *r = r.replace(resource, "nothing"));
        }
        roles.replace("jobexec-operator", &PostParams::default(), &role).await.unwrap();
    }

    /// Every Event of this namespace.
    pub(crate) async fn events(&self) -> Vec<Event> {
        self.api::<Event>().list(&kube::api::ListParams::default()).await.unwrap().items
    }

    /// Waits for any Event, or for a moment.
    async fn event_change(&self) {
        use futures::TryStreamExt as _;
        let params = kube::api::WatchParams::default().timeout(1);
        let events = self.api::<Event>().watch(&params, "0").await.unwrap();
        let mut events = std::pin::pin!(events);
        let _ = events.try_next().await;
    }

    /// Requests a sweep as a user would, and waits until it has run.
    pub(crate) async fn request_sweep(&self, operator: &Operator) -> ExecutionStoreStatus {
        let request = uuid::Uuid::new_v4().to_string();
        self.annotate("jobexec.dev/sweep-requested", &request).await;
        self.store_until(operator, |s| s.observed_sweep_request.as_ref() == Some(&request)).await
    }
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

async fn client(ground: &Ground) -> Client {
    if !ground.has_cluster() {
        // Nothing listens there.
        let nowhere = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
        return Client::try_from(nowhere).unwrap();
    }
    let kubeconfig = Kubeconfig::read_from(&ground.kubeconfig).unwrap();
    let config =
        kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

async fn install_crds(client: &Client, crds: Vec<CustomResourceDefinition>) {
    for crd in crds {
        let api = Api::all(client.clone());
        let name = crd.name_any();
        api.patch(&name, &PatchParams::apply("test").force(), &Patch::Apply(&crd)).await.unwrap();
        let established = await_condition(api, &name, conditions::is_crd_established());
        tokio::time::timeout(PATIENCE, established).await.unwrap().unwrap();
    }
}
