-- Part of note.sql: stale executions that were ended before, or were seen to have ended, with the start that they have now, and are
-- not noted since.
WITH {predicate},
again AS MATERIALIZED (
    SELECT *
    FROM (
        SELECT {id}::text AS id,
               {job_id} AS job_id,
               {number}::bigint AS number,
               {start} AS started_at,
               store_defaults.store AS source,
               COALESCE(
                   (SELECT event.at
                    FROM jobexec.events AS event
                    WHERE event.store_id = $4
                      AND event.execution_id = {id}::text
                      AND event.started_at = {start}
                      AND event.action IN ('Failed', 'Cancelled', 'Retried')
                    ORDER BY event.event_id DESC
                    LIMIT 1),
                   (SELECT observation.since
                    FROM jobexec.observations AS observation
                    WHERE observation.store_id = $4
                      AND observation.kind = '{ended}'
                      AND observation.execution_id = {id}::text
                      AND observation.started_at = {start})) AS ended_at
        FROM stale
        JOIN {table} AS execution ON {id} = stale.id
        CROSS JOIN store_defaults
        WHERE {running}
    ) AS found
    WHERE ended_at IS NOT NULL
      AND ((
          SELECT observation.since >= found.ended_at
          FROM jobexec.observations AS observation
          WHERE observation.store_id = $4
            AND observation.kind = '{started_again}'
            AND observation.execution_id = found.id
            AND observation.started_at = found.started_at
      )) IS NOT TRUE
)
