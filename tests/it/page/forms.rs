//! Requests that no browser would send by itself.

use reqwest::Method;
use reqwest::header::{COOKIE, SET_COOKIE};

use super::Stage;
use crate::http::RUNNING;

#[tokio::test]
async fn only_forms_of_the_page_itself_count() {
    let stage = Stage::new("pageforms").await;
    let token = stage.world.token("jobexec-administrator").await;
    let cookie = format!("__Host-jobexec={token}");
    let host = stage.https.address().to_owned();
    let post = |path: &str, headers: &[(&str, &str)], form: &[(&str, &str)]| {
        let body: String = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let mut request = stage.https.request(Method::POST, path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.header("content-type", "application/x-www-form-urlencoded").body(body).send()
    };
    let own = format!("https://{host}");
    let clean = [("max_hours", "1"), ("step", "do")];
    for bad in [
        &[("cookie", cookie.as_str())][..],
        &[("cookie", &cookie), ("origin", "https://elsewhere.example")],
        &[("cookie", &cookie), ("origin", "null")],
        &[("cookie", &cookie), ("origin", &own), ("sec-fetch-site", "cross-site")],
        &[("cookie", &cookie), ("origin", &own), ("sec-fetch-site", "same-site")],
    ] {
        for path in ["/clean-up", "/sign-out", "/sign-in"] {
            assert_eq!(post(path, bad, &clean).await.unwrap().status(), 403, "{path} {bad:?}");
        }
    }
    assert_eq!(post("/clean-up", &[("origin", &own)], &clean).await.unwrap().status(), 401, "who is it?");
    let with = [("cookie", cookie.as_str()), ("origin", own.as_str())];
    for (form, status) in [
        (&[("max_hours", "-1"), ("step", "do")][..], 400),
        (&[("max_hours", "much"), ("step", "do")], 400),
        (&[("max_hours", "1"), ("step", "all")], 400),
        (&[("store", "%/_"), ("step", "do")], 400),
        (&[("store", "elsewhere/jobs"), ("step", "do")], 403),
    ] {
        let answer = post("/clean-up", &with, form).await.unwrap();
        assert_eq!(answer.status(), status, "{form:?}");
        assert!(answer.text().await.unwrap().starts_with("<!DOCTYPE html>"));
    }
    assert_eq!(stage.world.status(39).await, "running");

    // The cookie gives access to the page only: a form of another site could send it to the API.
    let api = stage.https.request(Method::GET, RUNNING).header(COOKIE, &cookie).send().await.unwrap();
    assert_eq!(api.status(), 401);
    let signed_in = post("/sign-in", &[("origin", &own)], &[("token", "x; Domain=example")]).await.unwrap();
    assert!(signed_in.status() == 401 && !signed_in.headers().contains_key(SET_COOKIE));
}

#[tokio::test]
async fn the_page_is_framed_by_nobody_and_runs_nothing_but_itself() {
    let stage = Stage::new("pageheads").await;
    let get = async |path: &str| stage.https.request(Method::GET, path).send().await.unwrap();
    let page = get("/").await;
    assert_eq!(page.status(), 401, "it asks who it is");
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'; script-src 'self'; style-src 'self';"), "{policy}");
    assert!(policy.contains("frame-ancestors 'none'") && !policy.contains("unsafe"), "{policy}");
    assert_eq!(page.headers()["cache-control"], "no-store");
    let html = page.text().await.unwrap();
    let path = html.split('"').find(|part| part.starts_with("/assets/page.")).unwrap();
    let style = get(path).await;
    assert_eq!(
        (style.status().as_u16(), &style.headers()["content-type"]),
        (200, &"text/css; charset=utf-8".parse().unwrap())
    );
    assert!(style.headers()["cache-control"].to_str().unwrap().contains("immutable"));
    for path in ["/assets/page.css", "/assets/..%2fCargo.toml", "/nothing"] {
        assert_eq!(get(path).await.status(), 404, "{path}");
    }
    assert_eq!(get("/board").await.status(), 401);
}
