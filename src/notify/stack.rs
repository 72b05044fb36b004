//! A stack for templates that nest deeply. The engine recurses with the nesting of an expression or a value, which is bounded
//! only by the bytes of the template; a stack overflow would end the whole operator.

use std::io;
use std::thread::{self, Builder};

/// Stack size per byte of a template: about four times what one level takes in a debug build, and twenty times what it takes
/// in a release build. Only the part in use takes memory.
const PER_BYTE: usize = 8 * 1024;

/// Stack size for everything else.
const AT_LEAST: usize = 2 * 1024 * 1024;

/// Runs `work` on a template of this many bytes, with a stack that is large enough for any content.
pub(super) fn with_stack<T: Send>(bytes: usize, work: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let builder = Builder::new().name("template".to_owned()).stack_size(AT_LEAST + PER_BYTE * bytes);
        let working = builder.spawn_scoped(scope, work)?;
        working.join().map_err(|_| io::Error::other("the template engine crashed on it"))
    })
}
