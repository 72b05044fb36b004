//! The effects of a sweep and, above all, what it must not do.

mod batches;
mod rows;
mod timing;
