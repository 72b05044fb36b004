-- Part of observations/update.sql: observations of runs that still matter. $1: store id.
SELECT observation.execution_id, observation.started_at, observation.detail
FROM jobexec.observations AS observation
JOIN {table} AS execution ON {id} = {observed_id}
WHERE observation.store_id = $1
  AND observation.kind = '{kind}'
  AND {start} = observation.started_at
  AND {condition}
