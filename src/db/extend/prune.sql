-- Deletes the extensions of executions that have ended. $1: store id, $2: pattern for the sources of extensions without an object.
DELETE FROM jobexec.rules AS rule
WHERE rule.store_id = $1
  AND rule.scope = 'execution'
  AND rule.extend_source LIKE $2
  AND rule.timeout_source IS NULL
  AND {of_this_table}
  -- An execution that no longer passes the filter may pass it again.
  AND NOT EXISTS (SELECT FROM {table} AS execution WHERE {id} = {ruled_id} AND {unfinished})
