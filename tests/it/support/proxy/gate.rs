//! The effect of a proxy on everything that passes through it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use crate::support::PATIENCE;

/// The present effect of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// Forwards.
    Open,
    /// Delays each message or request by this time.
    Slow(Duration),
    /// Accepts, and forwards nothing, as behind a firewall that drops packets.
    Silent,
    /// Closes every connection at once, like a server that is unavailable.
    Away,
}

/// The switch of one proxy.
pub(crate) struct Gate {
    mode: watch::Sender<Mode>,
    cuts: watch::Sender<u64>,
    turned_away: watch::Sender<usize>,
    /// The number of times that listening connections were forgotten.
    forgotten: AtomicU64,
}

impl Default for Gate {
    fn default() -> Self {
        Self {
            mode: watch::Sender::new(Mode::Open),
            cuts: watch::Sender::new(0),
            turned_away: watch::Sender::new(0),
            forgotten: AtomicU64::new(0),
        }
    }
}

impl Gate {
    /// Sets the effect from now on.
    pub(crate) fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
        if mode == Mode::Away {
            self.cut();
        }
    }

    /// Forgets the listening connections, as a network device does after a long time without traffic.
    pub(crate) fn forget_listeners(&self) {
        self.forgotten.fetch_add(1, Ordering::SeqCst);
    }

    /// The number of times that this was done.
    pub(super) fn forgotten(&self) -> u64 {
        self.forgotten.load(Ordering::SeqCst)
    }

    /// Cuts every open connection.
    pub(crate) fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Waits until this many more connections have been closed because the server is unavailable.
    pub(crate) async fn turned_away(&self, times: usize) {
        let mut turned_away = self.turned_away.subscribe();
        let wanted = *turned_away.borrow() + times;
        let waited = tokio::time::timeout(PATIENCE, turned_away.wait_for(|times| *times >= wanted)).await;
        assert!(waited.is_ok(), "nobody tried to connect {times} times");
    }

    /// Returns once a message may pass.
    pub(super) async fn pass(&self) {
        let mode = *self.mode.borrow();
        if let Mode::Slow(delay) = mode {
            tokio::time::sleep(delay).await;
        }
        let mut mode = self.mode.subscribe();
        let open = mode.wait_for(|mode| matches!(mode, Mode::Open | Mode::Slow(_)));
        open.await.unwrap();
    }

    /// Accepts connections forever, and serves each until it ends or is cut.
    pub(super) async fn serve<F>(&self, listener: TcpListener, connection: impl Fn(TcpStream) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            if *self.mode.borrow() == Mode::Away {
                self.turned_away.send_modify(|times| *times += 1);
                continue;
            }
            // A latency that real servers on loopback do not have would hide races.
            stream.set_nodelay(true).unwrap();
            let mut cuts = self.cuts.subscribe();
            let served = connection(stream);
            tokio::spawn(async move {
                tokio::select! {
                    () = served => {}
                    _ = cuts.changed() => {}
                }
            });
        }
    }
}
