//! Every write of an operator to the database and to the API server, in one order, with a trap for one of them.

use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use super::gate::{Gate, Mode};
use crate::support::PATIENCE;

/// The effect of the trap on its write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trap {
    /// It never reaches the server, and nothing else passes either: the operator can be killed now.
    Before,
    /// The server executes it, then nothing else passes.
    After,
    /// The server executes it, and the connection is cut instead of a reply; everything else goes on.
    Unanswered,
}

/// The handling of a write by a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Forward it, and its reply.
    Pass,
    /// Hold it.
    Hold,
    /// Forward it, and hold its reply.
    HoldReply,
    /// Forward it, and cut the connection when its reply is there.
    CutReply,
}

/// The traffic that has passed both proxies.
#[derive(Clone, Debug, Default)]
pub(crate) struct Passed {
    /// Each write: its server, and its content.
    pub(crate) writes: Vec<String>,
    /// The number of read-only transactions that began.
    pub(crate) reads: usize,
    /// The number of those since the last write.
    pub(crate) quiet: usize,
    /// True once the trap was sprung.
    pub(crate) sprung: bool,
}

impl Passed {
    /// The number of writes that contain the text.
    pub(crate) fn count(&self, text: &str) -> usize {
        self.writes.iter().filter(|write| write.contains(text)).count()
    }
}

/// Every write of an operator, and the trap.
pub(crate) struct Writes {
    passed: watch::Sender<Passed>,
    trap: Mutex<Option<(usize, Trap)>>,
    gates: [Arc<Gate>; 2],
}

impl Writes {
    pub(super) fn new(gates: [Arc<Gate>; 2]) -> Self {
        Self { passed: watch::Sender::default(), trap: Mutex::default(), gates }
    }

    /// Sets a trap for the write number `k`, counted from 1.
    pub(crate) fn trap(&self, k: usize, trap: Trap) {
        *self.trap.lock().unwrap() = Some((k, trap));
    }

    /// Lets everything pass again, after the trap was sprung and the operator was killed.
    pub(crate) fn release(&self) {
        *self.trap.lock().unwrap() = None;
        for gate in &self.gates {
            gate.cut();
            gate.set(Mode::Open);
        }
    }

    /// The traffic so far.
    pub(crate) fn passed(&self) -> Passed {
        self.passed.borrow().clone()
    }

    /// Waits until the traffic is as wanted.
    pub(crate) async fn until(&self, wanted: impl FnMut(&Passed) -> bool) -> Passed {
        let mut passed = self.passed.subscribe();
        let waited = tokio::time::timeout(PATIENCE, passed.wait_for(wanted)).await;
        let Ok(found) = waited else { panic!("not as wanted: {:#?}", self.passed()) };
        found.unwrap().clone()
    }

    /// Counts the start of a read-only transaction.
    pub(super) fn read(&self) {
        self.passed.send_modify(|passed| {
            passed.reads += 1;
            passed.quiet += 1;
        });
    }

    /// Decides the fate of a write that is about to be forwarded.
    pub(super) fn write(&self, what: String) -> Fate {
        // Held while counting, so that no write slips past a trap that is being sprung.
        let trap = self.trap.lock().unwrap();
        let (k, trap) = trap.unwrap_or((usize::MAX, Trap::Unanswered));
        let number = self.passed.borrow().writes.len() + 1;
        if number > k && trap != Trap::Unanswered {
            return Fate::Hold;
        }
        self.passed.send_modify(|passed| {
            passed.writes.push(what);
            passed.quiet = 0;
        });
        match trap {
            _ if number != k => Fate::Pass,
            Trap::Unanswered => Fate::CutReply,
            Trap::After => Fate::HoldReply,
            Trap::Before => {
                self.spring(true);
                Fate::Hold
            }
        }
    }

    /// Handles a write of this fate that the server has executed.
    pub(super) fn executed(&self, fate: Fate) {
        self.spring(fate == Fate::HoldReply);
    }

    fn spring(&self, freeze: bool) {
        if freeze {
            self.gates.iter().for_each(|gate| gate.set(Mode::Silent));
        }
        self.passed.send_modify(|passed| passed.sprung = true);
    }
}
