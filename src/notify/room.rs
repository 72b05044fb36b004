//! Room for templates that nest deeply. The engine goes as deep as an expression or a value is nested, which may be as
//! often as the template has bytes, and a stack that overflows ends the whole operator.

use std::io;
use std::thread::{self, Builder};

/// Stack for each byte of a template: some four times what one level takes in a debug build, and twenty times what it takes
/// in a release build. Only what is used of it takes memory.
const PER_BYTE: usize = 8 * 1024;

/// Stack for all else.
const AT_LEAST: usize = 2 * 1024 * 1024;

/// Does `work` on a template of so many bytes, with a stack that is large enough whatever is in it.
pub(super) fn with_room<T: Send>(bytes: usize, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let builder = Builder::new().name("template".to_owned()).stack_size(AT_LEAST + PER_BYTE * bytes);
        let working = builder.spawn_scoped(scope, work)?;
        working.join().map_err(|_| io::Error::other("the template engine failed on it"))
    })
}
