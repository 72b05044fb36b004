//! Every write of an operator to the database and to the API server, in one order, and a trap at one of them.

use std::sync::{Arc, Mutex};

use tokio::sync::watch;

use super::gate::{Gate, Mode};
use crate::support::PATIENCE;

/// What happens at the write that the trap is set for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trap {
    /// It never reaches the server, and nothing else passes either way: time to kill the operator.
    Before,
    /// The server executes it, then nothing else passes.
    After,
    /// The server executes it, and the connection is cut instead of a reply; everything else goes on.
    Unanswered,
}

/// What a proxy must do with a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// Forward it, and its reply.
    Pass,
    /// Keep it.
    Hold,
    /// Forward it, and keep its reply.
    HoldReply,
    /// Forward it, and cut the connection when its reply is there.
    CutReply,
}

/// What has passed both proxies.
#[derive(Clone, Debug, Default)]
pub(crate) struct Passed {
    /// Each write: its server, and what it does.
    pub(crate) writes: Vec<String>,
    /// Read-only transactions that were begun.
    pub(crate) reads: usize,
    /// Those since the last write.
    pub(crate) quiet: usize,
    /// Whether the trap was sprung.
    pub(crate) sprung: bool,
}

impl Passed {
    /// How many writes contain the text.
    pub(crate) fn count(&self, text: &str) -> usize {
        self.writes.iter().filter(|write| write.contains(text)).count()
    }
}

/// See the module.
pub(crate) struct Writes {
    passed: watch::Sender<Passed>,
    trap: Mutex<Option<(usize, Trap)>>,
    gates: [Arc<Gate>; 2],
}

impl Writes {
    pub(super) fn new(gates: [Arc<Gate>; 2]) -> Self {
        Self { passed: watch::Sender::default(), trap: Mutex::default(), gates }
    }

    /// Sets a trap at the write number `k`, counted from 1.
    pub(crate) fn trap(&self, k: usize, trap: Trap) {
        *self.trap.lock().unwrap() = Some((k, trap));
    }

    /// After the trap was sprung and the operator was killed: lets everything pass again.
    pub(crate) fn release(&self) {
        *self.trap.lock().unwrap() = None;
        for gate in &self.gates {
            gate.cut();
            gate.set(Mode::Open);
        }
    }

    /// What has passed so far.
    pub(crate) fn passed(&self) -> Passed {
        self.passed.borrow().clone()
    }

    /// Waits until what has passed is as wanted.
    pub(crate) async fn until(&self, wanted: impl FnMut(&Passed) -> bool) -> Passed {
        let mut passed = self.passed.subscribe();
        let waited = tokio::time::timeout(PATIENCE, passed.wait_for(wanted)).await;
        let Ok(found) = waited else { panic!("not as wanted: {:#?}", self.passed()) };
        found.unwrap().clone()
    }

    /// A read-only transaction begins.
    pub(super) fn read(&self) {
        self.passed.send_modify(|passed| {
            passed.reads += 1;
            passed.quiet += 1;
        });
    }

    /// A write is about to be forwarded.
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

    /// The server has executed the write of this fate.
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
