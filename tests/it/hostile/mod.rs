//! Attackers: what they try, and what everybody else has in spite of it.

mod budget;
