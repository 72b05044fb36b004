//! The options for the operator's API, and the client that they describe.

use std::path::PathBuf;

use hyper::header::HeaderValue;
use kube::{Api, Config};
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;
use url::{Host, Url};

use super::client::Client;
use super::discovery;
use super::tls::{self, Trust};
use super::transport::Endpoint;
use super::{RemoteError, token};
use crate::api::names;
use crate::secrets::describe;

/// The options that select the operator's API and the caller's token.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "With --store")]
pub(crate) struct Options {
    /// The namespace of the operator, for a port-forward to its Pod.
    #[arg(
        long,
        env = "JOBEXEC_OPERATOR_NAMESPACE",
        value_name = "NAMESPACE",
        default_value = "jobexec-system",
        value_parser = namespace
    )]
    operator_namespace: String,
    /// The Helm release of the operator, if its namespace has several; by default any of them.
    #[arg(long, env = "JOBEXEC_OPERATOR_RELEASE", value_name = "RELEASE", value_parser = release)]
    operator_release: Option<String>,
    /// The URL of the operator's API, to use instead of a port-forward, for example `https://localhost:8443`.
    #[arg(long, env = "JOBEXEC_API_URL", value_name = "URL", value_parser = api_url)]
    api_url: Option<Url>,
    /// A file with the token to send. By default the variable `JOBEXEC_TOKEN`, then the token of the current kube context.
    #[arg(long, value_name = "FILE", requires = "store")]
    token_file: Option<PathBuf>,
    /// A PEM file with the certificate authority of the API's certificate. By default the authorities of this system. With a
    /// port-forward, the certificate is checked only if you give this option, for the name jobexec-operator.NAMESPACE.svc (with
    /// --operator-release the name of its Service): Kubernetes itself has selected the Pod that answers.
    #[arg(long, value_name = "FILE", requires = "store")]
    certificate_authority: Option<PathBuf>,
    /// Do not check the API's certificate: anyone on the network path can then read the token.
    #[arg(long, requires = "store", conflicts_with = "certificate_authority")]
    insecure_skip_tls_verify: bool,
}

/// Parses the name of a namespace, which is part of the path of a request.
pub(crate) fn namespace(text: &str) -> Result<String, String> {
    if names::is_label(text) {
        Ok(text.to_owned())
    } else {
        Err("write the name of a namespace as `kubectl get namespaces` shows it".to_owned())
    }
}

/// Parses the name of a release, which is the value of a label.
fn release(text: &str) -> Result<String, String> {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
    if !text.is_empty() && text.len() <= 53 && text.bytes().all(inner) {
        Ok(text.to_owned())
    } else {
        Err("write the name of a release as `helm list` shows it, for example jobexec-operator".to_owned())
    }
}

/// Parses the URL of the API.
pub(crate) fn api_url(text: &str) -> Result<Url, String> {
    let wrong = "write https://HOST or https://HOST:PORT, for example https://localhost:8443";
    let url: Url = text.parse().map_err(|error| format!("{wrong}: {error}"))?;
    let bare = url.username().is_empty() && url.password().is_none() && url.query().is_none();
    if url.scheme() == "https" && url.has_host() && bare && url.fragment().is_none() {
        Ok(url)
    } else {
        Err(wrong.to_owned())
    }
}

impl Options {
    /// Returns the options for a URL.
    pub(crate) fn at(
        api_url: Url,
        token_file: Option<PathBuf>,
        certificate_authority: Option<PathBuf>,
        insecure_skip_tls_verify: bool,
    ) -> Self {
        let api_url = Some(api_url);
        // With a URL, no Pod is looked up.
        let (operator_namespace, operator_release) = (String::new(), None);
        Self {
            operator_namespace,
            operator_release,
            api_url,
            token_file,
            certificate_authority,
            insecure_skip_tls_verify,
        }
    }

    /// Creates a client of the API. Does not send a request yet.
    pub(super) async fn client(self) -> Result<Client, RemoteError> {
        let given = token::given(self.token_file.as_deref()).await?;
        let trust = match (&self.certificate_authority, self.insecure_skip_tls_verify) {
            (Some(file), _) => Trust::Authority(file.clone()),
            (None, true) => Trust::Any,
            // Kubernetes has selected the Pod that answers.
            (None, false) if self.api_url.is_none() => Trust::Any,
            (None, false) => Trust::System,
        };
        let tls = tls::connector(&trust)?;
        match self.api_url {
            Some(url) => {
                let token = match given {
                    Some(token) => token,
                    None => token::of_context(&context().await?).await?,
                };
                at(&url, tls, token)
            }
            None => in_cluster(self.operator_namespace, self.operator_release.as_deref(), tls, given).await,
        }
    }
}

async fn context() -> Result<Config, RemoteError> {
    Config::infer().await.map_err(|error| RemoteError::Context(describe(&error)))
}

/// Creates a client for a URL.
fn at(url: &Url, tls: TlsConnector, token: HeaderValue) -> Result<Client, RemoteError> {
    let host = match url.host() {
        Some(Host::Domain(name)) => name.to_owned(),
        Some(Host::Ipv4(address)) => address.to_string(),
        Some(Host::Ipv6(address)) => address.to_string(),
        None => return Err(RemoteError::Setup("the address has no host".to_owned())),
    };
    let name = ServerName::try_from(host.clone()).map_err(|error| RemoteError::Setup(error.to_string()))?;
    let port = url.port_or_known_default().unwrap_or(443);
    Ok(Client {
        endpoint: Endpoint::Address { host, port },
        tls,
        name,
        authority: url.authority().to_owned(),
        base: url.path().trim_end_matches('/').to_owned(),
        token,
        open: None,
    })
}

/// Creates a client for the operator in a namespace of the current kube context.
async fn in_cluster(
    namespace: String,
    release: Option<&str>,
    tls: TlsConnector,
    given: Option<HeaderValue>,
) -> Result<Client, RemoteError> {
    let config = context().await?;
    let token = match given {
        Some(token) => token,
        None => token::of_context(&config).await?,
    };
    let client = kube::Client::try_from(config).map_err(|error| RemoteError::Context(describe(&error)))?;
    let service = format!("{}.{namespace}.svc", discovery::service(release));
    let name =
        ServerName::try_from(service.clone()).map_err(|error| RemoteError::Setup(error.to_string()))?;
    Ok(Client {
        endpoint: Endpoint::Pod {
            pods: Box::new(Api::namespaced(client, &namespace)),
            namespace,
            selector: discovery::selector(release),
        },
        tls,
        name,
        authority: service,
        base: String::new(),
        token,
        open: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn release_is_validated() {
        assert_eq!(release("night.shift-1"), Ok("night.shift-1".to_owned()));
        for bad in ["", "a,b", "a=b", "a b", "Night", &"x".repeat(54)] {
            assert!(release(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn api_url_requires_https_and_rejects_credentials() {
        for good in ["https://localhost:8443", "https://jobs.example/operator/", "https://[::1]:8443"] {
            assert!(api_url(good).is_ok(), "{good}");
        }
        for bad in
            ["", "localhost:8443", "http://localhost", "https://a:b@host", "https://host?x=1", "https://"]
        {
            assert!(api_url(bad).is_err(), "{bad}");
        }
    }
}
