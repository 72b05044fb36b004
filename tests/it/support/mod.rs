//! A namespace, a database and a role for each test, and the tools to use them.

pub(crate) mod browser;
pub(crate) mod client;
pub(crate) mod foreign;
pub(crate) mod helm;
pub(crate) mod hook;
pub(crate) mod hostile;
pub(crate) mod https;
pub(crate) mod kubectl;
pub(crate) mod kubelet;
pub(crate) mod machine;
pub(crate) mod many;
pub(crate) mod operator;
pub(crate) mod pgbouncer;
pub(crate) mod prometheus;
pub(crate) mod proxy;
pub(crate) mod rbac;
pub(crate) mod replica;
pub(crate) mod smtp;
pub(crate) mod tutorial;
pub(crate) mod world;

pub(crate) use operator::Operator;
pub(crate) use pgbouncer::PgBouncer;
pub(crate) use world::World;

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use tokio::net::TcpSocket;

/// The time to wait for something that must happen. A wait takes this long only if something is broken.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// A port at which nothing listens, nor can while the socket exists.
pub(crate) fn port_of_nobody() -> (TcpSocket, u16) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let port = socket.local_addr().unwrap().port();
    (socket, port)
}

/// Does work that takes long and would block a task.
pub(crate) async fn blocking<T: Send + 'static, E: std::fmt::Debug + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> T {
    tokio::task::spawn_blocking(work).await.unwrap().unwrap()
}

/// Reports whether a condition has this status and reason.
pub(crate) fn is(conditions: &[Condition], type_: &str, status: &str, reason: &str) -> bool {
    conditions.iter().any(|c| c.type_ == type_ && c.status == status && c.reason == reason)
}

/// The message of a condition.
pub(crate) fn message(conditions: &[Condition], type_: &str) -> String {
    conditions.iter().find(|c| c.type_ == type_).map(|c| c.message.clone()).unwrap_or_default()
}
