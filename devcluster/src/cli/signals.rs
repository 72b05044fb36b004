//! Records the signals that request this process to end, so that loops can poll for them.

use std::{
    fs::File,
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use devcluster::Cancel;
use signal_hook::{
    consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM},
    flag,
};

/// The last signal that has not been taken yet.
#[derive(Clone)]
pub(crate) struct Signals(Arc<AtomicUsize>);

impl Signals {
    /// Starts recording the signals, which no longer end the process by themselves.
    pub(crate) fn listen() -> io::Result<Self> {
        let last = Arc::new(AtomicUsize::new(0));
        for signal in [SIGHUP, SIGINT, SIGQUIT, SIGTERM] {
            flag::register_usize(signal, Arc::clone(&last), usize::try_from(signal).unwrap_or_default())?;
        }
        Ok(Self(last))
    }

    /// Returns a [`Cancel`] with which a signal cancels a start.
    pub(crate) fn cancel(&self) -> Cancel {
        Cancel::from_flag(Arc::clone(&self.0))
    }

    /// Takes the last signal since the previous call.
    pub(crate) fn take(&self) -> Option<i32> {
        i32::try_from(self.0.swap(0, Ordering::Relaxed)).ok().filter(|signal| *signal != 0)
    }

    /// Records a signal as if this process had received it.
    pub(crate) fn raise(&self, signal: i32) {
        self.0.store(usize::try_from(signal).unwrap_or_default(), Ordering::Relaxed);
    }
}

/// Reports whether the terminal sent this signal to its whole foreground process group, and thus to the user's command
/// too.
pub(crate) fn came_from_terminal(signal: i32) -> bool {
    let in_foreground = || {
        let terminal = File::open("/dev/tty").ok()?;
        let group = rustix::termios::tcgetpgrp(terminal).ok()?;
        Some(group == rustix::process::getpgrp())
    };
    matches!(signal, SIGINT | SIGQUIT | SIGHUP) && in_foreground().unwrap_or(false)
}
