-- Counts the rows that contradict themselves.
SELECT count(*) FILTER (WHERE ({mapped}) IS NOT TRUE) AS unmapped,
       left(min(COALESCE({status}::text, 'NULL')) FILTER (WHERE ({mapped}) IS NOT TRUE), 63) AS example,
       count(*) FILTER (WHERE {running} AND {start} IS NULL) AS running_without_start,
       count(*) FILTER (WHERE {finished} AND {end} IS NULL) AS finished_without_end,
       count(*) FILTER (WHERE {finished} AND {ended_at} < {started_at}) AS ended_before_start,
       count(*) FILTER (WHERE {running} AND {end} IS NOT NULL) AS running_with_end,
       count(*) FILTER (WHERE {running} AND NOT ({started_by_now})) AS start_in_future,
       count(*) FILTER (WHERE {running} AND {before_created}) AS started_before_created,
       count(*) FILTER (WHERE ({handled}) IS NOT TRUE) AS id_too_long
FROM {table} AS execution
WHERE {exists}
