//! A client of the operator's HTTPS API that, like `curl -k`, trusts any certificate.

use std::time::Duration;

use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value, json};

use super::{Operator, PATIENCE, World, rbac};

/// The API of one operator, for one caller.
#[derive(Clone)]
pub(crate) struct Https {
    client: reqwest::Client,
    base: String,
    token: Option<String>,
}

/// The environment of an operator that serves metrics only.
pub(crate) const OPEN: [(&str, &str); 2] = [("METRICS", "open"), ("PROBE_ADDRESS", "127.0.0.1:0")];

/// The environment of an operator that serves the API.
pub(crate) const SERVE: [(&str, &str); 2] =
    [("HTTPS_ADDRESS", "127.0.0.1:0"), ("PROBE_ADDRESS", "127.0.0.1:0")];

impl World {
    /// Starts an operator that serves, and returns it with its API for a caller without a token.
    pub(crate) async fn serving(&self, env: &[(&str, &str)]) -> (Operator, Https) {
        rbac::install_api(&self.client, &self.namespace).await;
        let operator = self.operator_with(&[&SERVE[..], env].concat());
        let https = self.api_of(&operator).await;
        (operator, https)
    }

    /// The API of an operator for a caller without a token.
    pub(crate) async fn api_of(&self, operator: &Operator) -> Https {
        let address = operator.address("https").await;
        Https { client: client(), base: format!("https://{address}"), token: None }
    }

    /// A token of a `ServiceAccount` of this namespace, to which a `ClusterRole` is bound here.
    pub(crate) async fn token(&self, role: &str) -> String {
        let subject = json!({"kind": "ServiceAccount", "name": role, "namespace": self.namespace});
        rbac::bind(&self.client, Some(&self.namespace), role, subject).await;
        rbac::token(&self.client, &self.namespace, role, &[]).await
    }

    /// The username of that `ServiceAccount`.
    pub(crate) fn user(&self, role: &str) -> String {
        format!("system:serviceaccount:{}:{role}", self.namespace)
    }

    /// The name of a store in the API.
    pub(crate) fn named(&self, store: &str) -> String {
        format!("{}/{store}", self.namespace)
    }
}

impl Operator {
    /// Waits for the address of this listener.
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
    /// Its metrics, if they are public ([`OPEN`]).
    pub(crate) async fn metrics(&self) -> String {
        let url = format!("http://{}/metrics", self.address("probes").await);
        builder().build().unwrap().get(url).send().await.unwrap().text().await.unwrap()
    }
}

/// A client with its own connections that trusts any server.
pub(crate) fn client() -> reqwest::Client {
    builder().tls_danger_accept_invalid_certs(true).build().unwrap()
}

pub(crate) fn builder() -> reqwest::ClientBuilder {
    // The first caller installs it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().timeout(PATIENCE).no_proxy()
}

impl Https {
    /// The API with a token.
    pub(crate) fn with(&self, token: &str) -> Self {
        Self { token: Some(token.to_owned()), ..self.clone() }
    }

    /// The API over other connections.
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

    /// Repeats a request until the response is as wanted.
    pub(crate) async fn until(&self, path: &str, wanted: impl Fn(u16, &Value) -> bool) -> Value {
        self.asked_until(Method::GET, path, wanted).await
    }

    /// Does the same with a request that may be repeated, for example a dry run.
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

/// The status and the JSON of a response, whose media type must be right.
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
