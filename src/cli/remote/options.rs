//! What may be said of the way to the operator's API, and the client that comes of it.

use std::path::PathBuf;

use hyper::header::HeaderValue;
use kube::{Api, Config};
use rustls::pki_types::ServerName;
use tokio_rustls::TlsConnector;
use url::{Host, Url};

use super::client::Client;
use super::find;
use super::reach::Way;
use super::tls::{self, Trust};
use super::{RemoteError, token};
use crate::api::names;
use crate::secrets::describe;

/// How to reach the operator's API, and who asks.
#[derive(Clone, Debug, clap::Args)]
#[command(next_help_heading = "With --store")]
pub(crate) struct Options {
    /// The namespace of the operator, to whose Pod a port is forwarded.
    #[arg(
        long,
        env = "JOBEXEC_OPERATOR_NAMESPACE",
        value_name = "NAMESPACE",
        default_value = "jobexec-system",
        value_parser = namespace
    )]
    operator_namespace: String,
    /// The operator of this release of the Helm chart, where there are several in its namespace; without it any one answers.
    #[arg(long, env = "JOBEXEC_OPERATOR_RELEASE", value_name = "RELEASE", value_parser = release)]
    operator_release: Option<String>,
    /// Where the operator's API is reached without a port-forward, for example `https://localhost:8443`.
    #[arg(long, env = "JOBEXEC_API_URL", value_name = "URL", value_parser = api_url)]
    api_url: Option<Url>,
    /// A file with the token to be sent; without it the variable `JOBEXEC_TOKEN` counts, then the token of the current kube
    /// context.
    #[arg(long, value_name = "FILE", requires = "store")]
    token_file: Option<PathBuf>,
    /// A PEM file with the authority that has signed the API's certificate; without it one of this system's authorities must
    /// have. In a port-forward the certificate is checked only with this option, for the name
    /// jobexec-operator.NAMESPACE.svc (with --operator-release that of its Service): there Kubernetes itself has named the Pod
    /// that answers.
    #[arg(long, value_name = "FILE", requires = "store")]
    certificate_authority: Option<PathBuf>,
    /// Do not check the API's certificate: whoever is on the way may read the token.
    #[arg(long, requires = "store", conflicts_with = "certificate_authority")]
    insecure_skip_tls_verify: bool,
}

/// The name of a namespace, which is part of the path of a request.
pub(crate) fn namespace(text: &str) -> Result<String, String> {
    if names::is_label(text) {
        Ok(text.to_owned())
    } else {
        Err("write the name of a namespace as `kubectl get namespaces` has it".to_owned())
    }
}

/// The name of a release, which is the value of a label.
fn release(text: &str) -> Result<String, String> {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
    if !text.is_empty() && text.len() <= 53 && text.bytes().all(inner) {
        Ok(text.to_owned())
    } else {
        Err("write the name of a release as `helm list` has it, for example jobexec-operator".to_owned())
    }
}

/// An address of the API.
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
    /// Straight to an address.
    pub(crate) fn at(
        api_url: Url,
        token_file: Option<PathBuf>,
        certificate_authority: Option<PathBuf>,
        insecure_skip_tls_verify: bool,
    ) -> Self {
        let api_url = Some(api_url);
        // Where there is an address, no Pod is looked for.
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

    /// A client of the API that these name. Nothing is asked yet.
    pub(super) async fn client(self) -> Result<Client, RemoteError> {
        let given = token::given(self.token_file.as_deref()).await?;
        let trust = match (&self.certificate_authority, self.insecure_skip_tls_verify) {
            (Some(file), _) => Trust::Authority(file.clone()),
            (None, true) => Trust::Anybody,
            // The Pod that answers is the one that Kubernetes has named.
            (None, false) if self.api_url.is_none() => Trust::Anybody,
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
            None => inside(self.operator_namespace, self.operator_release.as_deref(), tls, given).await,
        }
    }
}

async fn context() -> Result<Config, RemoteError> {
    Config::infer().await.map_err(|error| RemoteError::Context(describe(&error)))
}

/// The API at an address.
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
        way: Way::Address { host, port },
        tls,
        name,
        authority: url.authority().to_owned(),
        base: url.path().trim_end_matches('/').to_owned(),
        token,
        open: None,
    })
}

/// The API of the operator in a namespace of the current kube context.
async fn inside(
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
    let service = format!("{}.{namespace}.svc", find::service(release));
    let name =
        ServerName::try_from(service.clone()).map_err(|error| RemoteError::Setup(error.to_string()))?;
    Ok(Client {
        way: Way::Pod {
            pods: Box::new(Api::namespaced(client, &namespace)),
            namespace,
            selector: find::selector(release),
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
    fn a_release_is_one_label() {
        assert_eq!(release("night.shift-1"), Ok("night.shift-1".to_owned()));
        for bad in ["", "a,b", "a=b", "a b", "Night", &"x".repeat(54)] {
            assert!(release(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_address_is_of_https_and_holds_no_secrets() {
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
