//! A proxy in front of Postgres: it reads the messages to recognize the commit of a transaction that can write.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, tcp};

use super::gate::Gate;
use super::writes::{Fate, Writes};

pub(super) async fn serve(listener: TcpListener, server: SocketAddr, gate: Arc<Gate>, writes: Arc<Writes>) {
    let each = gate.clone();
    let connection = move |client: TcpStream| {
        let (gate, writes) = (each.clone(), writes.clone());
        async move {
            // Connections that break are the purpose of the proxy.
            let _ = relay(client, server, &gate, &writes).await;
        }
    };
    gate.serve(listener, connection).await;
}

async fn relay(client: TcpStream, server: SocketAddr, gate: &Gate, writes: &Writes) -> io::Result<()> {
    gate.pass().await;
    let server = TcpStream::connect(server).await?;
    server.set_nodelay(true)?;
    let (client, mut to_client) = client.into_split();
    let (server, mut to_server) = server.into_split();
    // The first message of a client has no type.
    let (mut client, mut server) = (Messages::new(client, 0), Messages::new(server, 1));
    let mut transaction = Transaction::None;
    // How often listeners had been forgotten when this connection began to listen.
    let mut listens = None;
    loop {
        tokio::select! {
            message = client.next() => {
                let message = message?;
                client.type_length = 1;
                gate.pass().await;
                if message.windows(6).any(|text| text == b"LISTEN") {
                    listens.get_or_insert(gate.forgotten());
                }
                if listens.is_some_and(|then| gate.forgotten() > then) {
                    std::future::pending::<()>().await;
                }
                match transaction.take_note(&message, writes) {
                    Fate::Pass => to_server.write_all(&message).await?,
                    Fate::Hold => std::future::pending().await,
                    fate => {
                        to_server.write_all(&message).await?;
                        while server.next().await?[0] != b'Z' {}
                        writes.executed(fate);
                        if fate == Fate::CutReply {
                            return Ok(());
                        }
                        std::future::pending::<()>().await;
                    }
                }
            }
            message = server.next() => {
                let message = message?;
                gate.pass().await;
                to_client.write_all(&message).await?;
            }
        }
    }
}

/// The transaction of a connection.
enum Transaction {
    None,
    Read,
    /// With the statements so far.
    Write(String),
}

impl Transaction {
    /// Follows the client's messages. The commit of a transaction that can write gets a fate.
    fn take_note(&mut self, message: &[u8], writes: &Writes) -> Fate {
        let text = |from: usize| {
            let text = message.get(from..).unwrap_or_default().split(|byte| *byte == 0).next();
            String::from_utf8_lossy(text.unwrap_or_default()).split_whitespace().collect::<Vec<_>>().join(" ")
        };
        match (message[0], &mut *self) {
            (b'Q', _) if text(5).starts_with("BEGIN") => {
                let read_only = text(5).contains("READ ONLY");
                if read_only {
                    writes.read();
                }
                *self = if read_only { Self::Read } else { Self::Write(String::new()) };
            }
            // The name of the prepared statement comes first; ours have none, or a short one.
            (b'P', Self::Write(statements)) => {
                let name = message[5..].iter().position(|byte| *byte == 0).unwrap_or_default();
                statements.push_str(&format!("{}; ", text(5 + name + 1)));
            }
            (b'Q', Self::Write(statements)) if text(5) == "COMMIT" => {
                let what = format!("database: {statements}");
                *self = Self::None;
                return writes.write(what);
            }
            (b'Q', Self::Read) if text(5) == "COMMIT" => *self = Self::None,
            (b'Q', _) if text(5) == "ROLLBACK" => *self = Self::None,
            _ => {}
        }
        Fate::Pass
    }
}

/// One direction of a connection, cut into messages: a type (1 byte), a length (4 bytes, itself included), a body.
struct Messages {
    from: tcp::OwnedReadHalf,
    type_length: usize,
    buffer: Vec<u8>,
}

impl Messages {
    fn new(from: tcp::OwnedReadHalf, type_length: usize) -> Self {
        Self { from, type_length, buffer: Vec::new() }
    }

    /// Reads the next message. It is safe to drop while it waits.
    async fn next(&mut self) -> io::Result<Vec<u8>> {
        loop {
            let header = self.type_length + 4;
            if let Some(length) = self.buffer.get(self.type_length..header) {
                let length = u32::from_be_bytes(length.try_into().unwrap()) as usize;
                let end = self.type_length + length;
                if self.buffer.len() >= end {
                    let rest = self.buffer.split_off(end);
                    return Ok(std::mem::replace(&mut self.buffer, rest));
                }
            }
            if self.from.read_buf(&mut self.buffer).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}
