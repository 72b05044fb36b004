//! The connection to the API: the Pod, the port-forward, the address, the certificate.

use k8s_openapi::api::core::v1::Pod;
use kube::api::DeleteParams;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::{Remote, stale};
use crate::support::kubelet::acceptor;
use crate::support::port_of_nobody;

#[tokio::test]
async fn a_pod_that_is_ready_answers() {
    let remote = Remote::of(stale("remotepod").await, &[]).await;
    let world = &remote.world;
    let port = remote.https.address().rsplit(':').next().unwrap().parse().unwrap();
    world.operators_pod(&remote.kubelet, "a-late-one", port, false).await;
    assert_eq!(remote.run(&["list", "-o", "name"]).ended(0), "1\n");
    world.operators_pod(&remote.kubelet, "operator", port, false).await;
    remote.fails(&["list"], &[], 1, "is not ready: see `kubectl -n");

    // Nothing listens there any more, as the kubelet reports.
    let (_kept, nobody) = port_of_nobody();
    world.operators_pod(&remote.kubelet, "broken", nobody, true).await;
    remote.fails(&["list"], &[], 1, "the port-forward to the Pod broken failed: error forwarding port");
    remote.fails(&["health"], &[], 2, "unreachable: the port-forward");

    for pod in ["a-late-one", "operator", "broken"] {
        let at_once = DeleteParams::default().grace_period(0);
        world.api::<Pod>().delete(pod, &at_once).await.unwrap();
    }
    remote.fails(&["list"], &[], 1, "there is no operator in the namespace");
}

#[tokio::test]
async fn of_several_releases_the_one_that_is_named_answers() {
    let remote = Remote::of(stale("remoterelease").await, &[]).await;
    let world = &remote.world;
    // Its name sorts before that of the right one, and nothing listens there.
    let (_kept, nobody) = port_of_nobody();
    world.pod_of_release(&remote.kubelet, "other", "another", nobody, true).await;
    let list = ["list", "-o", "name"];
    let release = |name: &'static str| [("JOBEXEC_OPERATOR_RELEASE", name)];
    remote.fails(&list, &[], 1, "jobexec: ");
    assert_eq!(remote.run_with(&list, &release("jobexec-operator")).ended(0), "1\n");
    world.pod_of_release(&remote.kubelet, "other", "another", nobody, false).await;
    let named = [&list[..], &["--operator-release", "other"]].concat();
    remote.fails(&named, &release("jobexec-operator"), 1, "describe pod another");
    remote.fails(&list, &release("none"), 1, "app.kubernetes.io/instance=none. Name its namespace");
    remote.fails(&list, &release("a,b"), 2, "write the name of a release as `helm list` shows it");
}

#[tokio::test]
async fn a_certificate_is_checked_where_that_is_asked_for() {
    let world = stale("remotetls").await;
    let service = format!("jobexec-operator.{}.svc", world.namespace);
    let made = rcgen::generate_simple_self_signed([service, "127.0.0.1".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    let certificate = world.file("tls.crt", &made.cert.pem());
    let key = world.file("tls.key", &made.signing_key.serialize_pem());
    let wrong = world.file("wrong.crt", &other.cert.pem());
    let empty = world.file("empty.crt", "nothing");
    let remote = Remote::of(world, &[("TLS_CERT_FILE", &certificate), ("TLS_KEY_FILE", &key)]).await;
    let address = format!("https://{}", remote.https.address());
    let at = [("JOBEXEC_API_URL", address.as_str())];
    let list = ["list", "-o", "name"];
    let trusting = |file: &'static str| [&list[..], &["--certificate-authority", file]].concat();
    let (right, wrong, empty): (&'static str, &'static str, &'static str) =
        (certificate.leak(), wrong.leak(), empty.leak());
    for env in [&[][..], &at] {
        assert_eq!(remote.run_with(&trusting(right), env).ended(0), "1\n", "{env:?}");
        remote.fails(&trusting(wrong), env, 1, "TLS with the API failed: invalid peer certificate");
    }
    remote.fails(&list, &at, 1, "--certificate-authority, or skip the check");
    let unchecked = [&list[..], &["--insecure-skip-tls-verify"]].concat();
    assert_eq!(remote.run_with(&unchecked, &at).ended(0), "1\n");
    remote.fails(&trusting(empty), &at, 1, "Give a PEM file");
    remote.fails(&trusting("/nonexistent"), &at, 1, "cannot use the certificates in /nonexistent");
    remote.fails(&["list", "--api-url", "http://localhost"], &[], 2, "write https://HOST");
    remote.fails(
        &[&unchecked[..], &["--certificate-authority", right]].concat(),
        &at,
        2,
        "cannot be used with",
    );
    let (_kept, nobody) = port_of_nobody();
    remote.fails(
        &list,
        &[("JOBEXEC_API_URL", &format!("https://127.0.0.1:{nobody}"))],
        1,
        "cannot connect to 127.0.0.1:",
    );
}

/// Answers each connection with one of these responses, and closes it; `None`: without TLS.
async fn answering(answers: Vec<Option<String>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("https://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        for answer in answers {
            let (stream, _) = listener.accept().await.unwrap();
            let Some(answer) = answer else { continue };
            let mut stream = acceptor().accept(stream).await.unwrap();
            let mut request = vec![0; 64 * 1_024];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.shutdown().await;
        }
    });
    address
}

fn answer(status: &str, media_type: &str, body: &str) -> String {
    let length = body.len();
    format!("HTTP/1.1 {status}\r\ncontent-type: {media_type}\r\ncontent-length: {length}\r\n\r\n{body}")
}

/// A page with one execution, and the cursor of the next one.
fn page(id: &str, next: Option<&str>) -> String {
    let execution: Value = json!({
        "store": "n/s", "id": id, "status": "running", "phase": "running", "timeout_seconds": 1.0, "timeout_source": "a",
        "extended_by_seconds": 0.0, "on_stale": "Fail", "long_running": false, "of_a_later_version": 1,
    });
    answer(
        "200 OK",
        "application/json",
        &json!({"executions": [execution], "next": next, "unavailable": []}).to_string(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_answers_is_told_apart() {
    let problem =
        json!({"type": "t", "title": "t", "status": 409, "detail": "under way", "reason": "CleanupUnderWay"});
    let problem = answer("409 Conflict", "application/problem+json", &problem.to_string());
    let html = answer("502 Bad Gateway", "text/html", "<html>");
    let later = answer("200 OK", "application/json", "{\"executions\": 1}");
    let nothing = Some(String::new());
    let unhealthy = json!({"status": "unhealthy", "metrics": {
        "running_executions": 0, "scheduled_executions": 0, "long_running_executions": 0, "stale_executions": 0,
        "recent_executions_24h": 0, "timestamp": "2025-08-08T16:28:11Z",
    }, "stores": 1, "reason": "LoginFailed", "message": "mend the Secret"});
    let unhealthy = answer("503 Service Unavailable", "application/json", &unhealthy.to_string());
    let (list, write) = (&["list", "-o", "name"][..], &["cleanup", "--yes"][..]);
    for (args, answers, code, out, told) in [
        // An idle connection may be closed: the request is repeated over a new one.
        (list, vec![Some(page("1", Some("c"))), Some(page("2", None))], 0, "1\n2\n", ""),
        (list, vec![nothing.clone()], 1, "", "the API closed the connection before it answered"),
        (list, vec![None], 1, "", "was closed before the TLS handshake ended"),
        (list, vec![Some(html.clone())], 1, "", "is not the operator's API: status 502"),
        (list, vec![Some(later)], 1, "", "Use the jobexec of the operator's version"),
        (write, vec![Some(problem)], 1, "", "jobexec: under way\n"),
        (write, vec![nothing.clone()], 1, "", "`jobexec history` shows what it did"),
        (write, vec![None], 1, "", "and try again\n"),
        (
            &["health"],
            vec![Some(unhealthy)],
            2,
            "",
            "unreachable: n/s is unhealthy: LoginFailed: mend the Secret",
        ),
        (&["health"], vec![Some(html)], 2, "", "unreachable: the server that answers"),
    ] {
        let address = answering(answers).await;
        let more = ["--store", "n/s", "--api-url", &address, "--insecure-skip-tls-verify"];
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_jobexec"));
        command.args([args, &more].concat()).env("JOBEXEC_TOKEN", "t").env_remove("KUBECONFIG");
        let ran = super::Ran::of(command.output().unwrap());
        assert_eq!((ran.code, ran.out.as_str()), (Some(code), out), "{args:?} {}", ran.err);
        assert!(ran.err.contains(told), "{args:?} {told}: {}", ran.err);
    }
}
