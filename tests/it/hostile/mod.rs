//! Attackers at work: each does what it may, and harms nobody but itself.

mod neighbour;
mod squatter;
