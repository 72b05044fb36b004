//! A real HTTP or HTTPS endpoint that keeps the requests and answers as configured.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

/// The way an endpoint answers.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// Sends this text, and closes the connection.
    Text(String),
    /// Sends an error with a body of 10 MB.
    Huge,
    /// Sends nothing, and keeps the connection open.
    Hang,
    /// Sends part of a header, and then a byte now and then.
    Drip,
    /// Sends an error whose body comes a byte now and then.
    DripBody,
    /// Sends an error whose body is the head of the request, as plain text and in base64.
    Echo,
}

/// A request, its header names in lower case.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) line: String,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

/// An endpoint; it ends when dropped.
pub(crate) struct Hook {
    /// The base URL: `http://127.0.0.1:12345`.
    pub(crate) base: String,
    /// Its self-signed certificate.
    pub(crate) certificate: String,
    requests: Arc<Mutex<Vec<Request>>>,
    _task: tokio_util::task::AbortOnDropHandle<()>,
}

/// A status and an empty body.
pub(crate) fn status(line: &str) -> Answer {
    Answer::Text(format!("HTTP/1.1 {line}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"))
}

impl Hook {
    pub(crate) async fn start(tls: bool, answer: Answer) -> Self {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.into())
            .unwrap();
        let acceptor = tls.then(|| TlsAcceptor::from(Arc::new(config)));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let scheme = if tls { "https" } else { "http" };
        let base = format!("{scheme}://{}", listener.local_addr().unwrap());
        let requests = Arc::new(Mutex::new(Vec::new()));
        let kept = requests.clone();
        let task = tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, answer, kept) = (acceptor.clone(), answer.clone(), kept.clone());
                // A client may disconnect at any time.
                tokio::spawn(async move {
                    match acceptor {
                        None => drop(serve(tcp, answer, kept).await),
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(tcp).await {
                                drop(serve(stream, answer, kept).await);
                            }
                        }
                    }
                });
            }
        });
        let task = tokio_util::task::AbortOnDropHandle::new(task);
        Self { base, certificate: made.cert.pem(), requests, _task: task }
    }

    /// The received requests, in order.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }
}

async fn serve(
    mut stream: impl AsyncRead + AsyncWrite + Unpin,
    answer: Answer,
    kept: Arc<Mutex<Vec<Request>>>,
) -> std::io::Result<()> {
    let request = read(&mut stream).await?;
    kept.lock().unwrap().push(request.clone());
    match answer {
        Answer::Text(text) => stream.write_all(text.as_bytes()).await?,
        Answer::Huge => {
            stream.write_all(b"HTTP/1.1 500 No\r\nContent-Length: 10000000\r\n\r\n").await?;
            stream.write_all(&vec![b'x'; 10_000_000]).await?;
        }
        Answer::Echo => {
            let head = format!("{} {:?}", request.line, request.headers);
            let encoded = base64::engine::general_purpose::STANDARD.encode(&head);
            let body = format!("{head} {encoded}");
            let answer = format!("HTTP/1.1 500 No\r\nContent-Length: {}\r\n\r\n{body}", body.len());
            stream.write_all(answer.as_bytes()).await?;
        }
        Answer::Hang => std::future::pending().await,
        Answer::Drip => drip(&mut stream, b"HTTP/1.1 200 OK\r\nX: ").await?,
        Answer::DripBody => {
            drip(&mut stream, b"HTTP/1.1 503 Later\r\nContent-Length: 9999\r\n\r\nbusy").await?;
        }
    }
    stream.shutdown().await
}

async fn drip(stream: &mut (impl AsyncWrite + Unpin), begin: &[u8]) -> std::io::Result<()> {
    stream.write_all(begin).await?;
    loop {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        stream.write_all(b"x").await?;
    }
}

async fn read(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Request> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    };
    let text = String::from_utf8(bytes[..head].to_vec()).unwrap();
    let mut lines = text.split("\r\n");
    let line = lines.next().unwrap().to_owned();
    let headers: HashMap<_, _> = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    let length: usize = headers.get("content-length").map_or(0, |length| length.parse().unwrap());
    let mut body = bytes.split_off(head + 4);
    while body.len() < length {
        if stream.read_buf(&mut body).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(Request { line, headers, body })
}
