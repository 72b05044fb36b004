//! Proxies in front of Postgres and the API server that let them fail in one way at a time.

pub(crate) mod gate;
pub(crate) mod kubernetes;
mod postgres;
pub(crate) mod writes;

use std::sync::Arc;

use serde_json::json;
use tokio::net::TcpListener;

pub(crate) use gate::{Gate, Mode};
pub(crate) use kubernetes::{Canned, Kubernetes};
pub(crate) use writes::{Trap, Writes};

use super::World;

/// The proxies of one world. Its operator uses only these; the test itself connects to the servers directly.
pub(crate) struct Proxies {
    /// The proxy in front of Postgres.
    pub(crate) database: Arc<Gate>,
    /// The proxy in front of the API server.
    pub(crate) api: Arc<Kubernetes>,
    /// The writes that passed.
    pub(crate) writes: Arc<Writes>,
}

impl Proxies {
    /// Puts proxies in front of the servers of a world whose operator has not been started yet.
    pub(crate) async fn before(world: &World) -> Self {
        let gates = [Arc::<Gate>::default(), Arc::default()];
        let writes = Arc::new(Writes::new(gates.clone()));
        let [database, api] = gates;
        before_postgres(world, "db", &database, &writes).await;

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let upstream = world.redirect_operator(&format!("http://127.0.0.1:{port}")).await;
        let api = Arc::new(Kubernetes::new(upstream, api, writes.clone()));
        tokio::spawn(api.clone().serve(listener));
        Self { database, api, writes }
    }

    /// Puts a proxy in front of Postgres only, for clients that connect with this Secret.
    pub(crate) async fn before_postgres(world: &World, secret: &str) -> Arc<Gate> {
        let gates = [Arc::<Gate>::default(), Arc::default()];
        before_postgres(world, secret, &gates[0], &Arc::new(Writes::new(gates.clone()))).await;
        gates[0].clone()
    }

    /// Waits until a row of `job_executions` has this status.
    pub(crate) async fn row_until(&self, world: &World, id: i64, status: &str) {
        loop {
            let passed = self.writes.passed();
            if world.status(id).await == status {
                return;
            }
            self.writes.until(|now| now.reads > passed.reads).await;
        }
    }

    /// Waits until the operator has read from the database this many more times.
    pub(crate) async fn reads(&self, more: usize) {
        let before = self.writes.passed().reads;
        self.writes.until(|now| now.reads >= before + more).await;
    }
}

async fn before_postgres(world: &World, secret: &str, gate: &Arc<Gate>, writes: &Arc<Writes>) {
    // Without TLS, so that the proxy can read the messages.
    let mut url: url::Url =
        world.url("right/password").replace("sslmode=require", "sslmode=disable").parse().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let server = url.socket_addrs(|| None).unwrap()[0];
    url.set_port(Some(listener.local_addr().unwrap().port())).unwrap();
    world.secret(secret, json!({"uri": url.as_str()})).await;
    tokio::spawn(postgres::serve(listener, server, gate.clone(), writes.clone()));
}
