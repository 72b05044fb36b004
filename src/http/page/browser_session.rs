//! The user of a browser, by the token in a cookie. The server stores nothing.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::header::{COOKIE, HOST, HeaderValue, ORIGIN};
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};

use super::view::{self, Rendered};
use crate::http::app::App;
use crate::http::auth::{Authorizer, Caller, User};
use crate::http::origin::Origin;
use crate::http::problem::Problem;

/// The name of the cookie. Browsers accept this prefix only from this host, over TLS, and for all paths.
const COOKIE_NAME: &str = "__Host-jobexec";

/// The header that deletes the cookie.
pub(super) const NO_COOKIE: &str = "__Host-jobexec=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Strict";

/// The maximum size of a token. Browsers silently drop longer cookies.
const MAX_TOKEN_BYTES: usize = 4_000;

/// A signed-in user.
pub(super) struct BrowserSession {
    pub(super) caller: Caller,
    /// The name of the user.
    pub(super) name: String,
}

impl BrowserSession {
    /// Renders an error for this user.
    pub(super) fn render_problem(&self, problem: &Problem) -> Rendered {
        view::problem(Some(&self.name), problem)
    }
}

impl FromRequestParts<Arc<App>> for BrowserSession {
    type Rejection = Rendered;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Rendered> {
        match Caller::from_request_parts(parts, app).await {
            Ok(caller) => Ok(Self { name: caller.0.name.clone(), caller }),
            Err(problem) => Err(view::problem(None, &problem)),
        }
    }
}

/// Authenticates the user by the cookie. If that fails, returns the sign-in form or the error as a page.
pub(in crate::http) async fn user(
    authorizer: &Authorizer,
    headers: &HeaderMap,
    origin: Origin,
) -> Result<Arc<User>, Response> {
    let token = token(headers).ok_or_else(|| view::sign_in(None).into_response())?;
    authorizer.authenticate(token, origin).await.map_err(|problem| {
        let page = match problem {
            Problem::TokenRefused(_) => view::sign_in(Some(&problem)),
            problem => view::problem(None, &problem),
        };
        page.into_response()
    })
}

/// Returns the token in the cookie.
fn token(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, value)| *name == COOKIE_NAME && !value.is_empty()).map(|(_, value)| value)
}

/// Returns a session cookie with the token. Browsers send it only from the page itself, and no script can read it.
pub(super) fn cookie(token: &str) -> Result<HeaderValue, Problem> {
    let refused = |why: &str| Problem::TokenRefused(why.to_owned());
    let plain = |b: u8| b.is_ascii_graphic() && !b"\",;\\".contains(&b);
    if token.is_empty() || !token.bytes().all(plain) {
        return Err(refused("it is not a token: copy the whole token, and nothing else"));
    }
    if token.len() > MAX_TOKEN_BYTES {
        return Err(refused("it is too long for a cookie"));
    }
    let cookie = format!("{COOKIE_NAME}={token}; Path=/; Secure; HttpOnly; SameSite=Strict");
    let mut cookie =
        HeaderValue::from_str(&cookie).map_err(|_| refused("it cannot be stored in a cookie"))?;
    cookie.set_sensitive(true);
    Ok(cookie)
}

/// A form that was sent from a page of this host, according to the browser.
pub(super) struct SameOriginForm;

impl<S: Send + Sync> FromRequestParts<S> for SameOriginForm {
    type Rejection = Rendered;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Rendered> {
        if is_same_origin(&parts.headers) { Ok(Self) } else { Err(view::cross_site()) }
    }
}

/// A request without either header is not from a browser, or from one that is too old to be trusted.
fn is_same_origin(headers: &HeaderMap) -> bool {
    let text = |value: &HeaderValue| value.to_str().map(ToOwned::to_owned).unwrap_or_default();
    match (headers.get("sec-fetch-site"), headers.get(ORIGIN), headers.get(HOST)) {
        (Some(site), ..) => site == "same-origin",
        (None, Some(origin), Some(host)) => text(origin) == format!("https://{}", text(host)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_form_of_another_site_is_rejected() {
        let (host, own) = (("host", "a:8443"), ("origin", "https://a:8443"));
        assert!(is_same_origin(&headers(&[host, own, ("sec-fetch-site", "same-origin")])));
        assert!(is_same_origin(&headers(&[host, own])));
        for bad in [
            &[host][..],
            &[host, ("origin", "null")],
            &[host, ("origin", "https://b:8443")],
            &[host, ("origin", "http://a:8443")],
            &[host, own, ("sec-fetch-site", "same-site")],
            &[host, own, ("sec-fetch-site", "none")],
        ] {
            assert!(!is_same_origin(&headers(bad)), "{bad:?}");
        }
    }

    #[test]
    fn the_token_is_read_only_from_its_cookie() {
        assert_eq!(token(&headers(&[("cookie", "a=b; __Host-jobexec=x.y-z; c=d")])), Some("x.y-z"));
        assert_eq!(token(&headers(&[("cookie", "jobexec=x; __Host-jobexec=")])), None);
    }

    #[test]
    fn a_token_cannot_break_out_of_the_cookie() {
        assert!(cookie("eyJhbGciOi.J-_9~+/=").is_ok());
        for bad in ["", "a b", "a;b", "a\r\nb", "a,b", "ä"] {
            assert!(cookie(bad).is_err(), "{bad:?}");
        }
        assert!(cookie(&"a".repeat(MAX_TOKEN_BYTES + 1)).is_err());
    }
}
