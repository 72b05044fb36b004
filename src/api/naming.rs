//! What objects are called that are made for an execution.

/// `<store>-<id>` for a number, `<store>-x<digest>` for every other id, since not every one can be in a name. The same
/// id gives the same name for ever; whether an object of that name is about the execution its spec says.
pub fn execution_name(store: &str, id: &str) -> String {
    let number = !id.is_empty() && id.len() <= 19 && id.bytes().all(|byte| byte.is_ascii_digit());
    if number { format!("{store}-{id}") } else { format!("{store}-x{:016x}", digest(id)) }
}

/// FNV-1a.
fn digest(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_for_ever() {
        assert_eq!(execution_name("jobs", "39"), "jobs-39");
        assert_eq!(execution_name("jobs", "-39"), "jobs-xde5acc17ddfe5978");
        assert_eq!(execution_name("jobs", "A b/c"), execution_name("jobs", "A b/c"));
        assert_ne!(execution_name("jobs", "a"), execution_name("jobs", "A"));
    }
}
