//! Attacks on the real binary, each by somebody who has no more than what the threat model gives.

mod doors;
mod raw;
