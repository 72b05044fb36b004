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
    -- Several rows may have one id.
    SELECT DISTINCT ON ({id})
           {id}::text AS execution_id,
           {job_id} AS job_id,
           {number}::bigint AS number,
           {status} AS status,
           ({failed}) IS TRUE AS failed,
           {completed_at} AS ended_at,
           {started_at} AS started_at,
           ended.reason,
           {recorded_attempt} AS recorded_attempt,
           {settings} AS settings,
           {alive_at} AS alive_at,
           {silence} AS silence,
           latest.attempt AS latest_attempt,
           latest.reason AS latest_reason,
           latest.outcome AS latest_outcome,
           latest.next_id AS latest_next_id,
           latest.waits AS latest_waits,
           latest.due_at AS latest_due_at,
           latest.alive_at AS latest_alive_at,
           latest.silence AS latest_silence,
           -- An id may be used again, and a row may run again: then the latest retry is that of another run.
           (latest.attempt IS NOT NULL AND {same_end}) IS TRUE AS same_run
    FROM {table} AS execution
    {rules_of_row}
    {beats}
    LEFT JOIN LATERAL ({recorded}) AS ended ON true
    LEFT JOIN LATERAL (
        SELECT retry.*
        FROM jobexec.retries AS retry
        WHERE retry.store_id = $4
          AND retry.execution_id = {id}::text
        ORDER BY retry.attempt DESC
        LIMIT 1
    ) AS latest ON true
    WHERE {id} = ANY (ARRAY (SELECT {picked_id} FROM picked))
      AND {exists}
      AND ($5::text[] IS NOT NULL OR ({failed} AND ended.reason = $7::text AND ($8::text IS NULL OR {job_type} = $8::text)))
    ORDER BY {id}, ({failed}) IS TRUE DESC
),
judged AS MATERIALIZED (
    SELECT found.*,
           failed AND NOT {retried} AS possible,
           -- A retry that waits, or was dropped, is that of the same attempt.
           CASE WHEN latest_outcome = '{as_retried}' THEN recorded_attempt ELSE COALESCE(latest_attempt, recorded_attempt) END AS attempt,
           NOT $9::boolean AND settings ->> 'after_ms' IS NULL AS for_worker,
           -- It does not wait for its worker any more, but may not be due.
           (same_run AND latest_outcome IS NULL AND NOT latest_waits) AS freed
    FROM found
),
-- Postgres knows nothing of the number of these rows: joins of them would compare each with each.
planned AS MATERIALIZED (
    SELECT execution_id, job_id, number, status, failed, ended_at, started_at, reason, latest_attempt, latest_next_id, possible, attempt,
           COALESCE(reason, CASE WHEN same_run THEN latest_reason END, '{reason}') AS shown_reason,
           CASE WHEN same_run THEN GREATEST(alive_at, latest_alive_at) ELSE alive_at END AS alive_at,
           CASE WHEN same_run THEN COALESCE(silence, latest_silence) ELSE silence END AS silence,
           for_worker AND NOT freed AS waits,
           LEAST('9999-12-31Z'::timestamptz, GREATEST(
               statement_timestamp(),
               CASE WHEN for_worker AND freed THEN latest_due_at
                    WHEN NOT $9::boolean THEN ended_at + make_interval(secs => (settings ->> 'after_ms')::float8 / 1000) END
           ) + $10::interval * ((row_number() OVER in_turn - 1) / count(*) OVER (PARTITION BY possible)::float8)) AS due_at
    FROM judged
    WINDOW in_turn AS (PARTITION BY possible ORDER BY ended_at, execution_id)
)
{requested}
SELECT execution_id, job_id, number, status, ended_at, reason, failed, possible,
       (execution_id IN (SELECT execution_id FROM requested)) IS TRUE AS requested,
       attempt, due_at, waits, latest_attempt, latest_next_id
FROM planned
-- Of those that are not named, only the ones that are retried.
WHERE $5::text[] IS NOT NULL OR possible
ORDER BY due_at, execution_id
