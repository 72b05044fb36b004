//! Pages over several stores: merges the rows of the stores, each in its own order. The cursor keeps the position in
//! each store.

use std::collections::{BTreeMap, VecDeque};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::future::join_all;

use super::problem::Problem;
use super::stores::{Store, StoreName, Unavailable, partition_results};

/// The default number of rows on a page, and the maximum.
pub(super) const DEFAULT_LIMIT: u32 = 100;
pub(crate) const MAX_LIMIT: u32 = 500;

/// A list over several stores.
pub(super) trait List: Sync {
    /// The key by which the rows of several stores are merged.
    type Key: Ord + Send;
    /// A row of the list.
    type Row: Send;

    /// Returns the requested number of rows, and the requested cursor.
    fn limit_and_cursor(&self) -> (Option<u32>, Option<&str>);

    /// Returns at most `limit` rows of one store after `position`, or its first rows.
    fn fetch(
        &self,
        store: &Store,
        position: Option<&str>,
        limit: u32,
    ) -> impl Future<Output = Result<Rows<Self::Key, Self::Row>, Problem>> + Send;
}

/// The rows of one store for a page.
pub(super) struct Rows<K, T> {
    /// The merge key, the position after the row, and the row, in the order of the store.
    pub(super) rows: VecDeque<(K, String, T)>,
    /// The position of the store's next rows, or `None` if there are no more.
    pub(super) next: Option<String>,
}

impl<K, T> Rows<K, T> {
    /// Returns no rows, and no next position.
    pub(super) const fn empty() -> Self {
        Self { rows: VecDeque::new(), next: None }
    }
}

/// A page over several stores.
pub(super) struct Page<T> {
    pub(super) rows: Vec<T>,
    /// The cursor of the next page, or `None` on the last page.
    pub(super) next: Option<String>,
    /// The stores that returned no rows, and why.
    pub(super) unavailable: Vec<Unavailable>,
}

/// Returns the requested limit or the default.
///
/// Fails unless it is from 1 to [`MAX_LIMIT`].
pub(super) fn limit(limit: Option<u32>) -> Result<u32, Problem> {
    match limit.unwrap_or(DEFAULT_LIMIT) {
        limit @ 1..=MAX_LIMIT => Ok(limit),
        _ => Err(Problem::InvalidParameter(format!("limit must be a number from 1 to {MAX_LIMIT}"))),
    }
}

/// Validates the limit and the cursor of a list.
fn check(list: &impl List) -> Result<(u32, Option<Cursor>), Problem> {
    let (requested, cursor) = list.limit_and_cursor();
    Ok((limit(requested)?, cursor.map(Cursor::read).transpose()?))
}

/// Returns the requested page of these stores.
pub(super) async fn page<L: List>(stores: &[Store], list: &L) -> Result<Page<L::Row>, Problem> {
    let (limit, cursor) = check(list)?;
    let cursor = cursor.as_ref();
    let parts = join_all(stores.iter().map(async |store| {
        let position = StartAt::of(cursor, &store.name)?.position();
        let part = list.fetch(store, position, limit).await;
        let start = position.map(ToOwned::to_owned);
        Some((store, part.map(|page| StorePart { store: store.name.clone(), start, page })))
    }));
    let parts: Vec<_> = parts.await.into_iter().flatten().collect();
    let failed = failed(cursor, &parts);
    let (parts, unavailable) = partition_results(parts.into_iter())?;
    let (rows, next) = merge(parts, failed, limit)?;
    Ok(Page { rows, next, unavailable })
}

/// The position of the next page in each store that has more rows; `None` means the beginning.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Cursor(BTreeMap<String, Option<String>>);

impl Cursor {
    /// Decodes the cursor of a request.
    fn read(text: &str) -> Result<Self, Problem> {
        let positions =
            URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        positions.map(Self).ok_or_else(invalid_cursor)
    }

    fn write(&self) -> Result<String, Problem> {
        let bytes = serde_json::to_vec(&self.0).map_err(|error| Problem::Internal(error.to_string()))?;
        Ok(URL_SAFE_NO_PAD.encode(bytes))
    }
}

/// The start of a page in one store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum StartAt<'a> {
    /// At the beginning.
    Beginning,
    /// After this position.
    After(&'a str),
}

impl<'a> StartAt<'a> {
    /// Returns the start of a page in a store, or `None` if the store has no more rows.
    fn of(cursor: Option<&'a Cursor>, store: &StoreName) -> Option<Self> {
        let Some(Cursor(positions)) = cursor else { return Some(Self::Beginning) };
        let position = positions.get(&store.to_string())?;
        Some(position.as_deref().map_or(Self::Beginning, Self::After))
    }

    /// Returns the position, if this is not the beginning.
    const fn position(self) -> Option<&'a str> {
        match self {
            Self::Beginning => None,
            Self::After(position) => Some(position),
        }
    }
}

/// The error for an invalid cursor.
pub(super) fn invalid_cursor() -> Problem {
    Problem::InvalidParameter("invalid cursor: pass `next` of the previous page, or none".to_owned())
}

/// The rows of one store, and the position at which they start.
struct StorePart<K, T> {
    store: StoreName,
    start: Option<String>,
    page: Rows<K, T>,
}

/// A store that returned an error, and the position at which its rows would have started.
type FailedStore = (StoreName, Option<String>);

/// Returns the failed stores that the cursor names.
fn failed<P>(cursor: Option<&Cursor>, parts: &[(&Store, Result<P, Problem>)]) -> Vec<FailedStore> {
    let failed = parts.iter().filter(|(_, part)| part.is_err());
    let position = |name: &StoreName| StartAt::of(cursor, name)?.position().map(ToOwned::to_owned);
    failed.map(|(store, _)| (store.name.clone(), position(&store.name))).collect()
}

/// Returns the first `limit` rows of all parts in the order of their keys, and the cursor of the next page. The order
/// within a store stays the same. A store that failed keeps its position as long as there are further pages; it
/// extends the list beyond the last page only if it returned rows before.
fn merge<K: Ord, T>(
    mut parts: Vec<StorePart<K, T>>,
    failed: Vec<FailedStore>,
    limit: u32,
) -> Result<(Vec<T>, Option<String>), Problem> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut page = Vec::new();
    while page.len() < limit {
        let heads = parts.iter_mut().filter(|part| !part.page.rows.is_empty());
        let first = heads
            .min_by(|a, b| a.page.rows.front().map(|row| &row.0).cmp(&b.page.rows.front().map(|row| &row.0)));
        let Some((part, (_, position, row))) = first.and_then(|part| {
            let row = part.page.rows.pop_front()?;
            Some((part, row))
        }) else {
            break;
        };
        part.start = Some(position);
        page.push(row);
    }
    let mut cursor = Cursor::default();
    for StorePart { store, start, page: Rows { rows, next } } in parts {
        let position = if rows.is_empty() { next.map(Some) } else { Some(start) };
        if let Some(position) = position {
            cursor.0.insert(store.to_string(), position);
        }
    }
    if !cursor.0.is_empty() || failed.iter().any(|(_, position)| position.is_some()) {
        cursor.0.extend(failed.into_iter().map(|(store, position)| (store.to_string(), position)));
    }
    let next = if cursor.0.is_empty() { None } else { Some(cursor.write()?) };
    Ok((page, next))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> StoreName {
        StoreName { namespace: "n".to_owned(), name: name.to_owned() }
    }

    /// Returns at most three of these rows of a store.
    fn part(store: &str, all: &[u32], cursor: Option<&Cursor>) -> Option<StorePart<u32, (String, u32)>> {
        let start = StartAt::of(cursor, &name(store))?.position().map(ToOwned::to_owned);
        let begin = start.as_ref().map_or(0, |position| position.parse::<usize>().unwrap());
        let end = all.len().min(begin + 3);
        let rows = (begin..end).map(|i| (all[i], (i + 1).to_string(), (store.to_owned(), all[i]))).collect();
        let next = (end < all.len()).then(|| end.to_string());
        Some(StorePart { store: name(store), start, page: Rows { rows, next } })
    }

    #[test]
    fn every_row_is_on_one_page_and_in_order() {
        let (a, b, c) = ([1, 2, 3, 4, 10, 11, 12], [5, 6, 7, 8], [0, 4]);
        let (mut seen, mut cursor, mut pages) = (Vec::new(), None, 0);
        loop {
            let stores = [("a", &a[..]), ("b", &b[..]), ("c", &c[..]), ("d", &[][..])];
            let parts = stores.iter().filter_map(|(store, all)| part(store, all, cursor.as_ref())).collect();
            let (page, next) = merge(parts, Vec::new(), 3).unwrap();
            seen.extend(page.into_iter().map(|(_, value)| value));
            pages += 1;
            let Some(next) = next else { break };
            cursor = Some(Cursor::read(&next).unwrap());
        }
        assert_eq!((seen, pages), (vec![0, 1, 2, 3, 4, 4, 5, 6, 7, 8, 10, 11, 12], 5));
    }

    #[test]
    fn a_failed_store_keeps_its_position() {
        let positions = |all: &[u32], failed: Option<&str>| {
            let parts = part("a", all, None).into_iter().collect();
            let failed = vec![(name("b"), failed.map(ToOwned::to_owned))];
            let (_, next) = merge(parts, failed, 2).unwrap();
            next.map(|next| Cursor::read(&next).unwrap())
        };
        let begin = |cursor: &Option<Cursor>| {
            StartAt::of(cursor.as_ref(), &name("b")).map(|begin| begin.position().map(ToOwned::to_owned))
        };
        assert_eq!(begin(&positions(&[1, 2, 3], None)), Some(None));
        assert_eq!(begin(&positions(&[1, 2, 3], Some("7"))), Some(Some("7".to_owned())));
        assert_eq!(begin(&positions(&[1], Some("7"))), Some(Some("7".to_owned())));
        assert_eq!(positions(&[1], None), None, "a store that always fails does not make a list endless");
    }

    #[test]
    fn invalid_cursors_are_rejected() {
        for text in ["", "x", "39", "eyJhIjoxfQ", "=="] {
            assert!(Cursor::read(text).is_err(), "{text:?}");
        }
    }
}
