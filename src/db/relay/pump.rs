//! One connection: what sqlx sends goes to the server as it is, what the server sends goes through the filter.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{Instant, timeout, timeout_at};

use super::Fault;
use super::filter::{Filter, Stop};
use super::memory::{Memory, crowded};
use super::upstream::{Endpoint, Stream};

/// How much is read at a time, in bytes: requests are short, answers may be long.
const UP: usize = 8 * 1024;
const DOWN: usize = 32 * 1024;

/// How long the end of a connection may take, once it is decided.
const FAREWELL: Duration = Duration::from_secs(2);

/// How long a server may take to receive what sqlx sends. Meanwhile the relay does not see that sqlx has hung up.
const STALLED: Duration = Duration::from_mins(1);

/// How much may come that nobody waits for, in bytes a second, and how much of it at once. A server that sends more is read no
/// faster.
const NOISE: f64 = 8.0 * 1024.0 * 1024.0;

/// Relays one connection of sqlx until it ends.
pub(super) async fn run(client: UnixStream, endpoint: Arc<Endpoint>, memory: Arc<Memory>) {
    let limit = endpoint.connect_timeout;
    let deadline = Instant::now() + limit;
    let (from_client, to_client) = client.into_split();
    let opened = timeout_at(deadline, endpoint.open(deadline)).await.unwrap_or(Err(Fault::TimedOut(limit)));
    let upstream = match opened {
        Ok(upstream) => upstream,
        Err(fault) => return refuse(from_client, to_client, &fault).await,
    };
    let start = Start { deadline, limit };
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

/// By when the login must be done, and how long that is.
struct Start {
    deadline: Instant,
    limit: Duration,
}

/// How a direction ended.
enum End {
    /// Whoever sends is at the end.
    Closed,
    /// Nobody receives any more.
    Broken,
    /// The server sent what is not passed on.
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
        let mut down = std::pin::pin!(down(&mut from_server, &mut to_client, filter, start));
        tokio::select! {
            end = up(&mut from_client, &mut to_server) => match end {
                // The server has closed its side, and may have said why.
                End::Broken => timeout(FAREWELL, down).await.unwrap_or(End::Closed),
                end => end,
            },
            end = &mut down => end,
        }
    };
    match end {
        End::Stopped(Stop { fault, between_messages: true }) => refuse(from_client, to_client, &fault).await,
        End::Stopped(Stop { fault, between_messages: false }) => {
            // An error cannot be told within a message: sqlx sees that the connection has ended.
            tracing::warn!(?fault, "a connection to a database was ended in the middle of a message");
        }
        End::Closed | End::Broken => {}
    }
    // Whether the server hears of it does not matter.
    let _ = timeout(FAREWELL, to_server.shutdown()).await;
}

/// From sqlx to the server.
async fn up<W: AsyncWrite + Unpin>(from: &mut OwnedReadHalf, to: &mut W) -> End {
    let mut buffer = vec![0; UP];
    loop {
        match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return End::Closed,
            Ok(read) => {
                // TLS keeps what it has until it is told to send it.
                let sent = async {
                    to.write_all(&buffer[..read]).await?;
                    to.flush().await
                };
                if !matches!(timeout(STALLED, sent).await, Ok(Ok(()))) {
                    return End::Broken;
                }
            }
        }
    }
}

/// From the server to sqlx.
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
        // A large one is not kept for ever.
        output.shrink_to(DOWN);
        if let Some(pause) = pace.pause(filter.take_noise(), Instant::now()) {
            tokio::time::sleep(pause).await;
        }
    }
}

/// Receives what comes next; nothing where the server has hung up.
async fn receive<R: AsyncRead + Unpin>(
    from: &mut R,
    buffer: &mut [u8],
    filter: &Filter,
    start: &Start,
) -> Result<usize, Fault> {
    let reading = async {
        match from.read(buffer).await {
            // Under TLS, where the server did not say so.
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

/// Tells sqlx why there is no connection any more, and waits until it has read that: what it still sends is taken, or it would
/// see a broken connection in place of the reason.
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

/// Keeps what nobody waits for to a rate.
struct Pace {
    /// How much more may come at once, in bytes; less than none: it came already.
    left: f64,
    at: Instant,
}

impl Pace {
    fn new() -> Self {
        Self { left: NOISE, at: Instant::now() }
    }

    /// How long to wait after so many bytes more.
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
