//! Limits the memory that answers of servers take, for one connection and for all of them: sqlx keeps an answer until it is
//! complete.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio_util::sync::CancellationToken;

use super::Fault;

/// The maximum size of one answer, from one statement to the next, in bytes.
const OF_AN_ANSWER: u64 = 32 << 20;

/// The maximum size of the answers of all connections together, in bytes.
const OF_ALL: u64 = 64 << 20;

/// The memory that all connections take at present.
#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<Shares>);

#[derive(Debug, Default)]
struct Shares {
    all: u64,
    /// By the number of the connection. Connections that were ended to make room for others are no longer in it.
    taken: HashMap<u64, Taken>,
    made: u64,
}

#[derive(Debug)]
struct Taken {
    bytes: u64,
    ended: CancellationToken,
}

/// The memory that one connection takes at present.
#[derive(Debug)]
pub(super) struct Share {
    of: Arc<Memory>,
    number: u64,
    ended: CancellationToken,
}

impl Memory {
    fn shares(&self) -> MutexGuard<'_, Shares> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    pub(super) fn new(of: Arc<Memory>) -> Self {
        let ended = CancellationToken::new();
        let mut shares = of.shares();
        shares.made += 1;
        let number = shares.made;
        shares.taken.insert(number, Taken { bytes: 0, ended: ended.clone() });
        drop(shares);
        Self { of, number, ended }
    }

    /// Returns a token that is cancelled once the answer must end because all answers together take too much: see [`crowded`].
    pub(super) fn ended(&self) -> CancellationToken {
        self.ended.clone()
    }

    /// Takes `bytes` more. If all answers together take too much, the largest one ends, whether it is this one or another: an
    /// answer that keeps a lot of memory for a long time must not block the short answers of others.
    pub(super) fn take(&mut self, bytes: u64) -> Result<(), Fault> {
        let mut shares = self.of.shares();
        let Shares { all, taken, .. } = &mut *shares;
        let Some(own) = taken.get(&self.number).map(|own| own.bytes + bytes) else { return Err(crowded()) };
        if own > OF_AN_ANSWER {
            return Err(Fault::TooMuch(format!(
                "the answer to a statement takes more than {} MiB",
                OF_AN_ANSWER >> 20
            )));
        }
        if *all + bytes > OF_ALL {
            let others = taken.iter().filter(|(number, _)| **number != self.number);
            let largest = others.max_by_key(|(_, other)| other.bytes).filter(|(_, other)| other.bytes > own);
            let largest = largest.map(|(number, _)| *number);
            let Some(largest) = largest.and_then(|number| taken.remove(&number)) else {
                return Err(crowded());
            };
            *all -= largest.bytes;
            largest.ended.cancel();
        }
        *all += bytes;
        if let Some(taken) = taken.get_mut(&self.number) {
            taken.bytes = own;
        }
        Ok(())
    }

    /// Releases the memory at the end of an answer.
    pub(super) fn clear(&mut self) {
        let mut shares = self.of.shares();
        let Shares { all, taken, .. } = &mut *shares;
        if let Some(own) = taken.get_mut(&self.number) {
            *all -= std::mem::take(&mut own.bytes);
        }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.clear();
        self.of.shares().taken.remove(&self.number);
    }
}

/// Returns the fault for an answer that ended although it is not too large by itself.
pub(super) fn crowded() -> Fault {
    Fault::TooMuch(format!(
        "all answers of databases together take more than {} MiB, and this one took the most",
        OF_ALL >> 20
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: u64 = 4 << 20;

    #[test]
    fn an_answer_has_a_limit_until_the_next_statement() {
        let memory = Arc::<Memory>::default();
        let mut alone = Share::new(memory.clone());
        alone.take(OF_AN_ANSWER).unwrap();
        assert!(alone.take(1).is_err());
        alone.clear();
        alone.take(OF_AN_ANSWER).unwrap();
        drop(alone);
        let shares = memory.shares();
        assert_eq!((shares.all, shares.taken.len()), (0, 0));
    }

    #[test]
    fn any_number_of_answers_never_take_more_than_all_may() {
        let memory = Arc::<Memory>::default();
        let mut shares: Vec<_> = (0..500).map(|_| Share::new(memory.clone())).collect();
        for _ in 0..3 {
            for share in &mut shares {
                let _ = share.take(MESSAGE - 1);
                assert!(memory.shares().all <= OF_ALL, "{}", memory.shares().all);
            }
        }
        drop(shares);
        assert_eq!(memory.shares().all, 0);
    }

    #[test]
    fn the_largest_answer_ends_for_a_small_one_and_never_the_other_way_round() {
        let memory = Arc::<Memory>::default();
        let share = || Share::new(memory.clone());
        let (mut one, mut two, mut small) = (share(), share(), share());
        one.take(OF_AN_ANSWER - MESSAGE).unwrap();
        two.take(OF_AN_ANSWER).unwrap();
        small.take(MESSAGE).unwrap();
        assert!(!two.ended().is_cancelled());
        small.take(1).unwrap();
        assert!(two.ended().is_cancelled() && !one.ended().is_cancelled() && !small.ended().is_cancelled());
        assert_eq!(two.take(1), Err(crowded()));
        // An answer that was ended takes nothing more, and its memory is released only once.
        let before = memory.shares().all;
        drop(two);
        assert_eq!(memory.shares().all, before);
        let mut large = share();
        assert_eq!(large.take(OF_AN_ANSWER), Err(crowded()));
        assert!(!one.ended().is_cancelled());
        assert!(!small.ended().is_cancelled());
    }
}
