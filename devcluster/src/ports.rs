//! Free ports on loopback.

use std::{
    net::{Ipv4Addr, TcpListener},
    path::Path,
};

use crate::Error;

/// Runs `attempt` with a free port, and retries with another port if another process takes it first.
pub(crate) fn with_port<T>(mut attempt: impl FnMut(u16) -> Result<T, Error>) -> Result<T, Error> {
    const MAX_ATTEMPTS: u32 = 5;
    let mut attempts = 0;
    loop {
        attempts += 1;
        match attempt(free_port()?) {
            Err(error) if error.port_was_taken() && attempts < MAX_ATTEMPTS => {}
            result => return result,
        }
    }
}

fn free_port() -> Result<u16, Error> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    listener.map(|address| address.port()).map_err(Error::io("listen on", Path::new("127.0.0.1")))
}

#[cfg(test)]
mod tests {
    use std::{os::unix::process::ExitStatusExt, process::ExitStatus};

    use super::*;

    fn ended(tail: &str) -> Error {
        let (name, log) = ("etcd".into(), "etcd.log".into());
        Error::EndedEarly { name, status: ExitStatus::from_raw(256), log, tail: tail.into() }
    }

    #[test]
    fn only_a_taken_port_is_retried() {
        let mut ports = Vec::new();
        let taken = with_port(|port| {
            ports.push(port);
            if ports.len() < 3 { Err(ended("bind: address already in use")) } else { Ok(port) }
        });
        assert_eq!(taken.ok(), ports.last().copied());
        assert_eq!(ports.len(), 3);

        let mut calls = 0;
        let other: Result<(), _> = with_port(|_| {
            calls += 1;
            Err(ended("no space left on device"))
        });
        assert!(other.is_err());
        assert_eq!(calls, 1);
    }
}
