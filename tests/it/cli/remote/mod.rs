//! `--store`: the same commands through the operator's API, over a real port-forward.

mod same;
mod way;
mod who;

use std::process::Command;

use kube::config::{AuthInfo, Kubeconfig};
use serde_json::{Value, json};

use super::Ran;
use crate::support::https::Https;
use crate::support::kubelet::Kubelet;
use crate::support::{Operator, World, rbac};

/// The role with all permissions for stores here.
const ADMINISTRATOR: &str = "jobexec-administrator";

/// A world with an operator in a Pod, and an administrator who may use its API.
struct Remote {
    world: World,
    operator: Operator,
    https: Https,
    kubelet: Kubelet,
    kubeconfig: String,
    token: String,
}

impl Remote {
    /// Creates it with a store that only observes, once the operator has reconciled that.
    async fn of(world: World, env: &[(&str, &str)]) -> Self {
        let (operator, https) = world.serving(env).await;
        let kubelet = world.kubelet().await;
        let port = https.address().rsplit(':').next().unwrap().parse().unwrap();
        world.operators_pod(&kubelet, "operator", port, true).await;
        let token = world.token(ADMINISTRATOR).await;
        rbac::install_cli(&world.client, &world.namespace, ADMINISTRATOR).await;
        let kubeconfig = kubeconfig(&world, "administrator", &json!({"token": token}));
        // An ExecutionStore is a large type.
        Box::pin(world.store(json!({"mode": "Observe"}))).await;
        Box::pin(world.store_until(&operator, |status| status.metrics.is_some())).await;
        Self { world, operator, https, kubelet, kubeconfig, token }
    }

    /// The binary with `--store` and only a kube context.
    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_jobexec"));
        command
            .args(args)
            .args(["--store", &self.world.named("jobs")])
            .env_remove("DATABASE_URL")
            .env("KUBECONFIG", &self.kubeconfig)
            .env("JOBEXEC_OPERATOR_NAMESPACE", &self.world.namespace)
            .env("TZ", "UTC");
        command
    }

    fn run(&self, args: &[&str]) -> Ran {
        self.run_with(args, &[])
    }

    fn run_with(&self, args: &[&str], env: &[(&str, &str)]) -> Ran {
        Ran::of(self.command(args).envs(env.iter().copied()).output().unwrap())
    }

    /// Runs it, and checks its exit code and its error message.
    #[track_caller]
    fn fails(&self, args: &[&str], env: &[(&str, &str)], code: i32, told: &str) {
        let ran = self.run_with(args, env);
        assert_eq!(ran.code, Some(code), "{args:?} {env:?}\nstdout: {}\nstderr: {}", ran.out, ran.err);
        assert!(ran.err.contains(told), "{args:?} {env:?}: {}", ran.err);
    }
}

/// Writes a kubeconfig for the test's cluster with these credentials.
fn kubeconfig(world: &World, name: &str, auth: &Value) -> String {
    let mut config = Kubeconfig::read_from(world.kubeconfig()).unwrap();
    let auth: AuthInfo = serde_json::from_value(auth.clone()).unwrap();
    config.auth_infos[0].auth_info = Some(auth);
    world.file(name, &serde_json::to_string(&config).unwrap())
}

/// Creates a world with one stale execution.
async fn stale(test: &str) -> World {
    let world = World::new(test).await;
    world.sql("INSERT INTO job_executions VALUES (1, 1, 1, 'running', now() - interval '30 hours')").await;
    world
}
