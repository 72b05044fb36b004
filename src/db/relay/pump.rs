//! Relays one connection: requests of sqlx go to the server unchanged, and answers of the server go through the filter.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::Fault;
use super::filter::{Filter, Stop};
use super::memory::{Memory, crowded};
use super::upstream::{Endpoint, Stream};

/// The number of bytes read at a time: requests are short, answers can be long.
const UP: usize = 8 * 1024;
const DOWN: usize = 32 * 1024;

/// The maximum duration of closing a connection.
pub(super) const FAREWELL: Duration = Duration::from_secs(2);

/// The maximum time that a server may take to receive what sqlx sends. Meanwhile the relay does not notice if sqlx closes its side.
const STALLED: Duration = Duration::from_mins(1);

/// The maximum rate of data that nothing waits for, in bytes per second, and the maximum burst in bytes. If a server sends more,
/// the relay reads it no faster than that.
const NOISE: f64 = 8.0 * 1024.0 * 1024.0;

/// Relays one connection of sqlx until it ends, or until it is cut.
pub(super) async fn run(
    client: UnixStream,
    endpoint: Arc<Endpoint>,
    memory: Arc<Memory>,
    cut: CancellationToken,
) {
    let limit = endpoint.connect_timeout;
    let deadline = Instant::now() + limit;
    let (from_client, to_client) = client.into_split();
    let opening = timeout_at(deadline, endpoint.open(deadline));
    let Some(opened) = cut.run_until_cancelled(opening).await else { return };
    let opened = opened.unwrap_or(Err(Fault::TimedOut(limit)));
    let upstream = match opened {
        Ok(upstream) => upstream,
        Err(fault) => return refuse(from_client, to_client, &fault).await,
    };
    let start = Start { deadline, limit, cut };
    let filter = Filter::new(upstream.trusted, memory);
    match upstream.stream {
        Stream::Plain(stream) => {
            let (from_server, to_server) = stream.into_split();
            relay((from_client, to_client), (from_server, to_server), filter, start).await;
        }
        Stream::Tls(stream) => {
            let server = tokio::io::split(*stream);
            relay((from_client, to_client), server, filter, start).await;
        }
    }
}

/// The deadline of the login, the time limit that it comes from, and what cuts the connection.
struct Start {
    deadline: Instant,
    limit: Duration,
    cut: CancellationToken,
}

/// The way in which a direction ended.
enum End {
    /// The sender has closed its side.
    Closed,
    /// The receiver no longer accepts data.
    Broken,
    /// The server sent something that the filter does not pass on.
    Stopped(Stop),
}

async fn relay<R, W>(
    (mut from_client, mut to_client): (OwnedReadHalf, OwnedWriteHalf),
    (mut from_server, mut to_server): (R, W),
    filter: Filter,
    start: Start,
) where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    let end = {
        let cut = start.cut.clone();
        let mut down = std::pin::pin!(down(&mut from_server, &mut to_client, filter, start));
        tokio::select! {
            end = up(&mut from_client, &mut to_server, &cut) => match end {
                // The server has closed its side, and may have sent the reason.
                End::Broken => timeout(FAREWELL, down).await.unwrap_or(End::Closed),
                end => end,
            },
            end = &mut down => end,
        }
    };
    match end {
        End::Stopped(Stop { fault, between_messages: true }) => refuse(from_client, to_client, &fault).await,
        End::Stopped(Stop { fault, between_messages: false }) => {
            // An error cannot be sent inside a message: sqlx only sees that the connection has ended.
            tracing::warn!(?fault, "a connection to a database was ended in the middle of a message");
        }
        End::Closed | End::Broken => {}
    }
    // It does not matter whether the server receives this.
    let _ = timeout(FAREWELL, to_server.shutdown()).await;
}

/// Relays from sqlx to the server. Passes on what sqlx has sent before the cut: its last message says that the session ends, and
/// without it the server counts the session as abandoned.
async fn up<W: AsyncWrite + Unpin>(from: &mut OwnedReadHalf, to: &mut W, cut: &CancellationToken) -> End {
    let mut buffer = vec![0; UP];
    loop {
        let read = tokio::select! {
            biased;
            read = from.read(&mut buffer) => read,
            () = cut.cancelled() => return End::Closed,
        };
        match read {
            Ok(0) | Err(_) => return End::Closed,
            Ok(read) => {
                // TLS buffers data until it is flushed.
                let sent = async {
                    to.write_all(&buffer[..read]).await?;
                    to.flush().await
                };
                let after_cut = async {
                    cut.cancelled().await;
                    tokio::time::sleep(FAREWELL).await;
                };
                let sent = tokio::select! {
                    sent = timeout(STALLED, sent) => sent,
                    () = after_cut => return End::Closed,
                };
                if !matches!(sent, Ok(Ok(()))) {
                    return End::Broken;
                }
            }
        }
    }
}

/// Relays from the server to sqlx.
async fn down<R: AsyncRead + Unpin>(
    from: &mut R,
    to: &mut OwnedWriteHalf,
    mut filter: Filter,
    start: Start,
) -> End {
    let (mut buffer, mut output, mut pace) = (vec![0; DOWN], Vec::with_capacity(DOWN), Pace::new());
    let ended = filter.ended();
    loop {
        let read = tokio::select! {
            read = receive(from, &mut buffer, &filter, &start) => read,
            () = ended.cancelled() => Err(crowded()),
        };
        let read = match read {
            Ok(0) => return End::Closed,
            Ok(read) => read,
            Err(fault) => {
                return End::Stopped(Stop { fault, between_messages: filter.is_between_messages() });
            }
        };
        output.clear();
        let fed = filter.feed(&buffer[..read], &mut output);
        tokio::select! {
            written = to.write_all(&output) => if written.is_err() {
                return End::Closed;
            },
            () = ended.cancelled() => {
                return End::Stopped(Stop { fault: crowded(), between_messages: false });
            }
        }
        if let Err(stop) = fed {
            return End::Stopped(stop);
        }
        // Do not keep a large buffer forever.
        output.shrink_to(DOWN);
        if let Some(pause) = pace.pause(filter.take_noise(), Instant::now()) {
            tokio::time::sleep(pause).await;
        }
    }
}

/// Receives the next bytes; returns 0 if the server has closed the connection.
async fn receive<R: AsyncRead + Unpin>(
    from: &mut R,
    buffer: &mut [u8],
    filter: &Filter,
    start: &Start,
) -> Result<usize, Fault> {
    let reading = async {
        match from.read(buffer).await {
            // The server closed a TLS connection without announcing it.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
            read => read.map_err(|error| Fault::Unreachable(error.to_string())),
        }
    };
    if filter.has_started() {
        return reading.await;
    }
    match timeout_at(start.deadline, reading).await {
        Ok(Ok(0)) => Err(Fault::Unreachable("it hung up before the login was done".to_owned())),
        Ok(read) => read,
        Err(_) => Err(Fault::TimedOut(start.limit)),
    }
}

/// Sends sqlx the reason why the connection ended, and waits until sqlx has read it. Meanwhile it reads what sqlx still sends;
/// otherwise sqlx would see a broken connection in place of the reason.
async fn refuse(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, fault: &Fault) {
    let telling = async {
        to.write_all(&fault.response()).await?;
        to.shutdown().await?;
        tokio::io::copy(&mut from, &mut tokio::io::sink()).await
    };
    if !matches!(timeout(FAREWELL, telling).await, Ok(Ok(_))) {
        tracing::debug!(?fault, "nobody waited to hear why a connection ended");
    }
}

/// Limits the rate of data that nothing waits for.
struct Pace {
    /// The number of bytes that may still arrive at once; negative if they have already arrived.
    left: f64,
    at: Instant,
}

impl Pace {
    fn new() -> Self {
        Self { left: NOISE, at: Instant::now() }
    }

    /// Returns how long to wait after `bytes` more bytes.
    fn pause(&mut self, bytes: usize, now: Instant) -> Option<Duration> {
        if bytes == 0 {
            return None;
        }
        let earned = now.saturating_duration_since(self.at).as_secs_f64() * NOISE;
        self.at = now;
        self.left = (self.left + earned).min(NOISE) - bytes as f64;
        (self.left < 0.0).then(|| Duration::from_secs_f64(-self.left / NOISE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn noise_has_a_rate() {
        let (mut pace, now) = (Pace::new(), Instant::now());
        assert_eq!(pace.pause(0, now), None);
        assert_eq!(pace.pause(8 << 20, now), None);
        let pause = pace.pause(4 << 20, now).unwrap();
        assert!((0.4..0.6).contains(&pause.as_secs_f64()), "{pause:?}");
        assert_eq!(pace.pause(1, now + Duration::from_secs(9)), None);
        assert!(
            pace.pause(9 << 20, now + Duration::from_secs(99)).is_some(),
            "no more is saved than one second's"
        );
    }
}
