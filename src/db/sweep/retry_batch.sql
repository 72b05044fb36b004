-- Ends a batch of stale executions that are to be retried, records their ends and their retries, and returns them as batch.sql does.
-- $1 to $4: the rules, $5: ids of executions to leave out, or of those to end, $6: sweep, $7: its trigger, $8: store id.
WITH {predicate},
tried AS MATERIALIZED (
    SELECT {id} AS id,
           stale.reason,
           {job_id} AS job_id,
           {number}::bigint AS number,
           {started_at} AS started_at,
           {deadline} AS deadline,
           {source} AS source,
           {note} AS note,
           {settings} AS settings,
           {recorded_attempt} AS attempt,
           {own_attempt} AS own_attempt,
           {alive_at} AS alive_at,
           {silence} AS silence,
           {workload_gone} AS workload_gone
    FROM stale
    JOIN {table} AS execution ON {id} = stale.id
    {rules_of_row}
    {beats}
    -- The rows are locked already: this reads them as they are now.
    {lock}
),
planned AS MATERIALIZED (
    SELECT tried.*,
           (counted >= (settings ->> 'max_attempts')::numeric) IS TRUE AS exhausted,
           settings ->> 'after_ms' IS NULL AND (workload_gone OR alive_at + silence <= {checked}) IS NOT TRUE AS waits,
           statement_timestamp() + make_interval(secs => GREATEST((settings ->> 'after_ms')::float8, {backoff}) / 1000) AS due_at,
           CASE reason {explanations} END AS explanation
    FROM (SELECT *, {counted} AS counted FROM tried) AS tried
),
{ended},
judged AS MATERIALIZED (
    SELECT ended.id::text AS id, job_id, number, started_at, statement_timestamp() AS at, deadline,
           CASE WHEN exhausted THEN '{exhausted}' ELSE reason END AS reason,
           ending, source, ended_at, attempt, exhausted, waits, due_at, alive_at, silence, reason AS evidence, {next_id} AS next_id,
           concat_ws('; ', CASE WHEN exhausted THEN reason || ': ' || explanation END, note, CASE
               WHEN exhausted THEN 'it was attempt ' || counted
               WHEN waits THEN 'attempt ' || (counted + 1) || ' waits until the worker of this one is gone'
               ELSE 'attempt ' || (counted + 1) || COALESCE(' is execution ' || left(NULLIF({next_id}, ended.id::text), 200) || ', and', '') || ' may start at ' || {shown_due} END) AS note
    FROM ended
    WHERE ending <> '{completed}'
),
retried AS (
    INSERT INTO jobexec.retries (
        store_id, execution_id, attempt, reason, source, ended_at, alive_at, silence, due_at, waits, forced, tries, next_id, decided_at,
        outcome
    )
    -- Several rows may have one id.
    SELECT DISTINCT ON (id) ${store}, id, attempt, evidence, source, ended_at, alive_at, silence, due_at, waits, false, 0,
           next_id, CASE WHEN next_id IS NOT NULL THEN at END, CASE WHEN next_id IS NOT NULL THEN '{as_retried}' END
    FROM judged
    WHERE NOT exhausted
      AND ending IN ('{as_failed}', '{as_retried}')
)
{recorded}
{returned}
{unmatched}
