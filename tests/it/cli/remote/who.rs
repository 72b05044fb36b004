//! The identity of the caller, and the message if a permission is missing.

use std::process::Command;

use serde_json::json;

use super::{Ran, Remote, kubeconfig, stale};
use crate::support::rbac;

#[tokio::test]
async fn the_token_is_that_of_the_context_or_the_one_that_is_given() {
    let remote = Remote::of(stale("remotetoken").await, &[]).await;
    let world = &remote.world;
    let list = ["list", "-o", "name"];
    let bare = world.file("bare", &remote.token);
    let file = world.file("token", &format!("{}\n", remote.token));
    let credential = json!({
        "apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential",
        "status": {"token": remote.token, "expirationTimestamp": "2099-01-01T00:00:00Z"},
    });
    let credential = world.file("credential", &credential.to_string());
    let exec = json!({"exec": {
        "apiVersion": "client.authentication.k8s.io/v1", "command": "cat", "args": [credential],
        "interactiveMode": "Never",
    }});
    for (name, auth) in [("file", json!({"tokenFile": bare})), ("exec", exec)] {
        let context = kubeconfig(world, name, &auth);
        assert_eq!(remote.run_with(&list, &[("KUBECONFIG", &context)]).ended(0), "1\n", "{name}");
    }

    // A certificate is not a token; an explicit token is sent nevertheless.
    let address = format!("https://{}", remote.https.address());
    let certificate = kubeconfig(world, "certificate", &json!({}));
    let at = [("KUBECONFIG", certificate.as_str()), ("JOBEXEC_API_URL", address.as_str())];
    let list = ["list", "-o", "name", "--insecure-skip-tls-verify"];
    remote.fails(&list, &at, 1, "the current kube context has no token");
    remote.fails(&list[..3], &at[..1], 1, "export JOBEXEC_TOKEN=$(kubectl");
    let given = [&at[..], &[("JOBEXEC_TOKEN", remote.token.as_str())]].concat();
    assert_eq!(remote.run_with(&list, &given).ended(0), "1\n");
    // The file takes precedence over the variable.
    let nonsense = [&at[..], &[("JOBEXEC_TOKEN", "nonsense")]].concat();
    let with_file = [&list[..], &["--token-file", &file]].concat();
    assert_eq!(remote.run_with(&with_file, &nonsense).ended(0), "1\n");
    remote.fails(&list, &nonsense, 1, "and give it as JOBEXEC_TOKEN or with --token-file");
    remote.fails(&["list"], &[("JOBEXEC_TOKEN", "two words")], 1, "the token in JOBEXEC_TOKEN is invalid");
    remote.fails(&["list", "--token-file", "/nonexistent"], &[], 1, "cannot read the token in /nonexistent");
}

#[tokio::test]
async fn what_somebody_may_not_is_told_with_what_helps() {
    let remote = Remote::of(stale("remoteforbidden").await, &[]).await;
    let world = &remote.world;
    let token = rbac::token(&world.client, &world.namespace, "nobody", &[]).await;
    let nobody = kubeconfig(world, "nobody", &json!({"token": token}));
    let as_nobody = [("KUBECONFIG", nobody.as_str())];
    remote.fails(&["list"], &as_nobody, 1, "you are not allowed to list Pods in the namespace");
    remote.fails(&["health"], &as_nobody, 2, "unreachable: you are not allowed to list Pods");

    let role = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "lists"},
        "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}],
    });
    rbac::apply(&world.client, &world.namespace, &role.to_string()).await;
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "lists"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "lists"},
        "subjects": [{"kind": "ServiceAccount", "name": "nobody", "namespace": world.namespace}],
    });
    rbac::apply(&world.client, &world.namespace, &binding.to_string()).await;
    remote.fails(&["list"], &as_nobody, 1, "you are not allowed to forward a port of the Pod operator");

    // Through the administrator's port-forward, the caller still has no permissions.
    let token = [("JOBEXEC_TOKEN", token.as_str())];
    let told = "may not list jobexecutions.jobexec.dev";
    for args in [&["list"][..], &["explain", "1"], &["history"]] {
        remote.fails(args, &token, 1, told);
    }
    remote.fails(&["health"], &token, 2, told);
    remote.fails(&["cleanup", "--yes"], &token, 1, "may not create executionstores.jobexec.dev/cleanup");
    // A reader may read, but may not clean up.
    let reader = world.token("jobexec-reader").await;
    let reader = [("JOBEXEC_TOKEN", reader.as_str())];
    assert_eq!(remote.run_with(&["list", "-o", "name"], &reader).ended(0), "1\n");
    remote.fails(&["cleanup", "--yes"], &reader, 1, "may not create executionstores.jobexec.dev/cleanup");
    assert_eq!(world.status(1).await, "running");
    let none = ["--api-url", &format!("https://{}", remote.https.address()), "--insecure-skip-tls-verify"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_jobexec"));
    command.args(["list", "--store", &world.named("none")]).args(none).env("JOBEXEC_TOKEN", &remote.token);
    let ran = Ran::of(command.output().unwrap());
    assert!(
        ran.ended(1).is_empty() && ran.err.contains("see `kubectl get executionstores -A`"),
        "{}",
        ran.err
    );
}
