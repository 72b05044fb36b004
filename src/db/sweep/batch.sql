-- Ends a batch of stale executions with one action, records their ends, and returns them; a row without a time keeps running. $1 to $4: the
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
           ended.ending,
           {source} AS source,
           {note} AS note
    FROM ended
    {rules_of_row}
    WHERE ended.ending <> '{completed}'
)
{recorded}
{returned}
