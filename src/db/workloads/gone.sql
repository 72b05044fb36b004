-- Part of replace.sql: executions whose workload has failed or is gone. $2: the workloads that exist as JSON, $3: ids of executions,
-- $4: the workload of each by objects.
SELECT execution_id,
       began_at,
       true AS certain,
       COALESCE(
           workload.why,
           CASE WHEN {counts} THEN {made_again} END,
           (
               SELECT suspect.detail
               FROM jobexec.suspects AS suspect
               WHERE suspect.store_id = $1
                 AND suspect.reason = '{reason}'
                 AND suspect.execution_id = row.execution_id
                 AND suspect.began_at = row.began_at
           )
       ) AS detail
FROM {joined}
  AND (workload.name IS NULL OR workload.state = 'Ended' OR {counts})
