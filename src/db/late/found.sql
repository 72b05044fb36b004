-- Part of step.sql and record.sql: the records to check, and the rows that contradict them. A row with another start belongs to
-- another run, and so does one that was seen to run again with the same start. A row without a start does not show to which run it
-- belongs. A worker that obeys a person's request to cancel is not late.
WITH walk AS MATERIALIZED (
    SELECT {columns}
    FROM jobexec.events
    WHERE store_id = $1 AND ($2::bigint IS NULL OR event_id < $2)
    ORDER BY event_id DESC
    LIMIT {step}
),
latest AS MATERIALIZED (
    SELECT {columns}
    FROM jobexec.events
    WHERE store_id = $1 AND $2 IS NOT NULL
    ORDER BY event_id DESC
    LIMIT {step}
),
batch AS MATERIALIZED (
    SELECT * FROM walk
    UNION
    SELECT * FROM latest
),
found AS MATERIALIZED (
    SELECT batch.*, {status} AS status, {completed_at} AS completed_at
    FROM batch
    JOIN {table} AS execution ON {id} = {recorded_id}
    WHERE batch.action IN ('Failed', 'Cancelled')
      AND batch.at > {since}
      AND {finished}
      AND CASE batch.action WHEN 'Failed' THEN {completed}
                            ELSE ({completed} OR {failed}) AND batch.reason <> '{cancel_requested}' END
      AND {started_at} = batch.started_at
      AND (
          SELECT true
          FROM jobexec.events AS later
          WHERE later.store_id = $1
            AND later.execution_id = batch.execution_id
            AND later.event_id > batch.event_id
            AND later.action IN ('{finished_late}', '{started_again}', 'Failed', 'Cancelled')
          LIMIT 1
      ) IS NULL
)
