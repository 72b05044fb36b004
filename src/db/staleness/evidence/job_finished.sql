-- Part of replace.sql: executions whose job has finished, unless it did before they began.
SELECT execution_id, began_at, (later OR seen) AND NOT outlived AS certain, NULL::text AS detail
FROM ({rows} AND {finished}) AS row
WHERE seen OR NOT earlier
