//! A client of the operator's HTTPS API, as `curl -k` is one.

use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};

use super::{Operator, PATIENCE, World, rbac};

/// The API of one operator, as one caller sees it.
#[derive(Clone)]
pub(crate) struct Https {
    client: reqwest::Client,
    base: String,
    token: Option<String>,
}

/// An operator that serves metrics, and nothing else.
pub(crate) const OPEN: [(&str, &str); 2] = [("METRICS", "open"), ("PROBE_ADDRESS", "127.0.0.1:0")];

/// An operator that serves.
pub(crate) const SERVE: [(&str, &str); 2] =
    [("HTTPS_ADDRESS", "127.0.0.1:0"), ("PROBE_ADDRESS", "127.0.0.1:0")];

impl World {
    /// Starts an operator that serves, and returns it with its API as somebody without a token sees it.
    pub(crate) async fn serving(&self, env: &[(&str, &str)]) -> (Operator, Https) {
        rbac::install_api(&self.client, &self.namespace).await;
        let operator = self.operator_with(&[&SERVE[..], env].concat());
        let https = self.api_of(&operator).await;
        (operator, https)
    }

    /// The API of an operator as somebody without a token sees it.
    pub(crate) async fn api_of(&self, operator: &Operator) -> Https {
        let address = operator.address("https").await;
        Https { client: client(), base: format!("https://{address}"), token: None }
    }

    /// A token of a `ServiceAccount` of this namespace that a `ClusterRole` is bound to here.
    pub(crate) async fn token(&self, role: &str) -> String {
        let subject = json!({"kind": "ServiceAccount", "name": role, "namespace": self.namespace});
        rbac::bind(&self.client, Some(&self.namespace), role, subject).await;
        rbac::token(&self.client, &self.namespace, role, &[]).await
    }

    /// The name of that `ServiceAccount` as a user.
    pub(crate) fn user(&self, role: &str) -> String {
        format!("system:serviceaccount:{}:{role}", self.namespace)
    }

    /// The name of a store as the API has it.
    pub(crate) fn named(&self, store: &str) -> String {
        format!("{}/{store}", self.namespace)
    }
}

impl Operator {
    /// Where it serves this.
    pub(crate) async fn address(&self, front: &str) -> String {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            for line in self.own_lines() {
                let line: Value = serde_json::from_str(&line).unwrap_or_default();
                if line["message"] == "listening" && line["listener"] == front {
                    return line["address"].as_str().unwrap().to_owned();
                }
            }
            assert!(tokio::time::Instant::now() < deadline, "it never listened\n{}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Operator {
    /// Its metrics, where they are open ([`OPEN`]).
    pub(crate) async fn metrics(&self) -> String {
        let url = format!("http://{}/metrics", self.address("probes").await);
        builder().build().unwrap().get(url).send().await.unwrap().text().await.unwrap()
    }
}

/// Trusts whoever answers, over connections of its own.
pub(crate) fn client() -> reqwest::Client {
    builder().tls_danger_accept_invalid_certs(true).build().unwrap()
}

pub(crate) fn builder() -> reqwest::ClientBuilder {
    // Whoever comes first installs it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().timeout(PATIENCE).no_proxy()
}

impl Https {
    /// With a token.
    pub(crate) fn with(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    /// Over connections of its own.
    pub(crate) fn with_client(&self, client: reqwest::Client) -> Self {
        Self { client, ..self.clone() }
    }

    /// The host and the port.
    pub(crate) fn address(&self) -> &str {
        self.base.trim_start_matches("https://")
    }

    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("{}{path}", self.base));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        told(self.request(Method::GET, path).send().await.unwrap()).await
    }

    pub(crate) async fn post(&self, path: &str) -> (u16, Value) {
        told(self.request(Method::POST, path).send().await.unwrap()).await
    }

    pub(crate) async fn post_json(&self, path: &str, body: &Value) -> (u16, Value) {
        told(self.request(Method::POST, path).json(body).send().await.unwrap()).await
    }

    /// Asks until the answer is as wanted.
    pub(crate) async fn until(&self, path: &str, wanted: impl Fn(u16, &Value) -> bool) -> Value {
        self.asked_until(Method::GET, path, wanted).await
    }

    /// The same of a request that may be made again and again, as a dry run.
    pub(crate) async fn until_posted(&self, path: &str, wanted: impl Fn(u16, &Value) -> bool) -> Value {
        self.asked_until(Method::POST, path, wanted).await
    }

    async fn asked_until(&self, method: Method, path: &str, wanted: impl Fn(u16, &Value) -> bool) -> Value {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let (status, body) = told(self.request(method.clone(), path).send().await.unwrap()).await;
            if wanted(status, &body) {
                return body;
            }
            assert!(tokio::time::Instant::now() < deadline, "{path}: {status} {body:#}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// The status and the JSON of an answer, whose media type says what it is.
pub(crate) async fn told(response: Response) -> (u16, Value) {
    let status = response.status().as_u16();
    let header = |name: &str| response.headers().get(name).map(|v| v.to_str().unwrap().to_owned());
    let type_ = header("content-type").unwrap_or_default();
    assert!(header("x-request-id").is_some_and(|id| !id.is_empty()), "no request id");
    let body: Value = response.json().await.unwrap();
    if status >= 400 && body.get("metrics").is_none() {
        assert_eq!(type_, "application/problem+json", "{status} {body}");
        assert_eq!(body["status"], status, "{body}");
        let reason = body["reason"].as_str().unwrap();
        assert_eq!(body["type"], format!("urn:jobexec:problem:{reason}"), "{body}");
        assert!(body["detail"].as_str().is_some_and(|detail| !detail.is_empty()), "{body}");
    } else {
        assert_eq!(type_, "application/json");
    }
    (status, body)
}
