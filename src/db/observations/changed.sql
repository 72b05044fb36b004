-- Part of paused_or_resumed.sql: the executions that were paused or resumed since the last look. Searches by the ids of the table,
-- so that its index is used: usually none has changed, and then each is looked up.
FROM {table} AS execution
WHERE observation.store_id = $1
  AND observation.kind = '{kind}'
  AND {id} = {observed_id}
  AND observation.started_at = {started_at}
  AND {alive}
  AND (observation.detail IS NULL) <> ({paused})
