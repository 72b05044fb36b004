//! How much answers of servers may take, of one connection and of all of them: sqlx keeps an answer until it is whole.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::Fault;

/// How much one answer may take, from one statement to the next, in bytes.
const OF_AN_ANSWER: u64 = 32 << 20;

/// How much the answers of all connections may take together, in bytes.
const OF_ALL: u64 = 64 << 20;

/// An answer that takes no more than this, in bytes, is not ended because of others.
const SPARED: u64 = 4 << 20;

/// What all connections take at present.
#[derive(Debug, Default)]
pub(super) struct Memory(AtomicU64);

/// What one connection takes at present.
#[derive(Debug)]
pub(super) struct Share {
    of: Arc<Memory>,
    taken: u64,
}

impl Share {
    pub(super) fn new(of: Arc<Memory>) -> Self {
        Self { of, taken: 0 }
    }

    /// Takes so many bytes more.
    pub(super) fn take(&mut self, bytes: u64) -> Result<(), Fault> {
        self.taken += bytes;
        let all = self.of.0.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if self.taken > OF_AN_ANSWER {
            return Err(Fault::TooMuch(format!(
                "the answer to a statement takes more than {} MiB",
                OF_AN_ANSWER >> 20
            )));
        }
        if all > OF_ALL && self.taken > SPARED {
            return Err(Fault::TooMuch(format!(
                "the answer to a statement takes more than {} MiB while all answers together take more than {} MiB",
                SPARED >> 20,
                OF_ALL >> 20
            )));
        }
        Ok(())
    }

    /// The answer is at its end.
    pub(super) fn clear(&mut self) {
        self.of.0.fetch_sub(self.taken, Ordering::Relaxed);
        self.taken = 0;
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_answer_and_all_of_them_have_limits_and_small_ones_are_spared() {
        let memory = Arc::<Memory>::default();
        let share = || Share::new(memory.clone());
        let mut alone = share();
        alone.take(OF_AN_ANSWER).unwrap();
        assert!(alone.take(1).is_err());
        alone.clear();

        let (mut one, mut two, mut three, mut small) = (share(), share(), share(), share());
        one.take(OF_AN_ANSWER).unwrap();
        two.take(OF_AN_ANSWER).unwrap();
        assert!(three.take(SPARED + 1).is_err());
        small.take(SPARED).unwrap();
        drop((one, three));
        small.take(SPARED).unwrap();
        drop((two, small, alone));
        assert_eq!(memory.0.load(Ordering::Relaxed), 0);
    }
}
