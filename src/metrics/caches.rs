//! Metrics of the object caches.

use std::fmt;

use super::page::Page;
use super::snapshot::CacheNow;

/// Writes the size and refused objects of each cache.
pub(super) fn write(page: &mut Page<'_>, caches: &[CacheNow]) -> fmt::Result {
    let of =
        |value: fn(&CacheNow) -> i64| caches.iter().map(move |cache| ([("kind", cache.kind)], value(cache)));
    page.gauge(
        "jobexec_cache_bytes",
        "Estimated memory for the objects of a kind, in all namespaces. Not for alerts: check it when \
         process_resident_memory_bytes approaches the container's limit.",
        of(|cache| i64::try_from(cache.bytes).unwrap_or(i64::MAX)),
    )?;
    page.gauge(
        "jobexec_cache_refused_objects",
        "Objects of a kind that cannot be decoded, are too large, or exceed the budget of their namespace; their conditions say \
         which. Alert if there are any: their current spec is ignored.",
        of(|cache| i64::try_from(cache.refused).unwrap_or(i64::MAX)),
    )
}
