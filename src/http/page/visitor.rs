//! Who looks at the page: whose token the cookie has. Nothing of it is kept on the server.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::HeaderMap;
use axum::http::header::{COOKIE, HOST, HeaderValue, ORIGIN};
use axum::http::request::Parts;
use axum::response::{IntoResponse as _, Response};

use super::view::{self, Shown};
use crate::http::app::App;
use crate::http::auth::{Caller, Gate, User};
use crate::http::origin::Origin;
use crate::http::problem::Problem;

/// The cookie. Browsers take a name that begins so only from this host, over TLS, and for all paths.
const NAME: &str = "__Host-jobexec";

/// Takes it away.
pub(super) const NO_COOKIE: &str = "__Host-jobexec=; Path=/; Max-Age=0; Secure; HttpOnly; SameSite=Strict";

/// Browsers drop longer cookies without a word.
const LONGEST: usize = 4_000;

/// A person who has signed in.
pub(super) struct Visitor {
    pub(super) caller: Caller,
    /// His name.
    pub(super) name: String,
}

impl Visitor {
    /// What is wrong, as he sees it.
    pub(super) fn shown(&self, problem: &Problem) -> Shown {
        view::problem(Some(&self.name), problem)
    }
}

impl FromRequestParts<Arc<App>> for Visitor {
    type Rejection = Shown;

    async fn from_request_parts(parts: &mut Parts, app: &Arc<App>) -> Result<Self, Shown> {
        match Caller::from_request_parts(parts, app).await {
            Ok(caller) => Ok(Self { name: caller.0.name.clone(), caller }),
            Err(problem) => Err(view::problem(None, &problem)),
        }
    }
}

/// Whose token the cookie has.
pub(in crate::http) async fn user(
    gate: &Gate,
    headers: &HeaderMap,
    origin: Origin,
) -> Result<Arc<User>, Response> {
    let token = token(headers).ok_or_else(|| view::sign_in(None).into_response())?;
    gate.holder(token, origin).await.map_err(|problem| {
        let shown = match problem {
            Problem::TokenRefused(_) => view::sign_in(Some(&problem)),
            problem => view::problem(None, &problem),
        };
        shown.into_response()
    })
}

/// The token in the cookie.
fn token(headers: &HeaderMap) -> Option<&str> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = cookies.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
    pairs.find(|(name, value)| *name == NAME && !value.is_empty()).map(|(_, value)| value)
}

/// A cookie with this token, until the browser ends. It is sent by the page itself only, and no script sees it.
pub(super) fn cookie(token: &str) -> Result<HeaderValue, Problem> {
    let refused = |why: &str| Problem::TokenRefused(why.to_owned());
    let plain = |b: u8| b.is_ascii_graphic() && !b"\",;\\".contains(&b);
    if token.is_empty() || !token.bytes().all(plain) {
        return Err(refused("it is none: copy all of it, and nothing else"));
    }
    if token.len() > LONGEST {
        return Err(refused("it is longer than a browser keeps"));
    }
    let cookie = format!("{NAME}={token}; Path=/; Secure; HttpOnly; SameSite=Strict");
    let mut cookie = HeaderValue::from_str(&cookie).map_err(|_| refused("it cannot be kept"))?;
    cookie.set_sensitive(true);
    Ok(cookie)
}

/// A form that was sent from a page of this host, by what the browser says of it.
pub(super) struct OwnForm;

impl<S: Send + Sync> FromRequestParts<S> for OwnForm {
    type Rejection = Shown;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Shown> {
        if is_own(&parts.headers) { Ok(Self) } else { Err(view::foreign()) }
    }
}

/// Without either header it is no browser's, or one that is too old to be trusted with this.
fn is_own(headers: &HeaderMap) -> bool {
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
    fn a_form_of_another_site_is_none_of_ours() {
        let (host, own) = (("host", "a:8443"), ("origin", "https://a:8443"));
        assert!(is_own(&headers(&[host, own, ("sec-fetch-site", "same-origin")])));
        assert!(is_own(&headers(&[host, own])));
        for bad in [
            &[host][..],
            &[host, ("origin", "null")],
            &[host, ("origin", "https://b:8443")],
            &[host, ("origin", "http://a:8443")],
            &[host, own, ("sec-fetch-site", "same-site")],
            &[host, own, ("sec-fetch-site", "none")],
        ] {
            assert!(!is_own(&headers(bad)), "{bad:?}");
        }
    }

    #[test]
    fn the_token_is_in_our_cookie_only() {
        assert_eq!(token(&headers(&[("cookie", "a=b; __Host-jobexec=x.y-z; c=d")])), Some("x.y-z"));
        assert_eq!(token(&headers(&[("cookie", "jobexec=x; __Host-jobexec=")])), None);
    }

    #[test]
    fn what_could_break_out_of_the_cookie_is_no_token() {
        assert!(cookie("eyJhbGciOi.J-_9~+/=").is_ok());
        for bad in ["", "a b", "a;b", "a\r\nb", "a,b", "ä"] {
            assert!(cookie(bad).is_err(), "{bad:?}");
        }
        assert!(cookie(&"a".repeat(LONGEST + 1)).is_err());
    }
}
