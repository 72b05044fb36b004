//! What an attacker would try, and what must not come of it.

mod canary;
mod places;
mod secrets;
