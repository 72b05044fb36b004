-- Combines the latest samples of a store into points. $1: store id, $2: the length of the period, $3: that of a point in seconds.
SELECT to_timestamp(floor(EXTRACT(epoch FROM at) / $3) * $3) AS at,
       max(running) AS running,
       max(scheduled) AS scheduled,
       max(long_running) AS long_running,
       max(stale) AS stale,
       sum(failed)::bigint AS failed
FROM jobexec.samples
WHERE store_id = $1
  AND at BETWEEN statement_timestamp() - $2 AND statement_timestamp()
GROUP BY 1
ORDER BY 1
