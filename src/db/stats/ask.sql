-- Counts the executions that ended recently, by job type or job. $1: only these types, or none for all, $2: how many at most.
SELECT left(key, {text_chars}) AS shown_key,
       count(*) AS executions,
       count(*) FILTER (WHERE completed) AS completed,
       count(*) FILTER (WHERE failed) AS failed,
       count(*) FILTER (WHERE cancelled) AS cancelled,
       count(*) FILTER (WHERE late) AS finished_late,
       percentile_disc(ARRAY[0.5, 0.95, 0.99]) WITHIN GROUP (ORDER BY seconds) AS quantiles
FROM (
    SELECT {key} AS key,
           {completed} AS completed,
           {failed} AS failed,
           {cancelled} AS cancelled,
           {late} AS late,
           -- The duration of an execution that did not complete says nothing about how long the work takes, and infinite times cannot
           -- be subtracted.
           CASE WHEN {completed} AND isfinite({start}) AND isfinite({end}) AND {end} >= {start}
                THEN EXTRACT(epoch FROM {ended_at} - {started_at})::float8 END AS seconds
    FROM {table} AS execution
    WHERE {finished} AND {ended_recently}
) AS ended
WHERE $1::text[] = '{{}}' OR key = ANY ($1)
GROUP BY key
ORDER BY count(*) DESC, key
LIMIT $2
