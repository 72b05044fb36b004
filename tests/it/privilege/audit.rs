//! The requests to an API server and its responses, from its audit log.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::rights::Right;
use crate::support::PATIENCE;

/// `ServiceAccount`s only; watches are logged when they begin.
const POLICY: &str = "\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
  - level: Metadata
    userGroups: ['system:serviceaccounts']
  - level: None
";

/// The log, and the policy that it is written by.
pub(super) struct Audit {
    folder: tempfile::TempDir,
}

/// A request, and the status of the response.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) right: Right,
    pub(super) code: u64,
}

impl Audit {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("policy.yaml"), POLICY).unwrap();
        Self { folder }
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    /// The arguments for kube-apiserver.
    pub(super) fn arguments(&self) -> Vec<String> {
        vec![
            format!("--audit-policy-file={}", self.folder.path().join("policy.yaml").display()),
            format!("--audit-log-path={}", self.log().display()),
        ]
    }

    /// Every request of a user for a resource, so far.
    pub(super) fn requests(&self, user: &str) -> Vec<Request> {
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        // The last line may be incomplete.
        let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let own = events.filter(|event| event["user"]["username"] == user);
        own.filter_map(|event| {
            let object = event.get("objectRef")?;
            let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
            let resource = text(&object["resource"]);
            let resource = match object["subresource"].as_str() {
                Some(sub) => format!("{resource}/{sub}"),
                None => resource,
            };
            let right = Right { group: text(&object["apiGroup"]), resource, verb: text(&event["verb"]) };
            Some(Request { right, code: event["responseStatus"]["code"].as_u64().unwrap_or_default() })
        })
        .collect()
    }

    /// Reports whether a user was refused this.
    pub(super) fn has_refused(&self, user: &str, right: &Right) -> bool {
        self.requests(user).iter().any(|request| request.code == 403 && request.right == *right)
    }

    /// Waits until a user was refused this.
    pub(super) async fn refused(&self, user: &str, right: &Right) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !self.has_refused(user, right) {
            assert!(tokio::time::Instant::now() < deadline, "never asked for: {right:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
