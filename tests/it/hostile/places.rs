//! Every place that can name a Secret, a token or a key, with a canary in it that then causes an error.

use std::process::{Command, Output};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use jobexec_operator::api::ExecutionStore;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::canary::Canaries;
use crate::support::World;
use crate::support::hook::{Answer, Hook, status};
use crate::support::https::Https;
use crate::support::smtp::Sink;

/// A private key in PEM form, with a canary in it.
pub(super) fn private_key(canary: &str) -> String {
    let line = BASE64.encode(format!("{canary}{canary}"));
    format!("-----BEGIN PRIVATE KEY-----\n{line}\n-----END PRIVATE KEY-----\n")
}

/// Starts a server that speaks just enough Postgres to refuse a login, and repeats the password in doing so.
async fn refusing(password: &str) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let encoded = BASE64.encode(format!("me:{password}"));
    let fields = format!("SFATAL\0VFATAL\0C28P01\0Mthe password {password} ({encoded}) is wrong\0\0");
    let length = u32::try_from(fields.len() + 4).unwrap().to_be_bytes();
    let answer = [b"E", &length[..], fields.as_bytes()].concat();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut startup = [0; 512];
            // A client may disconnect at any time.
            let _ = stream.read(&mut startup).await;
            let _ = stream.write_all(&answer).await;
        }
    });
    port
}

/// Creates a store for each possible error of a connection. Returns the expected reasons.
pub(super) async fn connections(world: &World, canaries: &Canaries) -> Vec<(String, &'static str)> {
    let good = world.url("right/password");
    let wrong = canaries.put("a password that is wrong");
    let mut urls = vec![
        (good.replace("right%2Fpassword", &wrong), "AuthenticationFailed"),
        (good.replace("sslmode=require", "sslmode=verify-full"), "TLSFailed"),
    ];
    let mut with = |place: &str, url: &str, reason: &'static str| {
        let canary = canaries.put(place);
        urls.push((url.replace("{C}", &canary), reason));
    };
    with("no URL", "{C}", "InvalidURL");
    with("no URL, several words", "{C} {C}\n{C}", "InvalidURL");
    with("another scheme", "mysql://u:{C}@127.0.0.1/d", "InvalidURL");
    with("a port that is none", "postgres://u:{C}@127.0.0.1:99999/d", "InvalidURL");
    with("the port", "postgres://u:p@127.0.0.1:{C}/d", "InvalidURL");
    with("no user", "postgres://:{C}@127.0.0.1/d", "InvalidURL");
    with("a # in the password", "postgres://u:{C}#x@127.0.0.1/d", "InvalidURL");
    with("a NUL", "postgres://u:{C}%00@127.0.0.1/d", "InvalidURL");
    with("an unknown parameter", "postgres://u:p@127.0.0.1/d?{C}=1", "InvalidURL");
    with("the value of a parameter", "postgres://u:p@127.0.0.1/d?sslmode={C}", "InvalidURL");
    with("a parameter that is refused", "postgres://u:p@127.0.0.1/d?sslcert={C}", "InvalidURL");
    with("a host with blanks", "postgres://u:p@{C} x/d", "InvalidURL");
    with("user and database", "postgres://{C}:{C}@127.0.0.1:9/{C}", "ConnectionFailed");
    let password = canaries.put("a password that the server repeats");
    let port = refusing(&password).await;
    urls.push((
        format!("postgres://u:{password}@127.0.0.1:{port}/d?sslmode=disable"),
        "AuthenticationFailed",
    ));
    let mut stores = Vec::new();
    for (n, (url, reason)) in urls.into_iter().enumerate() {
        let name = format!("url-{n}");
        world.secret(&name, json!({"uri": url})).await;
        let connection = json!({"connection": {"secretRef": {"name": name}}});
        world.apply::<ExecutionStore>(&name, World::store_with(&name, connection)).await.unwrap();
        stores.push((name, reason));
    }
    let binary = [canaries.put("bytes that are no text").as_bytes(), &[0xff, 0xfe]].concat();
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "binary"}, "data": {"uri": BASE64.encode(binary)}});
    let params = PatchParams::apply("test").force();
    world.api::<Secret>().patch("binary", &params, &Patch::Apply(secret)).await.unwrap();
    let connection = json!({"connection": {"secretRef": {"name": "binary"}}});
    world.apply::<ExecutionStore>("binary", World::store_with("binary", connection)).await.unwrap();
    stores.push(("binary".to_owned(), "SecretNotText"));
    stores.extend(authorities(world, canaries).await);
    stores
}

/// Creates a store for each text that is not a certificate authority.
async fn authorities(world: &World, canaries: &Canaries) -> Vec<(String, &'static str)> {
    let certificate = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap().cert.pem();
    let key = || private_key(&canaries.put("a private key named as a certificate authority"));
    let text = canaries.put("text named as a certificate authority");
    let mut stores = Vec::new();
    for (n, pem) in [
        text.clone(),
        key(),
        key().replace("-----END", "-----THE END"),
        key().replace('\n', ""),
        key().replace("PRIVATE KEY", "CERTIFICATE"),
        key().replace("PRIVATE KEY", "CERTIFICATE").replace('=', "!"),
        format!("{certificate}{}", key()),
        format!("-----BEGIN CERTIFICATE-----\n{text}"),
    ]
    .into_iter()
    .enumerate()
    {
        let name = format!("ca-{n}");
        world.secret(&name, json!({"uri": world.url("right/password"), "tls.key": pem})).await;
        let connection = json!({"connection": {
            "secretRef": {"name": name}, "caSecretRef": {"name": name, "key": "tls.key"}}});
        world.apply::<ExecutionStore>(&name, World::store_with(&name, connection)).await.unwrap();
        stores.push((name, "InvalidCABundle"));
    }
    stores
}

/// Channels that each fail in a different way, and everything that they need.
pub(super) struct Channels {
    pub(super) spec: Value,
    pub(super) count: usize,
    pub(super) echo: Hook,
    _redirect: Hook,
    _tls: Hook,
    _sink: Option<Sink>,
}

pub(super) async fn channels(world: &World, canaries: &Canaries) -> Channels {
    let echo = Hook::start(false, Answer::Echo).await;
    let redirect = Hook::start(false, status("302 Found")).await;
    let tls = Hook::start(true, status("200 OK")).await;
    let mut channels = Vec::new();
    let mut named = Vec::new();
    let mut url = |name: &str, url: String| {
        named.push((name.to_owned(), json!({"url": url})));
        channels.push(json!({"name": name, "webhook": {"urlSecretRef": {"name": name, "key": "url"}}}));
    };
    let canary = |place: &str| canaries.put(place);
    let [path, query, user, password] = ["the path", "the query", "the user", "the password"]
        .map(|part| canary(&format!("{part} of a webhook")));
    let whole = echo.base.replace("http://", &format!("http://{user}:{password}@"));
    url("echo", format!("{whole}/services/{path}/%2F{path}?token={query}#x"));
    url("redirect", format!("{}/{}", redirect.base, canary("a webhook that redirects")));
    url("tls", format!("{}/{}", tls.base, canary("a webhook without trust")));
    url("away", format!("http://127.0.0.1:9/{}", canary("a webhook that is away")));
    url("scheme", format!("ftp://{}/", canary("a webhook of another scheme")));
    url("port", format!("https://u:{}@127.0.0.1:99999/", canary("a webhook with a wrong port")));
    for (name, key) in [
        ("signed", format!("whsec_{}!", canary("a signing key"))),
        ("ca", private_key(&canary("a key named as CA"))),
    ] {
        named.push((name.to_owned(), json!({"key": key})));
    }
    let key = |name: &str| json!({"name": name, "key": "key"});
    channels.push(json!({"name": "signed", "webhook": {"url": tls.base, "signingSecretRef": key("signed")}}));
    channels.push(json!({"name": "ca", "webhook": {"url": tls.base, "caSecretRef": key("ca")}}));
    channels.push(json!({"name": "people", "email": {"to": ["ops@example.org"]}}));
    for (name, data) in named {
        world.secret(&name, data).await;
    }
    let told = json!({"tls": "starttls", "login": ["operator", "right"], "misbehaves": "echo all"});
    let sink = Sink::start("canaries in a mail server's login", &told).await;
    let (port, certificate) =
        sink.as_ref().map_or((9, String::new()), |sink| (sink.port, sink.certificate.clone()));
    let login =
        json!({"username": canary("a mail user"), "password": canary("a mail password"), "ca": certificate});
    world.secret("mail", login).await;
    let smtp = json!({"host": "127.0.0.1", "port": port, "from": "jobexec@example.org",
        "credentialsSecretRef": {"name": "mail"}, "caSecretRef": {"name": "mail", "key": "ca"}});
    // Templates can access only the message.
    let templates =
        json!({"text": "{{ debug() }} {{ url }} {{ target }} {{ self }}", "html": "{{ nonsense( }}"});
    let spec = json!({"notifications": {"groupWait": "0s", "groupInterval": "0s", "smtp": smtp,
        "templates": templates, "channels": channels}});
    Channels { spec, count: channels.len(), echo, _redirect: redirect, _tls: tls, _sink: sink }
}

/// Runs the command line with values that it must not repeat.
fn command(args: &[&str], env: &[(&str, &str)]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_jobexec"));
    command.args(args).env_clear().env("RUST_LOG", "trace").env("RUST_BACKTRACE", "1");
    let Output { stdout, stderr, status } = command.envs(env.iter().copied()).output().unwrap();
    assert!(!status.success(), "{args:?} {env:?}");
    format!("{}\n{}", String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr))
}

/// Runs commands with secret values that they must not repeat. Returns their output.
pub(super) fn commands(world: &World, https: &Https, canaries: &Canaries) -> Vec<(String, String)> {
    let mut output = Vec::new();
    let mut run = |args: &[&str], env: &[(&str, &str)]| {
        output.push((format!("jobexec {}", args.first().unwrap()), command(args, env)));
    };
    for url in ["mysql://u:{C}@h/d", "{C}", "postgres://u:{C}@127.0.0.1:9/d", "postgres://u:p@h/d?{C}=1"] {
        let url = url.replace("{C}", &canaries.put("DATABASE_URL"));
        run(&["list"], &[("DATABASE_URL", &url)]);
        run(&["health", "--database-url", &url], &[]);
        run(&["schema", "--apply"], &[("DATABASE_URL", &url)]);
    }
    let (store, api) = (world.named("jobs"), format!("https://{}", https.address()));
    let token = canaries.put("JOBEXEC_TOKEN");
    let remote = ["list", "--store", &store, "--api-url", &api, "--insecure-skip-tls-verify"];
    run(&remote, &[("JOBEXEC_TOKEN", &token)]);
    run(&remote, &[("JOBEXEC_TOKEN", &format!("{token} {token}"))]);
    let file = world.file("key-as-ca", &private_key(&canaries.put("a key named as --certificate-authority")));
    run(
        &["list", "--store", &store, "--api-url", &api, "--certificate-authority", &file],
        &[("JOBEXEC_TOKEN", "x")],
    );
    let broken =
        format!("users:\n- name: me\n  user: {{token: [{}\n", canaries.put("a token in a kubeconfig"));
    let broken = world.file("broken-kubeconfig", &broken);
    let other = format!("users: {{token: {}}}\n", canaries.put("a token in no kubeconfig"));
    let other = world.file("no-kubeconfig", &other);
    for kubeconfig in [broken, other] {
        run(&["resume", "--store", &store], &[("KUBECONFIG", &kubeconfig)]);
        run(&["list", "--store", &store], &[("KUBECONFIG", &kubeconfig)]);
        run(&["operator"], &[("KUBECONFIG", &kubeconfig)]);
    }
    output
}
