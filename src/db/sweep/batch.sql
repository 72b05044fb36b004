-- Ends a batch of stale executions, records their ends, and returns them; a row with nothing but its id keeps running. $1 to $4: the
-- rules, $5: ids of executions to leave out, or of those to end; with the tables, $6: sweep, $7: its trigger, $8: store id.
WITH {predicate},
{updates},
judged AS MATERIALIZED (
    SELECT ended.id::text AS id,
           ended.job_id,
           ended.number,
           {started_at} AS started_at,
           statement_timestamp() AS at,
           {deadline} AS deadline,
           ended.reason,
           ended.cancelled,
           {source} AS source,
           {note} AS note
    FROM ended
    {rules_of_row}
    WHERE NOT ended.running
)
{recorded}
SELECT id, job_id, number, started_at, deadline, at, source, reason, cancelled
FROM judged
-- Postgres evaluates the search path first, so that the table's triggers find the objects that they use.
WHERE {login_path}
UNION ALL
SELECT id::text, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL
FROM stale
WHERE id::text NOT IN (SELECT id FROM judged)
