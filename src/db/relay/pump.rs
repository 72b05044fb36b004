//! One connection: what sqlx sends goes to the server as it is, what the server sends goes through the filter.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::time::{Instant, timeout, timeout_at};

use super::Fault;
use super::filter::{Filter, Stop};
use super::memory::Memory;
use super::upstream::{Endpoint, Stream};

/// How much is read at a time, in bytes: requests are short, answers may be long.
const UP: usize = 8 * 1024;
const DOWN: usize = 32 * 1024;

/// How long the end of a connection may take, once it is decided.
const FAREWELL: Duration = Duration::from_secs(2);

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
                if sent.await.is_err() {
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
    let stopped = |fault| End::Stopped(Stop { fault, between_messages: true });
    loop {
        let reading = from.read(&mut buffer);
        let read = if filter.has_started() {
            reading.await
        } else {
            match timeout_at(start.deadline, reading).await {
                Ok(Ok(0)) => {
                    return stopped(Fault::Unreachable("it hung up before the login was done".to_owned()));
                }
                Ok(Err(error)) => return stopped(Fault::Unreachable(error.to_string())),
                Ok(read) => read,
                Err(_) => return stopped(Fault::TimedOut(start.limit)),
            }
        };
        let Ok(read @ 1..) = read else { return End::Closed };
        output.clear();
        let fed = filter.feed(&buffer[..read], &mut output);
        if to.write_all(&output).await.is_err() {
            return End::Closed;
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
