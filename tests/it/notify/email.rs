//! E-mail to a real mail server.

use jobexec_operator::api::notifications::{Security, Smtp};
use jobexec_operator::notify::server::{Login, Server};
use jobexec_operator::notify::{Destination, Message};
use jobexec_operator::secrets::CaBundle;
use serde_json::{Value, json};

use super::{deliver, full, message, reason};
use crate::support::smtp::Sink;

const PASSWORD: &str = "correct horse";

/// The mail server of a test, as configured for an operator.
fn server(sink: &Sink, security: Security) -> Server {
    Server {
        host: "127.0.0.1".to_owned(),
        port: sink.port,
        security,
        authorities: Some(CaBundle::parse(&sink.certificate).unwrap()),
        login: None,
        from: "jobexec@example.org".to_owned(),
    }
}

fn with_login(server: Server, password: &str) -> Server {
    let login = Login { user: "operator".to_owned().into(), password: password.to_owned().into() };
    Server { login: Some(login), ..server }
}

fn to_ops(server: Server) -> Destination {
    Destination::Email { server, to: "ops@example.org".to_owned() }
}

async fn sink(test: &str, told: Value) -> Option<Sink> {
    Sink::start(test, &told).await
}

/// The value of a header.
fn header<'a>(content: &'a str, name: &str) -> Option<&'a str> {
    let head = content.split("\r\n\r\n").next()?;
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

#[tokio::test]
async fn an_email_has_text_and_html_and_says_what_it_is() {
    let Some(mut sink) = sink("an e-mail", json!({})).await else { return };
    let destination = to_ops(server(&sink, Security::None));
    let message = message();
    let mut ids = Vec::new();
    for _attempt in 0..2 {
        deliver(&destination, &message).await.unwrap();
        let mail = sink.next("mail").await;
        assert_eq!(mail["sender"], "jobexec@example.org");
        assert_eq!(mail["recipients"], json!(["ops@example.org"]));
        let content = mail["content"].as_str().unwrap();
        assert_eq!(header(content, "Auto-Submitted"), Some("auto-generated"), "{content}");
        assert_eq!(header(content, "X-Jobexec-Message-Id"), Some(&*message.id.to_string()), "{content}");
        assert_eq!(header(content, "To"), Some("ops@example.org"), "{content}");
        assert!(header(content, "Date").is_some(), "{content}");
        assert!(
            header(content, "Subject").unwrap().starts_with("[jobexec] team-a/jobs: breaker open"),
            "{content}"
        );
        assert!(header(content, "Content-Type").unwrap().starts_with("multipart/alternative"), "{content}");
        for part in ["text/plain; charset=utf-8", "text/html; charset=utf-8", "job 21 #5: Failed"] {
            assert!(content.contains(part), "{content}");
        }
        ids.push(header(content, "Message-ID").unwrap().to_owned());
    }
    assert_eq!(ids[0], format!("<{}@example.org>", message.id));
    assert_eq!(ids[0], ids[1]);
    deliver(&destination, &full()).await.unwrap();
    assert!(sink.next("mail").await["content"].as_str().unwrap().lines().all(|line| line.len() <= 998));
}

#[tokio::test]
async fn starttls_and_a_login() {
    let told = json!({"tls": "starttls", "login": ["operator", PASSWORD]});
    let Some(mut sink) = sink("STARTTLS", told).await else { return };
    let server = server(&sink, Security::StartTls);
    deliver(&to_ops(with_login(server.clone(), PASSWORD)), &message()).await.unwrap();
    let mail = sink.next("mail").await;
    assert_eq!((&mail["tls"], &mail["login"]), (&json!(true), &json!("operator")));

    let error = deliver(&to_ops(with_login(server.clone(), "wrong horse")), &message()).await.unwrap_err();
    assert_eq!(reason(&error, &["wrong horse"]), "LoginRefused", "{error}");
    assert!(error.to_string().contains("535 5.7.8 Wrong credentials"), "{error}");
    let error = deliver(&to_ops(server.clone()), &message()).await.unwrap_err();
    assert_eq!(reason(&error, &[]), "Refused", "{error}");
    // An untrusted certificate: the system does not know its authority.
    let stranger = Server { authorities: None, ..with_login(server, PASSWORD) };
    let error = deliver(&to_ops(stranger), &message()).await.unwrap_err();
    assert_eq!(reason(&error, &[PASSWORD]), "TLSFailed", "{error}");
    assert!(!sink.end().await.contains(&"mail".to_owned()));
}

#[tokio::test]
async fn tls_from_the_start() {
    let told = json!({"tls": "implicit", "login": ["operator", PASSWORD]});
    let Some(mut sink) = sink("TLS from the start", told).await else { return };
    let server = with_login(server(&sink, Security::Tls), PASSWORD);
    deliver(&to_ops(server.clone()), &message()).await.unwrap();
    let mail = sink.next("mail").await;
    assert_eq!((&mail["tls"], &mail["login"]), (&json!(true), &json!("operator")));
    for authorities in [None, Some(rcgen_of_another())] {
        let error = deliver(&to_ops(Server { authorities, ..server.clone() }), &message()).await.unwrap_err();
        assert_eq!(reason(&error, &[PASSWORD]), "TLSFailed", "{error}");
    }
    let other_name = Server { host: "localhost".to_owned(), ..server };
    let error = deliver(&to_ops(other_name), &message()).await.unwrap_err();
    assert_eq!(reason(&error, &[PASSWORD]), "TLSFailed", "{error}");
}

#[tokio::test]
async fn what_was_said_ahead_of_tls_is_no_answer() {
    for how in ["ahead", "far ahead"] {
        let told = json!({"tls": "starttls", "misbehaves": how});
        let Some(sink) = sink("answers ahead of TLS", told).await else { return };
        let error = deliver(&to_ops(server(&sink, Security::StartTls)), &message()).await.unwrap_err();
        assert_eq!(reason(&error, &[]), "TLSFailed", "{how}: {error}");
    }
}

fn rcgen_of_another() -> CaBundle {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
    CaBundle::parse(&made.cert.pem()).unwrap()
}

#[tokio::test]
async fn a_server_that_does_not_offer_tls_is_sent_nothing() {
    let told = json!({"login": ["operator", PASSWORD]});
    let Some(sink) = sink("no TLS", told).await else { return };
    let server = with_login(server(&sink, Security::StartTls), PASSWORD);
    let error = deliver(&to_ops(server.clone()), &message()).await.unwrap_err();
    assert_eq!(reason(&error, &[PASSWORD]), "TLSNotOffered", "{error}");
    let from_the_start = Server { security: Security::Tls, ..server.clone() };
    let error = deliver(&to_ops(from_the_start), &message()).await.unwrap_err();
    assert_eq!(reason(&error, &[PASSWORD]), "TLSFailed", "{error}");
    // Without TLS no login is attempted.
    let plain = Server { security: Security::None, ..server };
    let error = deliver(&to_ops(plain.clone()), &message()).await.unwrap_err();
    assert_eq!(reason(&error, &[PASSWORD]), "InvalidConfiguration", "{error}");
    assert!(!format!("{plain:?}").contains(PASSWORD));
    assert_eq!(sink.end().await, ["connected", "hello", "connected"]);
}

#[tokio::test]
async fn what_a_server_refuses_is_told() {
    for (how, expected, said) in [
        ("greeting", "Refused", "554 5.7.1 No service for you"),
        ("recipient", "RecipientRefused", "550 5.1.1 No such user here"),
        ("nonsense", "InvalidAnswer", ""),
        ("endless", "InvalidAnswer", "it sends too much"),
    ] {
        let Some(sink) = sink("a mail server that refuses", json!({"misbehaves": how})).await else { return };
        let error = deliver(&to_ops(server(&sink, Security::None)), &message()).await.unwrap_err();
        assert_eq!(reason(&error, &[]), expected, "{how}: {error}");
        assert!(error.to_string().contains(said), "{how}: {error}");
        assert!(!error.is_final());
    }
    // A server that refuses everything for now says so to any command: that does not concern the recipient.
    let told = json!({"refuses": "example.org", "said": "421 4.7.0 Too many errors"});
    let Some(sink) = sink("a mail server that has enough", told).await else { return };
    let error = deliver(&to_ops(server(&sink, Security::None)), &message()).await.unwrap_err();
    assert_eq!(reason(&error, &[]), "Refused", "{error}");
    assert!(error.to_string().contains("refused the recipient: 421 4.7.0 Too many errors"), "{error}");
}

#[tokio::test]
async fn a_password_that_the_server_repeats_is_not_told() {
    let told = json!({"tls": "starttls", "login": ["operator", PASSWORD], "misbehaves": "echo"});
    let Some(sink) = sink("a server that repeats the password", told).await else { return };
    let server = with_login(server(&sink, Security::StartTls), "wrong horse");
    let error = deliver(&to_ops(server), &message()).await.unwrap_err();
    assert_eq!(reason(&error, &["wrong horse"]), "LoginRefused", "{error}");
}

#[tokio::test]
async fn a_server_that_hangs_is_given_up() {
    let hang = async |how: &str, doing: &str| {
        let told = json!({"misbehaves": how});
        let Some(sink) = sink("a mail server that hangs", told).await else { return };
        let error = deliver(&to_ops(server(&sink, Security::None)), &message()).await.unwrap_err();
        assert_eq!(reason(&error, &[]), "TimedOut", "{how}: {error}");
        assert!(error.to_string().contains(doing), "{how}: {error}");
    };
    tokio::join!(hang("silent", "its greeting"), hang("hang", "it may have accepted the e-mail"));
}

#[tokio::test]
async fn what_is_no_address_reaches_no_server() {
    let Some(sink) = sink("what is no address", json!({})).await else { return };
    let server = server(&sink, Security::None);
    for to in [
        "",
        "ops",
        "@",
        "ops@",
        "@example.org",
        "ops@example.org\r\nRCPT TO:<x@example.org>",
        "ops@example.org\n",
        "ops@exam\0ple.org",
        "ops@example.org, x@example.org",
        "ops@example.org x@example.org",
        "Ops <ops@example.org>",
        "\"a\r\nb\"@example.org",
        "a@b@example.org",
        "ops@[127.0.0.1]",
        "ops@exa mple.org",
        &format!("{}@example.org", "x".repeat(10_000)),
        "ops@\u{202e}example.org",
    ] {
        let destination = Destination::Email { server: server.clone(), to: to.to_owned() };
        let error = deliver(&destination, &message()).await.unwrap_err();
        assert_eq!(reason(&error, &[]), "InvalidAddress", "{to:?}: {error}");
        assert!(error.is_final() && error.to_string().len() < 500, "{error}");
        assert!(!error.to_string().contains(['\r', '\n', '\0', '\u{202e}']), "{error}");
    }
    let nobody = Server { from: "nobody".to_owned(), ..server.clone() };
    let error = deliver(&to_ops(nobody), &message()).await.unwrap_err();
    assert_eq!(reason(&error, &[]), "InvalidConfiguration", "{error}");
    assert!(!sink.end().await.contains(&"sender".to_owned()));
}

#[tokio::test]
async fn addresses_and_subjects_of_the_whole_world() {
    let Some(mut sink) = sink("addresses not in ASCII", json!({"smtputf8": true})).await else { return };
    let message = Message { store: "jöbs-日本".to_owned(), ..message() };
    // The blanks are those of a char(n).
    for to in ["jürgen@example.org", "ops@bücher.example", "ops@example.org   "] {
        let destination = Destination::Email { server: server(&sink, Security::None), to: to.to_owned() };
        deliver(&destination, &message).await.unwrap();
        let mail = sink.next("mail").await;
        assert_eq!(mail["recipients"], json!([to.trim_end()]));
        assert!(
            header(mail["content"].as_str().unwrap(), "Subject").unwrap().contains("=?utf-8?b?"),
            "{mail}"
        );
    }
    let Some(ascii) = self::sink("addresses not in ASCII", json!({})).await else { return };
    let to = "jürgen@example.org".to_owned();
    let destination = Destination::Email { server: server(&ascii, Security::None), to };
    let error = deliver(&destination, &message).await.unwrap_err();
    assert_eq!(reason(&error, &[]), "InvalidAddress", "{error}");
    assert_eq!(ascii.end().await, ["connected", "hello"]);
}

#[tokio::test]
async fn nobody_is_there() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let spec = json!({"host": "127.0.0.1", "port": port, "security": "None", "from": "jobexec@example.org"});
    let spec: Smtp = serde_json::from_value(spec).unwrap();
    let error = deliver(&to_ops(Server::new(&spec, None, None)), &message()).await.unwrap_err();
    assert_eq!(reason(&error, &[]), "Unreachable", "{error}");
    let nowhere = Server { host: "nowhere.invalid".to_owned(), ..Server::new(&spec, None, None) };
    let error = deliver(&to_ops(nowhere), &message()).await.unwrap_err();
    assert_eq!(reason(&error, &[]), "Unreachable", "{error}");
}

#[test]
fn ports_are_the_usual_ones() {
    for (security, port) in [("StartTLS", 587), ("TLS", 465), ("None", 25)] {
        let spec = json!({"host": "mail.example.org", "security": security, "from": "jobexec@example.org"});
        assert_eq!(Server::new(&serde_json::from_value(spec).unwrap(), None, None).port, port);
    }
}
