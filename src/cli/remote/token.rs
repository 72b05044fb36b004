//! The caller's token: given explicitly, or taken from the current kube context.

use std::path::Path;

use futures::future;
use hyper::header::{AUTHORIZATION, HeaderValue};
use hyper::{Request, Response};
use kube::Config;
use kube::client::{Body, ConfigExt as _};
use tower::{Layer as _, ServiceExt as _, service_fn};

use super::RemoteError;
use crate::secrets::describe;

/// The variable with a token. There is no such option, because everyone who lists processes could read it.
const VARIABLE: &str = "JOBEXEC_TOKEN";

/// Returns the token given by the user as a header, if there is one.
pub(super) async fn given(file: Option<&Path>) -> Result<Option<HeaderValue>, RemoteError> {
    if let Some(file) = file {
        let text = tokio::fs::read_to_string(file).await;
        let text = text.map_err(|error| RemoteError::TokenFile(file.to_owned(), error))?;
        return header(&text, || file.display().to_string()).map(Some);
    }
    match std::env::var(VARIABLE) {
        Ok(text) if !text.is_empty() => header(&text, || VARIABLE.to_owned()).map(Some),
        _ => Ok(None),
    }
}

/// Returns the token of a kube context, however the context provides it: passes a request through kube's own layer for the
/// API server and takes its header.
pub(super) async fn of_context(config: &Config) -> Result<HeaderValue, RemoteError> {
    if config.auth_info.impersonate.is_some() || config.auth_info.impersonate_groups.is_some() {
        return Err(RemoteError::Impersonates);
    }
    let failed = |error: String| RemoteError::Context(error);
    let layer = config.auth_layer().map_err(|error| failed(describe(&error)))?.ok_or(RemoteError::NoToken)?;
    let echo = service_fn(|mut request: Request<Body>| {
        let mut response = Response::new(());
        std::mem::swap(response.headers_mut(), request.headers_mut());
        future::ok::<_, tower::BoxError>(response)
    });
    let sent = layer.layer(echo).oneshot(Request::new(Body::empty())).await;
    let header = sent.map_err(|error| failed(describe(&*error)))?.headers_mut().remove(AUTHORIZATION);
    // Basic authentication is no token.
    let bearer = |value: &HeaderValue| value.as_bytes().starts_with(b"Bearer ");
    let mut header = header.filter(bearer).ok_or(RemoteError::NoToken)?;
    header.set_sensitive(true);
    Ok(header)
}

fn header(token: &str, from: impl FnOnce() -> String) -> Result<HeaderValue, RemoteError> {
    let token = token.trim();
    let plain = !token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic());
    let value = HeaderValue::try_from(format!("Bearer {token}")).ok().filter(|_| plain);
    let mut value = value.ok_or_else(|| RemoteError::BadToken(from()))?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_is_validated() {
        assert_eq!(header(" abc\n", String::new).unwrap(), "Bearer abc");
        for text in ["", "\n", "a b", "a\nb", "ä"] {
            assert!(header(text, String::new).is_err(), "{text:?}");
        }
    }
}
