//! Limits the settings that a server reports. sqlx keeps the last value of each name for as long as the connection is open.

use std::collections::HashMap;

use super::Fault;

/// The maximum number of names for one connection.
const NAMES: usize = 100;

/// The maximum size of all names and values together, in bytes.
const BYTES: usize = 64 * 1024;

/// The settings that sqlx keeps, by size.
#[derive(Debug, Default)]
pub(super) struct Parameters {
    /// The length of each value, in bytes.
    values: HashMap<Vec<u8>, usize>,
    bytes: usize,
}

impl Parameters {
    /// Records a report, which is two texts that each end with a NUL.
    pub(super) fn note(&mut self, body: &[u8]) -> Result<(), Fault> {
        let malformed = || Fault::Malformed("a ParameterStatus that is not two texts".to_owned());
        let mut texts = body.split(|byte| *byte == 0);
        let (Some(name), Some(value), Some([]), None) =
            (texts.next(), texts.next(), texts.next(), texts.next())
        else {
            return Err(malformed());
        };
        let before = if let Some(length) = self.values.insert(name.to_vec(), value.len()) {
            length
        } else {
            self.bytes += name.len();
            0
        };
        self.bytes = self.bytes + value.len() - before;
        if self.values.len() > NAMES || self.bytes > BYTES {
            return Err(Fault::TooMuch(format!(
                "more than {NAMES} settings or {} KiB of them",
                BYTES / 1024
            )));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_that_changes_counts_once_and_too_many_are_refused() {
        let mut parameters = Parameters::default();
        for n in 0..10_000 {
            parameters.note(format!("search_path\0{}\0", "x".repeat(n % 100)).as_bytes()).unwrap();
        }
        for n in 0..NAMES - 1 {
            parameters.note(format!("k{n}\0v\0").as_bytes()).unwrap();
        }
        assert!(parameters.note(b"one more\0\0").is_err());
        let mut parameters = Parameters::default();
        assert!(parameters.note(format!("k\0{}\0", "v".repeat(BYTES)).as_bytes()).is_err());
    }

    #[test]
    fn what_is_not_two_texts_is_refused() {
        for body in ["", "a", "a\0", "a\0b", "a\0b\0c", "a\0b\0\0"] {
            assert!(Parameters::default().note(body.as_bytes()).is_err(), "{body:?}");
        }
        Parameters::default().note(b"\0\0").unwrap();
    }
}
