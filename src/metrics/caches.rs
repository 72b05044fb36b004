//! What the operator keeps of objects.

use std::fmt;

use super::CacheNow;
use super::exposition::Page;

/// Writes what each cache takes and refuses.
pub(super) fn write(page: &mut Page<'_>, caches: &[CacheNow]) -> fmt::Result {
    let of =
        |value: fn(&CacheNow) -> i64| caches.iter().map(move |cache| ([("kind", cache.kind)], value(cache)));
    page.gauge(
        "jobexec_cache_bytes",
        "An estimate of the memory that the objects of a kind take, in all namespaces. Of no use for alerts: look here when \
         process_resident_memory_bytes nears the container's limit.",
        of(|cache| i64::try_from(cache.bytes).unwrap_or(i64::MAX)),
    )?;
    page.gauge(
        "jobexec_cache_refused_objects",
        "Objects of a kind that cannot be decoded, are too large, or exceed the budget of their namespace; their conditions say \
         which. Alert when any is: what they say now does not count.",
        of(|cache| i64::try_from(cache.refused).unwrap_or(i64::MAX)),
    )
}
