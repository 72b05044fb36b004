-- Reads the executions that a person wants retried, and how they would be. $1 to $4: the rules, $5: ids; NULL: of those that were failed
-- within the period $6 for the reason $7, those of the job type $8, if given. $9: whether they start at once, $10: over which time.
WITH {rules},
picked AS MATERIALIZED (
    SELECT unnest($5::text[]) AS execution_id
    UNION
    SELECT event.execution_id
    FROM jobexec.events AS event
    WHERE $5::text[] IS NULL
      AND event.store_id = $4
      AND event.action = '{as_failed}'
      AND event.reason = $7::text
      AND event.at > statement_timestamp() - $6::interval
),
found AS MATERIALIZED (
    SELECT {id}::text AS execution_id,
           {job_id} AS job_id,
           {number}::bigint AS number,
           {status} AS status,
           ({failed}) IS TRUE AS failed,
           {completed_at} AS ended_at,
           {started_at} AS started_at,
           ended.reason,
           {counted} AS counted,
           {settings} AS settings,
           {alive_at} AS alive_at,
           {silence} AS silence,
           latest.attempt AS latest_attempt,
           latest.outcome AS latest_outcome,
           latest.next_id AS latest_next_id
    FROM {table} AS execution
    {rules_of_row}
    {beats}
    LEFT JOIN LATERAL ({recorded}) AS ended ON true
    LEFT JOIN LATERAL (
        SELECT retry.attempt, retry.outcome, retry.next_id
        FROM jobexec.retries AS retry
        WHERE retry.store_id = $4
          AND retry.execution_id = {id}::text
        ORDER BY retry.attempt DESC
        LIMIT 1
    ) AS latest ON true
    WHERE {id} = ANY (ARRAY (SELECT {picked_id} FROM picked))
      AND {exists}
      AND ($5::text[] IS NOT NULL OR ({failed} AND ended.reason = $7::text AND ($8::text IS NULL OR {job_type} = $8::text)))
),
judged AS MATERIALIZED (
    SELECT found.*, failed AND NOT {retried} AS possible
    FROM found
),
planned AS MATERIALIZED (
    SELECT judged.*,
           -- A retry that waits, or was dropped, is that of the same attempt.
           LEAST(CASE WHEN latest_outcome = '{as_retried}' THEN counted ELSE COALESCE(latest_attempt, counted) END, 999999)::integer AS attempt,
           NOT $9::boolean AND settings ->> 'after_ms' IS NULL AS waits,
           GREATEST(
               statement_timestamp(),
               CASE WHEN NOT $9::boolean THEN ended_at + make_interval(secs => (settings ->> 'after_ms')::float8 / 1000) END
           ) + $10::interval * ((row_number() OVER (ORDER BY ended_at, execution_id) - 1) / count(*) OVER ()::float8) AS due_at
    FROM judged
    WHERE possible
)
{requested}
SELECT judged.execution_id, judged.job_id, judged.number, judged.status, judged.ended_at, judged.reason, judged.failed, judged.possible,
       planned.attempt, requested.due_at, requested.waits, judged.latest_attempt, judged.latest_next_id
FROM judged
LEFT JOIN planned USING (execution_id)
LEFT JOIN requested USING (execution_id)
-- Of those that are not named, only the ones that are retried.
WHERE $5::text[] IS NOT NULL OR judged.possible
ORDER BY planned.due_at, judged.execution_id
