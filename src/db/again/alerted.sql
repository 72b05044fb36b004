-- Part of observations/update.sql: executions that have ended since the operator warned of them. $1: store id.
SELECT event.execution_id, event.started_at, NULL::text AS detail
FROM jobexec.events AS event
JOIN {table} AS execution ON {id} = {recorded_id}
WHERE event.store_id = $1
  AND event.action = 'Alerted'
  AND event.at > statement_timestamp() - make_interval(days => 7)
  AND {start} = event.started_at
  AND {finished}
GROUP BY 1, 2
