//! Webhooks to a real endpoint.

use std::io::Write as _;
use std::process::{Command, Stdio};

use chrono::Utc;
use jobexec_operator::api::notifications::Format;
use jobexec_operator::net::Dialer;
use jobexec_operator::notify::webhook::{Endpoint, SigningKey, Target};
use jobexec_operator::notify::{Destination, Message, Templates};
use jobexec_operator::secrets::CaBundle;
use serde_json::{Value, json};

use super::{deliver, execution, full, message, reason};
use crate::support::hook::{Answer, Hook, Request, status};
use crate::support::{machine, port_of_nobody};

fn target(hook: &Hook, path: &str) -> Target {
    Target {
        url: Endpoint::new(&format!("{}{path}", hook.base)).unwrap(),
        signing_key: None,
        authorities: Some(CaBundle::parse(&hook.certificate).unwrap()),
        format: Format::Json,
    }
}

/// The signature as a receiver computes it with tools that share nothing with the operator.
fn signature(python: &std::path::Path, key: &str, request: &Request) -> String {
    const PROGRAM: &str = "import base64, hashlib, hmac, sys
key, id, at = sys.argv[1:]
key = base64.b64decode(key[6:]) if key.startswith('whsec_') else key.encode()
signed = f'{id}.{at}.'.encode() + sys.stdin.buffer.read()
print('v1,' + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode())";
    let header = |name: &str| request.headers[name].clone();
    let mut child = Command::new(python)
        .args(["-c", PROGRAM, key, &header("webhook-id"), &header("webhook-timestamp")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(&request.body).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap().trim().to_owned()
}

#[tokio::test]
async fn a_message_is_sent_signed_and_whole() {
    let Some(python) =
        machine::needs("a signature", machine::Part::Debian("python3"), machine::program("python3"))
    else {
        return;
    };
    let hook = Hook::start(true, status("204 No Content")).await;
    let keys = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "any text"];
    for key in keys {
        let signing_key = Some(SigningKey::new(key.as_bytes()).unwrap());
        let destination = Destination::Webhook(Target { signing_key, ..target(&hook, "/in?a=b") });
        assert!(!format!("{destination:?}").contains(key) && !format!("{destination:?}").contains("a=b"));
        deliver(&destination, &message()).await.unwrap();
    }
    let requests = hook.requests();
    assert_eq!(requests.len(), 2);
    for (request, key) in requests.iter().zip(keys) {
        assert_eq!(request.line, "POST /in?a=b HTTP/1.1");
        assert_eq!(request.headers["content-type"], "application/json");
        assert_eq!(request.headers["webhook-id"], message().id.to_string());
        let sent: i64 = request.headers["webhook-timestamp"].parse().unwrap();
        assert!((Utc::now().timestamp() - sent).abs() < 600);
        assert_eq!(request.headers["webhook-signature"], signature(&python, key, request));
        let mut body: Value = serde_json::from_slice(&request.body).unwrap();
        let text = body.as_object_mut().unwrap().remove("text").unwrap();
        assert!(text.as_str().unwrap().starts_with("team-a/jobs: breaker open"), "{text}");
        assert_eq!(serde_json::from_value::<Message>(body).unwrap(), message());
    }
}

#[tokio::test]
async fn slack_is_sent_text_that_calls_nobody() {
    let hook = Hook::start(false, status("200 OK")).await;
    let destination =
        Destination::Webhook(Target { format: Format::Slack, ..target(&hook, "/services/T0/B0/x") });
    let message = Message { executions: vec![execution("<!channel>&")], ..message() };
    deliver(&destination, &message).await.unwrap();
    deliver(&destination, &full()).await.unwrap();
    let bodies: Vec<Value> =
        hook.requests().iter().map(|request| serde_json::from_slice(&request.body).unwrap()).collect();
    let text = bodies[0]["text"].as_str().unwrap();
    assert!(text.contains("&lt;!channel&gt;&amp;") && !text.contains('<'), "{text}");
    assert_eq!(bodies[0].as_object().unwrap().len(), 1);
    assert!(bodies[1]["text"].as_str().unwrap().contains("and 9950 more."));
    assert!(!hook.requests()[0].headers.contains_key("webhook-signature"));
}

#[tokio::test]
async fn no_redirect_is_followed() {
    let internal = Hook::start(false, status("200 OK")).await;
    for code in
        ["301 Moved", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent Redirect"]
    {
        let answer = format!(
            "HTTP/1.1 {code}\r\nLocation: {}/latest/meta-data\r\nContent-Length: 0\r\n\r\n",
            internal.base
        );
        let hook = Hook::start(false, Answer::Text(answer)).await;
        let error = deliver(&Destination::Webhook(target(&hook, "/hidden")), &message()).await.unwrap_err();
        assert_eq!(reason(&error, &["hidden", "meta-data"]), "Redirected", "{error}");
        assert_eq!(hook.requests().len(), 1);
    }
    assert_eq!(internal.requests().len(), 0);
}

#[tokio::test]
async fn an_answer_that_is_no_success_is_told_in_short() {
    let text = |status: &str, body: &str| {
        Answer::Text(format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
    };
    for (answer, expected, said) in [
        (text("500 No", "out of\r\norder\u{1b}[2J"), "HTTPStatus", "answered 500: \"out of order [2J\""),
        (text("404 Not Found", ""), "HTTPStatus", "answered 404. Check"),
        (text("410 Gone", &"ä".repeat(9_999)), "HTTPStatus", "answered 410: \"ää"),
        (Answer::Huge, "HTTPStatus", "answered 500: \"xxx"),
        (Answer::DripBody, "HTTPStatus", "answered 503: \"busy"),
        (Answer::Text("SSH-2.0-OpenSSH\r\n".to_owned()), "InvalidAnswer", ""),
        (Answer::Text(String::new()), "Unreachable", ""),
    ] {
        let hook = Hook::start(true, answer.clone()).await;
        let error = deliver(&Destination::Webhook(target(&hook, "/hidden")), &message()).await.unwrap_err();
        assert_eq!(reason(&error, &["hidden"]), expected, "{answer:?}: {error}");
        assert!(error.to_string().contains(said), "{said}: {error}");
        assert!(error.to_string().chars().count() < 500, "{error}");
    }
}

#[tokio::test]
async fn an_endpoint_that_takes_its_time_is_given_up() {
    let slow = async |tls: bool, answer: Answer| {
        let hook = Hook::start(tls, answer).await;
        let error = deliver(&Destination::Webhook(target(&hook, "/hidden")), &message()).await.unwrap_err();
        assert_eq!(reason(&error, &["hidden"]), "TimedOut", "{error}");
        assert_eq!(hook.requests().len(), 1);
    };
    // The third never completes the TLS handshake.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("https://{}/hidden", silent.local_addr().unwrap());
    let handshake = async {
        let target = Target {
            url: Endpoint::new(&url).unwrap(),
            signing_key: None,
            authorities: None,
            format: Format::Json,
        };
        let error = deliver(&Destination::Webhook(target), &message()).await.unwrap_err();
        assert_eq!(reason(&error, &["hidden"]), "TimedOut", "{error}");
    };
    tokio::join!(slow(true, Answer::Hang), slow(false, Answer::Drip), handshake);
}

#[tokio::test]
async fn who_answers_must_be_who_it_should() {
    let hook = Hook::start(true, status("200 OK")).await;
    let (known, other) = (target(&hook, "/hidden"), Hook::start(true, status("200 OK")).await);
    for authorities in [None, Some(CaBundle::parse(&other.certificate).unwrap())] {
        let destination = Destination::Webhook(Target { authorities, ..known.clone() });
        let error = deliver(&destination, &message()).await.unwrap_err();
        assert_eq!(reason(&error, &["hidden"]), "TLSFailed", "{error}");
    }
    for pem in ["", "no PEM", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        assert!(CaBundle::parse(pem).is_err(), "{pem}");
    }
    assert_eq!(hook.requests().len(), 0);
    // One file may contain several authorities, and the URL may end with the newline of a file.
    let both = format!("{}{}", other.certificate, hook.certificate);
    let url = Endpoint::new(&format!("{}/hidden\n", hook.base)).unwrap();
    let authorities = Some(CaBundle::parse(&both).unwrap());
    deliver(&Destination::Webhook(Target { url, authorities, ..known }), &message()).await.unwrap();
}

#[tokio::test]
async fn urls_and_what_is_none() {
    for url in [
        "",
        "hidden",
        "/hidden",
        "ftp://example.org/hidden",
        "https://",
        "file:///hidden",
        "https://a b/hidden",
    ] {
        let error = Endpoint::new(url).unwrap_err();
        assert_eq!(reason(&error, &["hidden"]), "InvalidConfiguration", "{url}: {error}");
    }
    let hook = Hook::start(false, status("401 Unauthorized")).await;
    let url = hook.base.replace("http://", "http://me:hidden@");
    let target = Target { url: Endpoint::new(&url).unwrap(), ..target(&hook, "") };
    assert!(!format!("{target:?}").contains("hidden"));
    let error = deliver(&Destination::Webhook(target), &message()).await.unwrap_err();
    assert_eq!(reason(&error, &["hidden", "me:"]), "HTTPStatus", "{error}");
    assert_eq!(hook.requests()[0].headers["authorization"], "Basic bWU6aGlkZGVu");
    let (hidden, (_kept, nobody)) = ("hidden", port_of_nobody());
    for base in [format!("http://127.0.0.1:{nobody}"), "http://nowhere.invalid".to_owned()] {
        let url = Endpoint::new(&format!("{base}/{hidden}")).unwrap();
        let target = Target { url, signing_key: None, authorities: None, format: Format::Json };
        let error = deliver(&Destination::Webhook(target), &message()).await.unwrap_err();
        assert_eq!(reason(&error, &[hidden]), "Unreachable", "{error}");
    }
}

#[tokio::test]
async fn an_own_template_is_what_slack_shows() {
    let hook = Hook::start(false, status("200 OK")).await;
    let destination = Destination::Webhook(Target { format: Format::Slack, ..target(&hook, "/") });
    let spec = json!({"text": "{{ summary }}!", "html": "{{ nothing }}"});
    let (templates, _) = Templates::new(Some(&serde_json::from_value(spec).unwrap()));
    let delivery = destination.deliver(&Dialer::unrestricted(), &templates, &message()).await;
    delivery.outcome.unwrap();
    assert_eq!(delivery.template_errors.len(), 1);
    let body: Value = serde_json::from_slice(&hook.requests()[0].body).unwrap();
    assert_eq!(body, json!({"text": "breaker open, 3 executions failed, 2 running long!"}));
}
