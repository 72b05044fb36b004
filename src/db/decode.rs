//! Decodes the values that a server sends without trusting them. sqlx 0.9 panics at an instant that chrono cannot hold (such as
//! `infinity`) and at an array that is shorter than it announces, and it reserves memory for as many elements as a server
//! announces.
//!
//! Use these types for every instant and every array, both of the application's tables and of the operator's own.

use chrono::{DateTime, Utc};
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgRow, PgTypeInfo, PgValueFormat, PgValueRef};
use sqlx::{ColumnIndex, Decode, Postgres, Row as _, Type, ValueRef as _};

/// The microseconds from the Unix epoch to the epoch of Postgres, the year 2000.
const EPOCH: i64 = 946_684_800_000_000;

/// The first supported instant, the beginning of the year 1, in microseconds since the Unix epoch.
const FIRST: i64 = -62_135_596_800_000_000;

/// The last supported instant, the beginning of the last day of the year 9999, in microseconds since the Unix epoch.
const LAST: i64 = 253_402_214_400_000_000;

/// An instant. The far ends of the range of Postgres, infinity included, are clamped to the years 1 and 9999, as
/// [`clamp_timestamp`] does in SQL.
///
/// [`clamp_timestamp`]: super::mapping::clamp_timestamp
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At(pub DateTime<Utc>);

/// An instant that may be NULL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MaybeAt(pub Option<DateTime<Utc>>);

impl Type<Postgres> for At {
    fn type_info() -> PgTypeInfo {
        <DateTime<Utc> as Type<Postgres>>::type_info()
    }
}

impl Type<Postgres> for MaybeAt {
    fn type_info() -> PgTypeInfo {
        At::type_info()
    }
}

impl<'r> Decode<'r, Postgres> for At {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        let bytes: [u8; 8] = binary(&value)?.try_into()?;
        let micros = i64::from_be_bytes(bytes).saturating_add(EPOCH).clamp(FIRST, LAST);
        DateTime::from_timestamp_micros(micros)
            .map(Self)
            .ok_or_else(|| "an instant beyond the year 9999".into())
    }
}

impl<'r> Decode<'r, Postgres> for MaybeAt {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        if value.is_null() { Ok(Self(None)) } else { Ok(Self(Some(At::decode(value)?.0))) }
    }
}

impl From<At> for DateTime<Utc> {
    fn from(at: At) -> Self {
        at.0
    }
}

impl From<MaybeAt> for Option<DateTime<Utc>> {
    fn from(at: MaybeAt) -> Self {
        at.0
    }
}

/// Returns the instant in a column.
pub(super) fn at<I: ColumnIndex<PgRow>>(row: &PgRow, column: I) -> Result<DateTime<Utc>, sqlx::Error> {
    Ok(row.try_get::<At, _>(column)?.0)
}

/// Returns the instant in a column that may be NULL.
pub(super) fn maybe_at<I: ColumnIndex<PgRow>>(
    row: &PgRow,
    column: I,
) -> Result<Option<DateTime<Utc>>, sqlx::Error> {
    Ok(row.try_get::<MaybeAt, _>(column)?.0)
}

/// An array of one dimension. NULL elements are left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct List<T>(pub Vec<T>);

/// A type that a [`List`] can hold.
pub trait Element: Sized {
    /// Returns the type of an array of these elements.
    fn array() -> PgTypeInfo;
    /// Decodes an element from its bytes.
    fn element(bytes: &[u8]) -> Result<Self, BoxDynError>;
}

impl Element for i64 {
    fn array() -> PgTypeInfo {
        <Vec<Self> as Type<Postgres>>::type_info()
    }

    fn element(bytes: &[u8]) -> Result<Self, BoxDynError> {
        Ok(Self::from_be_bytes(bytes.try_into()?))
    }
}

impl Element for f64 {
    fn array() -> PgTypeInfo {
        <Vec<Self> as Type<Postgres>>::type_info()
    }

    fn element(bytes: &[u8]) -> Result<Self, BoxDynError> {
        Ok(Self::from_be_bytes(bytes.try_into()?))
    }
}

impl Element for String {
    fn array() -> PgTypeInfo {
        <Vec<Self> as Type<Postgres>>::type_info()
    }

    fn element(bytes: &[u8]) -> Result<Self, BoxDynError> {
        Ok(std::str::from_utf8(bytes)?.to_owned())
    }
}

impl<T: Element> Type<Postgres> for List<T> {
    fn type_info() -> PgTypeInfo {
        T::array()
    }

    fn compatible(given: &PgTypeInfo) -> bool {
        // Accepts an array of any text type, as `Vec<String>` does.
        *given == T::array() || <Vec<String> as Type<Postgres>>::compatible(given)
    }
}

impl<'r, T: Element> Decode<'r, Postgres> for List<T> {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        elements(binary(&value)?).map(Self)
    }
}

impl<T> From<List<T>> for Vec<T> {
    fn from(list: List<T>) -> Self {
        list.0
    }
}

/// Decodes an array: its number of dimensions, flags and type, the length and the lower bound of each dimension, then each element
/// with its length, which is -1 for NULL.
fn elements<T: Element>(bytes: &[u8]) -> Result<Vec<T>, BoxDynError> {
    let mut rest = Bytes(bytes);
    let dimensions = rest.int()?;
    if dimensions == 0 {
        return Ok(Vec::new());
    }
    if dimensions != 1 {
        return Err(format!("an array of {dimensions} dimensions instead of one").into());
    }
    let (_flags, _type) = (rest.int()?, rest.int()?);
    let (count, _lower) = (rest.int()?, rest.int()?);
    // It grows with the elements that exist, whatever count is announced.
    let mut all = Vec::new();
    for _ in 0..count {
        if let Ok(length) = usize::try_from(rest.int()?) {
            all.push(T::element(rest.take(length)?)?);
        }
    }
    Ok(all)
}

/// The bytes still to be read.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], BoxDynError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or("an array that ends early")?;
        self.0 = rest;
        Ok(taken)
    }

    fn int(&mut self) -> Result<i32, BoxDynError> {
        Ok(i32::from_be_bytes(self.take(4)?.try_into()?))
    }
}

/// Returns the bytes of a value. The server answers in text only to statements without parameters in the simple protocol, and no
/// such answer is decoded.
fn binary<'r>(value: &PgValueRef<'r>) -> Result<&'r [u8], BoxDynError> {
    match value.format() {
        PgValueFormat::Binary => value.as_bytes(),
        PgValueFormat::Text => Err("a value in the text format, which was not asked for".into()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn array(parts: &[i32]) -> Vec<u8> {
        parts.iter().flat_map(|part| part.to_be_bytes()).collect()
    }

    #[test]
    fn an_array_is_read_as_postgres_writes_it() {
        assert_eq!(elements::<i64>(&array(&[0, 0, 20])).unwrap(), Vec::<i64>::new());
        let two = array(&[1, 0, 20, 2, 1, 8, 0, 7, 8, -1, -1]);
        assert_eq!(elements::<i64>(&two).unwrap(), [7, -1]);
        let text = [array(&[1, 1, 25, 3, 1, 2]), b"ab".to_vec(), array(&[-1, 0])].concat();
        assert_eq!(elements::<String>(&text).unwrap(), ["ab", ""]);
    }

    #[test]
    fn an_array_that_announces_more_than_there_is_is_an_error_and_takes_no_memory() {
        for parts in [&[1, 0, 25, i32::MAX, 1][..], &[1, 0, 25, 1, 1, i32::MAX], &[1, 0], &[1], &[2, 0, 25]] {
            assert!(elements::<String>(&array(parts)).is_err(), "{parts:?}");
        }
        assert!(elements::<String>(&[]).is_err());
        assert_eq!(elements::<String>(&array(&[1, 0, 25, -1, 1])).unwrap(), Vec::<String>::new());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = elements::<i64>(&bytes);
            let _ = elements::<f64>(&bytes);
            let _ = elements::<String>(&bytes);
        }
    }
}
