//! Pages over several stores: what each store gives in its own order, merged, and a cursor that keeps the place in each.

use std::collections::{BTreeMap, VecDeque};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures::future::join_all;

use super::problem::Problem;
use super::stores::{Store, StoreName, Unavailable, some};

/// How many rows a page has unless the caller says otherwise, and how many at the most.
pub(super) const USUAL: u32 = 100;
pub(crate) const MOST: u32 = 500;

/// What may be listed over several stores.
pub(super) trait List: Sync {
    /// By what the rows of several stores are merged.
    type Key: Ord + Send;
    /// What is listed.
    type Row: Send;

    /// The number of rows and the cursor that were asked for.
    fn asked(&self) -> (Option<u32>, Option<&str>);

    /// What one store gives behind `place`: at most `limit` rows.
    fn part(
        &self,
        store: &Store,
        place: Option<&str>,
        limit: u32,
    ) -> impl Future<Output = Result<Rows<Self::Key, Self::Row>, Problem>> + Send;
}

/// What one store gives for a page.
pub(super) struct Rows<K, T> {
    /// In the order of the store: by what to merge, the place behind it, and itself.
    pub(super) rows: VecDeque<(K, String, T)>,
    /// Where its next part begins; `None`: this is the last one.
    pub(super) next: Option<String>,
}

impl<K, T> Rows<K, T> {
    /// Nothing, and nothing further.
    pub(super) const fn none() -> Self {
        Self { rows: VecDeque::new(), next: None }
    }
}

/// A page over several stores.
pub(super) struct Page<T> {
    pub(super) rows: Vec<T>,
    /// The cursor of the next one; `None`: this is the last one.
    pub(super) next: Option<String>,
    /// The stores that gave nothing, and why.
    pub(super) unavailable: Vec<Unavailable>,
}

/// The number of rows that was asked for, if there can be so many.
pub(super) fn limit(asked: Option<u32>) -> Result<u32, Problem> {
    match asked.unwrap_or(USUAL) {
        limit @ 1..=MOST => Ok(limit),
        _ => Err(Problem::InvalidParameter(format!("limit must be a number from 1 to {MOST}"))),
    }
}

/// The limit and the cursor of a list, if they can be used.
fn check(list: &impl List) -> Result<(u32, Option<Cursor>), Problem> {
    let (asked, cursor) = list.asked();
    Ok((limit(asked)?, cursor.map(Cursor::read).transpose()?))
}

/// What these stores have of it.
pub(super) async fn page<L: List>(stores: &[Store], list: &L) -> Result<Page<L::Row>, Problem> {
    let (limit, cursor) = check(list)?;
    let cursor = cursor.as_ref();
    let parts = join_all(stores.iter().map(async |store| {
        let place = Begin::of(cursor, &store.name)?.place();
        let part = list.part(store, place, limit).await;
        let from = place.map(ToOwned::to_owned);
        Some((store, part.map(|given| Part { store: store.name.clone(), from, given })))
    }));
    let parts: Vec<_> = parts.await.into_iter().flatten().collect();
    let failed = failed(cursor, &parts);
    let (parts, unavailable) = some(parts.into_iter())?;
    let (rows, next) = merge(parts, failed, limit)?;
    Ok(Page { rows, next, unavailable })
}

/// Where the next page begins in each store that has more; `None`: at its beginning.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Cursor(BTreeMap<String, Option<String>>);

impl Cursor {
    /// What a caller gives back.
    fn read(text: &str) -> Result<Self, Problem> {
        let places = URL_SAFE_NO_PAD.decode(text).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        places.map(Self).ok_or_else(unknown)
    }

    fn write(&self) -> Result<String, Problem> {
        let bytes = serde_json::to_vec(&self.0).map_err(|error| Problem::Internal(error.to_string()))?;
        Ok(URL_SAFE_NO_PAD.encode(bytes))
    }
}

/// Where the page begins in one store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begin<'a> {
    /// At the beginning.
    First,
    /// Behind this place.
    Behind(&'a str),
}

impl<'a> Begin<'a> {
    /// Where the page that a cursor names begins in a store; `None`: the store has no more.
    fn of(cursor: Option<&'a Cursor>, store: &StoreName) -> Option<Self> {
        let Some(Cursor(places)) = cursor else { return Some(Self::First) };
        let place = places.get(&store.to_string())?;
        Some(place.as_deref().map_or(Self::First, Self::Behind))
    }

    /// The place, if there is one.
    const fn place(self) -> Option<&'a str> {
        match self {
            Self::First => None,
            Self::Behind(place) => Some(place),
        }
    }
}

/// A text that is no cursor.
pub(super) fn unknown() -> Problem {
    Problem::InvalidParameter(
        "the cursor is none that was told before: give next of the page before, or none".to_owned(),
    )
}

/// What one store gave, and where that began.
struct Part<K, T> {
    store: StoreName,
    from: Option<String>,
    given: Rows<K, T>,
}

/// A store that could not give its part, and where that would have begun.
type Failed = (StoreName, Option<String>);

/// Those of the stores that a cursor names.
fn failed<P>(cursor: Option<&Cursor>, parts: &[(&Store, Result<P, Problem>)]) -> Vec<Failed> {
    let failed = parts.iter().filter(|(_, part)| part.is_err());
    let place = |name: &StoreName| Begin::of(cursor, name)?.place().map(ToOwned::to_owned);
    failed.map(|(store, _)| (store.name.clone(), place(&store.name))).collect()
}

/// The first `limit` rows of all parts, in the order of their keys, and where the next page begins. The order within a
/// store stays as it is. A store that failed keeps its place as long as there are further pages; it holds up the last one
/// only if it has given rows before.
fn merge<K: Ord, T>(
    mut parts: Vec<Part<K, T>>,
    failed: Vec<Failed>,
    limit: u32,
) -> Result<(Vec<T>, Option<String>), Problem> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut page = Vec::new();
    while page.len() < limit {
        let heads = parts.iter_mut().filter(|part| !part.given.rows.is_empty());
        let first = heads.min_by(|a, b| {
            a.given.rows.front().map(|row| &row.0).cmp(&b.given.rows.front().map(|row| &row.0))
        });
        let Some((part, (_, behind, row))) = first.and_then(|part| {
            let row = part.given.rows.pop_front()?;
            Some((part, row))
        }) else {
            break;
        };
        part.from = Some(behind);
        page.push(row);
    }
    let mut cursor = Cursor::default();
    for Part { store, from, given: Rows { rows, next } } in parts {
        let place = if rows.is_empty() { next.map(Some) } else { Some(from) };
        if let Some(place) = place {
            cursor.0.insert(store.to_string(), place);
        }
    }
    if !cursor.0.is_empty() || failed.iter().any(|(_, place)| place.is_some()) {
        cursor.0.extend(failed.into_iter().map(|(store, place)| (store.to_string(), place)));
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

    /// A store with these rows, from which parts of at most three are taken.
    fn part(store: &str, all: &[u32], cursor: Option<&Cursor>) -> Option<Part<u32, (String, u32)>> {
        let from = Begin::of(cursor, &name(store))?.place().map(ToOwned::to_owned);
        let begin = from.as_ref().map_or(0, |place| place.parse::<usize>().unwrap());
        let end = all.len().min(begin + 3);
        let rows = (begin..end).map(|i| (all[i], (i + 1).to_string(), (store.to_owned(), all[i]))).collect();
        let next = (end < all.len()).then(|| end.to_string());
        Some(Part { store: name(store), from, given: Rows { rows, next } })
    }

    #[test]
    fn every_row_is_on_one_page_and_in_its_place() {
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
    fn a_store_that_fails_keeps_its_place() {
        let places = |all: &[u32], failed: Option<&str>| {
            let parts = part("a", all, None).into_iter().collect();
            let failed = vec![(name("b"), failed.map(ToOwned::to_owned))];
            let (_, next) = merge(parts, failed, 2).unwrap();
            next.map(|next| Cursor::read(&next).unwrap())
        };
        let begin = |cursor: &Option<Cursor>| {
            Begin::of(cursor.as_ref(), &name("b")).map(|begin| begin.place().map(ToOwned::to_owned))
        };
        assert_eq!(begin(&places(&[1, 2, 3], None)), Some(None));
        assert_eq!(begin(&places(&[1, 2, 3], Some("7"))), Some(Some("7".to_owned())));
        assert_eq!(begin(&places(&[1], Some("7"))), Some(Some("7".to_owned())));
        assert_eq!(places(&[1], None), None, "one that gives nothing ever does not make a list endless");
    }

    #[test]
    fn what_is_no_cursor_is_refused() {
        for text in ["", "x", "39", "eyJhIjoxfQ", "=="] {
            assert!(Cursor::read(text).is_err(), "{text:?}");
        }
    }
}
