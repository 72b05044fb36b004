-- Part of due.sql: stale executions that are allowed to continue, once for each run.
UNION ALL
(SELECT {columns}, 'Alerted' AS action, stale.reason, {source}, {again_at}
 FROM stale
 JOIN {table} AS execution ON {id} = stale.id {rules_of_row}
 WHERE stale.action = 'AlertOnly'
   AND {running}
   AND {not_alerted_of}
 LIMIT {limit})
