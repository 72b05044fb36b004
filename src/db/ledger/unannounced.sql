-- Lists the oldest sweeps of a store that have no Kubernetes Event yet. $1: store id, $2: sweeps that are known to have ended,
-- $3: how many executions to describe for each, $4: how many sweeps.
SELECT sweep.sweep_id, sweep.failed,
       sweep.sweep_id = ANY ($2)
           OR statement_timestamp() - interval '1 minute' > COALESCE(
               (SELECT event.at
                FROM jobexec.events AS event
                WHERE event.sweep_id = sweep.sweep_id
                ORDER BY event.event_id DESC
                LIMIT 1),
               sweep.started_at) AS ended,
       ARRAY(
           SELECT format('%s (job %s, #%s', event.execution_id, COALESCE(event.job_id, '?'),
                         COALESCE(event.execution_number::text, '?'))
                  || COALESCE(', ' || round(EXTRACT(epoch FROM event.at - event.started_at) / 3600, 1) || ' h', '')
                  || CASE WHEN event.reason <> 'DeadlineExceeded' THEN ', ' || event.reason ELSE '' END
                  || CASE WHEN event.action <> 'Failed' THEN ', ' || lower(event.action) || ')' ELSE ')' END
           FROM jobexec.events AS event
           WHERE event.sweep_id = sweep.sweep_id
           ORDER BY event.event_id
           LIMIT $3
       ) AS executions
FROM jobexec.sweeps AS sweep
WHERE sweep.store_id = $1
  AND sweep.announced_at IS NULL
  AND {of_this_store}
ORDER BY sweep.started_at
LIMIT $4
