//! A server that speaks just enough of the Postgres protocol to cause harm.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::pki_types::PrivatePkcs8KeyDer;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

use super::PATIENCE;

/// A text of the server that looks like a line of the operator's log.
pub(crate) const FORGED: &str = "\u{1b}[31m fake line\n2026-01-01T00:00:00Z  INFO jobexec: FORGED";

/// The size of a flood that nothing stops, in bytes.
const FLOOD: usize = 400 << 20;

/// A SASL login.
const SASL: (u8, &[u8]) = (b'R', b"\0\0\0\x0aSCRAM-SHA-256\0\0");

/// The harm that a server causes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Harm {
    /// An error of 2 GiB, announced and sent, before the login is done.
    BigError,
    /// The same in response to a statement.
    LateError,
    /// A row of 2 GiB.
    HugeRow,
    /// Small rows without end.
    ManyRows,
    /// A row whose value is longer than the row.
    BadRow,
    /// All but the last byte of a row of 4 MiB, and then nothing, in response to a statement.
    HalfRow,
    /// It closes the connection after it has answered a statement.
    HangUp,
    /// A salt with 4294967295 iterations.
    Scram,
    /// A salt that is `,,`.
    BadSasl,
    /// An authentication message without a kind.
    Short,
    /// A message of length 0.
    Zero,
    /// Notices without end before the login is done.
    Notices,
    /// The same in response to a statement.
    LateNotices,
    /// Settings without end.
    Parameters,
    /// Notifications without end.
    Notifications,
    /// Nothing, and the connection stays open.
    Hang,
    /// A byte now and then.
    Drip,
    /// A request for the password in clear text.
    ClearText,
    /// A request for an MD5 hash of the password.
    Md5,
    /// An error whose text forges a line of a log.
    ForgedError,
}

/// A running server; it ends when dropped.
pub(crate) struct Hostile {
    pub(crate) port: u16,
    /// Its self-signed certificate, in PEM form.
    pub(crate) certificate: String,
    state: Arc<State>,
    _task: AbortOnDropHandle<()>,
}

#[derive(Default)]
struct State {
    /// The number of connections that named a login.
    logins: watch::Sender<usize>,
    /// The number of these that the client has ended.
    ended: watch::Sender<usize>,
    /// The bytes that came after that.
    received: Mutex<Vec<u8>>,
}

impl Hostile {
    /// Starts the server, with TLS for clients that request it.
    pub(crate) async fn start(harm: Harm) -> Self {
        let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap();
        let key = PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
        let config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key.into())
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::<State>::default();
        let kept = state.clone();
        let task = tokio::spawn(async move {
            while let Ok((tcp, _)) = listener.accept().await {
                let (acceptor, state) = (acceptor.clone(), kept.clone());
                // The attacked client may disconnect.
                tokio::spawn(async move { drop(accept(tcp, acceptor, harm, &state).await) });
            }
        });
        Self { port, certificate: made.cert.pem(), state, _task: AbortOnDropHandle::new(task) }
    }

    /// The URL of the server.
    pub(crate) fn url(&self, password: &str, sslmode: &str) -> String {
        format!("postgres://someone:{password}@127.0.0.1:{}/app?sslmode={sslmode}", self.port)
    }

    /// Waits until somebody logs in.
    pub(crate) async fn met(&self) {
        let mut logins = self.state.logins.subscribe();
        let met = tokio::time::timeout(PATIENCE, logins.wait_for(|logins| *logins > 0)).await;
        assert!(met.is_ok(), "nobody logged in");
    }

    /// The number of logins.
    pub(crate) fn logins(&self) -> usize {
        *self.state.logins.borrow()
    }

    /// Waits until there were this many logins.
    pub(crate) async fn met_times(&self, times: usize) {
        let mut logins = self.state.logins.subscribe();
        let met = tokio::time::timeout(PATIENCE, logins.wait_for(|logins| *logins >= times)).await;
        assert!(met.is_ok(), "{} logins, where {times} were to come", self.logins());
    }

    /// Waits until this many connections have ended.
    pub(crate) async fn ended_times(&self, times: usize) {
        let mut ended = self.state.ended.subscribe();
        let all = tokio::time::timeout(PATIENCE, ended.wait_for(|ended| *ended >= times)).await;
        assert!(all.is_ok(), "of {} connections {} ended", self.logins(), *self.state.ended.borrow());
    }

    /// The bytes that came after the login.
    pub(crate) fn received(&self) -> Vec<u8> {
        self.state.received.lock().unwrap().clone()
    }
}

async fn accept(
    mut tcp: tokio::net::TcpStream,
    acceptor: TlsAcceptor,
    harm: Harm,
    state: &State,
) -> std::io::Result<()> {
    let first = startup(&mut tcp).await?;
    if first == 80_877_103_u32.to_be_bytes() {
        tcp.write_all(b"S").await?;
        let mut stream = acceptor.accept(tcp).await?;
        startup(&mut stream).await?;
        return attack(&mut stream, harm, state).await;
    }
    attack(&mut tcp, harm, state).await
}

/// Reads a message without a type.
async fn startup(stream: &mut (impl AsyncRead + Unpin)) -> std::io::Result<Vec<u8>> {
    let length = stream.read_u32().await? as usize;
    let mut body = vec![0; length.saturating_sub(4)];
    stream.read_exact(&mut body).await?;
    Ok(body)
}

fn message((kind, body): (u8, &[u8])) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).unwrap().to_be_bytes();
    [&[kind], &length[..], body].concat()
}

/// The end of a login without a password.
fn ready() -> Vec<u8> {
    let messages: [(u8, &[u8]); 4] =
        [(b'R', &[0; 4]), (b'S', b"server_version\x0017.0\0"), (b'K', &[1; 8]), (b'Z', b"I")];
    messages.map(message).concat()
}

fn notice() -> Vec<u8> {
    message((b'N', format!("SERROR\0VERROR\0C01000\0MEVIL {FORGED}\0\0").as_bytes()))
}

async fn attack<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    harm: Harm,
    state: &State,
) -> std::io::Result<()> {
    state.logins.send_modify(|logins| *logins += 1);
    let outcome = harmed(stream, harm, state).await;
    state.ended.send_modify(|ended| *ended += 1);
    outcome
}

async fn harmed<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    harm: Harm,
    state: &State,
) -> std::io::Result<()> {
    match harm {
        Harm::BigError => announce(stream, b'E').await,
        Harm::Notices => flood(stream, |_| notice().repeat(64)).await,
        Harm::Parameters => {
            stream.write_all(&message((b'R', &[0; 4]))).await?;
            flood(stream, |n| message((b'S', format!("k{n}\0{}\0", "v".repeat(4_000)).as_bytes()))).await
        }
        Harm::Hang => std::future::pending().await,
        Harm::Drip => drip(stream).await,
        Harm::Short => keep(stream, state, &message((b'R', &[]))).await,
        Harm::Zero => keep(stream, state, b"R\0\0\0\0aaaa").await,
        Harm::ClearText => keep(stream, state, &message((b'R', &[0, 0, 0, 3]))).await,
        Harm::Md5 => keep(stream, state, &message((b'R', &[0, 0, 0, 5, 1, 2, 3, 4]))).await,
        Harm::BadSasl => {
            stream.write_all(&message(SASL)).await?;
            stream.read_u8().await?;
            keep(stream, state, &message((b'R', b"\0\0\0\x0b,,"))).await
        }
        Harm::Scram => scram(stream, state).await,
        Harm::ForgedError => {
            let text = format!("SFATAL\0VFATAL\0C28000\0MEVIL {FORGED}\0\0");
            keep(stream, state, &message((b'E', text.as_bytes()))).await
        }
        Harm::LateError
        | Harm::HugeRow
        | Harm::HalfRow
        | Harm::HangUp
        | Harm::ManyRows
        | Harm::BadRow
        | Harm::LateNotices
        | Harm::Notifications => late(stream, harm, state).await,
    }
}

/// Completes a normal login, and answers the first statement.
async fn late<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    harm: Harm,
    state: &State,
) -> std::io::Result<()> {
    stream.write_all(&ready()).await?;
    if stream.read_u8().await? == b'X' {
        return Ok(());
    }
    match harm {
        Harm::LateError => announce(stream, b'E').await,
        Harm::HugeRow => announce(stream, b'D').await,
        Harm::HalfRow => {
            let value = vec![b'x'; (4 << 20) - 10];
            let length = u32::try_from(value.len()).unwrap().to_be_bytes();
            let mut row = message((b'D', &[&[0, 1], &length[..], &value].concat()));
            row.pop();
            keep(stream, state, &row).await
        }
        Harm::HangUp => {
            // Reads the whole statement, or the end would be a reset.
            let _ = stream.read(&mut [0; 1_024]).await?;
            stream.write_all(&[message((b'C', b"LISTEN\0")), message((b'Z', b"I"))].concat()).await?;
            stream.shutdown().await
        }
        Harm::ManyRows => flood(stream, |_| message((b'D', &[0, 0])).repeat(1_000)).await,
        Harm::BadRow => keep(stream, state, &message((b'D', &[0, 1, 0, 0, 0, 99, 1]))).await,
        Harm::LateNotices => flood(stream, |_| notice().repeat(64)).await,
        _ => flood(stream, |_| message((b'A', b"\0\0\0\x01jobexec\0app.runs\0")).repeat(64)).await,
    }
}

/// Sends these bytes, and keeps the response.
async fn keep<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    state: &State,
    bytes: &[u8],
) -> std::io::Result<()> {
    stream.write_all(bytes).await?;
    stream.flush().await?;
    let mut buffer = [0; 1_024];
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        state.received.lock().unwrap().extend_from_slice(&buffer[..read]);
    }
}

/// Sends a message of 2 GiB.
async fn announce(stream: &mut (impl AsyncWrite + Unpin), kind: u8) -> std::io::Result<()> {
    stream.write_all(&[kind, 0x7f, 0xff, 0xff, 0xff]).await?;
    flood(stream, |_| [&b"SERROR\0"[..], &vec![b'x'; 1 << 20]].concat()).await
}

async fn flood(
    stream: &mut (impl AsyncWrite + Unpin),
    wave: impl Fn(usize) -> Vec<u8>,
) -> std::io::Result<()> {
    let mut sent = 0;
    for n in 0.. {
        let bytes = wave(n);
        stream.write_all(&bytes).await?;
        sent += bytes.len();
        if sent > FLOOD {
            break;
        }
    }
    std::future::pending().await
}

/// Sends a message a byte at a time, and never its end.
async fn drip(stream: &mut (impl AsyncWrite + Unpin)) -> std::io::Result<()> {
    stream.write_all(&[b'S', 0, 0, 0xff, 0xff]).await?;
    loop {
        tokio::time::sleep(Duration::from_millis(200)).await;
        stream.write_all(b"x").await?;
    }
}

async fn scram<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, state: &State) -> std::io::Result<()> {
    stream.write_all(&message(SASL)).await?;
    let mut answer = vec![0; 1_024];
    let read = stream.read(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer[..read]).into_owned();
    let nonce = answer.split("r=").nth(1).unwrap_or_default();
    let salted = format!("\0\0\0\x0br={nonce}xx,s=c2FsdHNhbHQ=,i=4294967295");
    keep(stream, state, &message((b'R', salted.as_bytes()))).await
}
