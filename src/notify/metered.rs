//! A connection of which only so much is read, and one line at a time: a server that never ends its line may not fill the
//! memory, and what somebody on the way sends ahead of TLS is not taken for an answer within it.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use lettre::transport::smtp::client::AsyncTokioStream;
use tokio::io::{AsyncBufRead as _, AsyncRead, AsyncWrite, BufReader, ReadBuf};

/// How much, in bytes: many times what a server has to say.
const LIMIT: usize = 256 * 1024;

/// The connection.
#[derive(Debug)]
pub(super) struct Metered<S> {
    stream: BufReader<S>,
    peer: SocketAddr,
    left: usize,
}

impl<S: AsyncRead> Metered<S> {
    pub(super) fn new(stream: S, peer: SocketAddr) -> Self {
        Self { stream: BufReader::new(stream), peer, left: LIMIT }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Metered<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let bytes = ready!(Pin::new(&mut this.stream).poll_fill_buf(cx))?;
        // Whoever reads answers keeps what is behind them, also beyond STARTTLS. So nothing is: it stays here, and is
        // handed to TLS, which does not take it for its own.
        let line = bytes.split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default();
        let line = line.get(..buffer.remaining()).unwrap_or(line);
        buffer.put_slice(line);
        let read = line.len();
        Pin::new(&mut this.stream).consume(read);
        this.left = this.left.saturating_sub(read);
        if this.left == 0 {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, "it says too much")));
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Metered<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin + std::fmt::Debug> AsyncTokioStream for Metered<S> {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.peer)
    }
}
