//! Checks the inner lengths of messages that are passed on as they arrive. sqlx slices by these lengths without checking where the
//! message ends.

use super::Fault;

/// The maximum number of columns of a row, as in Postgres itself.
const COLUMNS: u16 = 1_664;

/// The memory that sqlx takes for the description of a column, as a number of values of a row.
const OF_A_COLUMN: u32 = 16;

/// The position up to which a message has been followed.
#[derive(Debug)]
pub(super) enum Shape {
    /// Nothing in it has a length of its own.
    Opaque,
    /// A count (2 bytes) of values, each preceded by its length (4 bytes), which is -1 for NULL.
    Row(Row),
    /// A count (2 bytes) of types (4 bytes each).
    Types(Field),
    /// A count (2 bytes) of columns, each with a description.
    Columns(Field),
}

/// The position within a row.
#[derive(Debug, Default)]
pub(super) struct Row {
    field: Field,
    /// The number of values still to come, once it is known.
    values: Option<u16>,
    /// The number of bytes of the present value still to come.
    skip: usize,
}

/// A number whose bytes may arrive one at a time.
#[derive(Debug, Default)]
pub(super) struct Field {
    bytes: [u8; 4],
    filled: usize,
}

impl Field {
    /// Reads bytes until there are `wanted` of them, and then returns the number.
    fn fill(&mut self, input: &mut &[u8], wanted: usize) -> Option<u32> {
        let taken = input.len().min(wanted - self.filled);
        let (head, rest) = input.split_at(taken);
        self.bytes[self.filled..self.filled + taken].copy_from_slice(head);
        *input = rest;
        self.filled += taken;
        if self.filled < wanted {
            return None;
        }
        self.filled = 0;
        let number = self.bytes[..wanted].iter().fold(0, |number, byte| (number << 8) | u32::from(*byte));
        Some(number)
    }
}

impl Shape {
    pub(super) fn row() -> Self {
        Self::Row(Row::default())
    }

    pub(super) fn types() -> Self {
        Self::Types(Field::default())
    }

    pub(super) fn columns() -> Self {
        Self::Columns(Field::default())
    }

    /// Follows the next bytes of a message; `left` bytes come after them. Returns the number of values of a row at the moment it
    /// becomes known, otherwise 0; each described column counts as several values.
    pub(super) fn follow(&mut self, input: &[u8], left: usize) -> Result<u32, Fault> {
        match self {
            Self::Opaque => Ok(0),
            Self::Row(row) => row.follow(input, left).map(u32::from),
            Self::Columns(field) => {
                let mut rest = input;
                let Some(count) = field.fill(&mut rest, 2) else {
                    return if left == 0 { Err(malformed("a description of a row")) } else { Ok(0) };
                };
                // sqlx itself searches for the end of each name and of what follows it.
                *self = Self::Opaque;
                if count > u32::from(COLUMNS) { Err(too_many()) } else { Ok(OF_A_COLUMN * count) }
            }
            Self::Types(field) => {
                let mut rest = input;
                let Some(count) = field.fill(&mut rest, 2) else {
                    return if left == 0 { Err(malformed("a list of types")) } else { Ok(0) };
                };
                // The rest has no lengths.
                *self = Self::Opaque;
                if rest.len() + left == 4 * count as usize {
                    Ok(0)
                } else {
                    Err(malformed("a list of types"))
                }
            }
        }
    }
}

impl Row {
    fn follow(&mut self, mut input: &[u8], left: usize) -> Result<u16, Fault> {
        let mut columns = 0;
        let Some(mut values) = (match self.values {
            None => {
                self.field.fill(&mut input, 2).and_then(|count| u16::try_from(count).ok()).inspect(|count| {
                    columns = *count;
                })
            }
            known => known,
        }) else {
            return if left == 0 { Err(malformed("a row")) } else { Ok(0) };
        };
        if columns > COLUMNS {
            return Err(too_many());
        }
        loop {
            let skipped = self.skip.min(input.len());
            input = input.get(skipped..).unwrap_or_default();
            self.skip -= skipped;
            if self.skip > 0 || values == 0 {
                break;
            }
            let Some(length) = self.field.fill(&mut input, 4) else { break };
            values -= 1;
            // Any negative length means NULL.
            self.skip = i32::from_be_bytes(length.to_be_bytes()).try_into().unwrap_or(0);
            if self.skip > input.len() + left {
                return Err(malformed("a row"));
            }
        }
        self.values = Some(values);
        let complete = values == 0 && self.skip == 0;
        let fits = if complete { input.is_empty() && left == 0 } else { left > 0 };
        if !fits {
            return Err(malformed("a row"));
        }
        Ok(columns)
    }
}

fn too_many() -> Fault {
    Fault::TooMuch(format!("a row of more than {COLUMNS} columns"))
}

fn malformed(what: &str) -> Fault {
    Fault::Malformed(format!("{what} whose parts do not fit its length"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Follows `body` in pieces of `piece` bytes.
    fn follow(mut shape: Shape, body: &[u8], piece: usize) -> Result<(), Fault> {
        let mut left = body.len();
        for input in body.chunks(piece) {
            left -= input.len();
            shape.follow(input, left)?;
        }
        Ok(())
    }

    fn row(values: &[Option<&[u8]>]) -> Vec<u8> {
        let mut body = u16::try_from(values.len()).unwrap().to_be_bytes().to_vec();
        for value in values {
            match value {
                Some(value) => {
                    body.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
                    body.extend(*value);
                }
                None => body.extend([255; 4]),
            }
        }
        body
    }

    #[test]
    fn rows_are_followed_in_pieces_of_any_size() {
        let some = |bytes: &'static [u8]| Some(bytes);
        for values in [
            vec![],
            vec![None],
            vec![some(b"")],
            vec![some(b"abc"), None, some(b""), some(&[7; 300])],
            vec![None, None],
        ] {
            let body = row(&values);
            for piece in [1, 2, 3, 5, 8, 1_000] {
                follow(Shape::row(), &body, piece).unwrap();
                let mut longer = body.clone();
                longer.push(0);
                assert!(follow(Shape::row(), &longer, piece).is_err(), "{longer:?} {piece}");
                let shorter = &body[..body.len() - 1];
                assert!(
                    shorter.is_empty() || follow(Shape::row(), shorter, piece).is_err(),
                    "{shorter:?} {piece}"
                );
            }
        }
        let too_long = [0, 1, 0, 0, 0, 9, 1];
        assert!(follow(Shape::row(), &too_long, 100).is_err());
        assert!(follow(Shape::row(), &[255, 255, 0, 0], 100).is_err());
    }

    #[test]
    fn no_more_columns_are_described_than_a_row_may_have_and_each_counts() {
        let body = |count: u16| [&count.to_be_bytes()[..], &vec![0; 19 * usize::from(count)]].concat();
        for piece in [1, 2, 1_000] {
            follow(Shape::columns(), &body(0), piece).unwrap();
            follow(Shape::columns(), &body(COLUMNS), piece).unwrap();
            for count in [COLUMNS + 1, 60_000] {
                let stopped = follow(Shape::columns(), &body(count), piece);
                assert!(matches!(stopped, Err(Fault::TooMuch(_))), "{stopped:?}");
            }
            assert!(follow(Shape::columns(), &[1], piece).is_err());
        }
        assert_eq!(Shape::columns().follow(&body(3), 0).unwrap(), 3 * OF_A_COLUMN);
    }

    #[test]
    fn types_are_as_many_as_is_said() {
        for piece in [1, 2, 100] {
            follow(Shape::types(), &[0, 0], piece).unwrap();
            follow(Shape::types(), &[0, 2, 0, 0, 0, 1, 0, 0, 0, 2], piece).unwrap();
            for body in [&[0][..], &[0, 1], &[0, 1, 0, 0, 0], &[0, 0, 1], &[0, 1, 0, 0, 0, 1, 2]] {
                assert!(follow(Shape::types(), body, piece).is_err(), "{body:?}");
            }
        }
    }
}
