-- Part of other statements: what is recorded about the end of the row `execution`. The newest record counts only if it is the one
-- that set the end of the row, because an id may be used again. The column may store the time with fewer digits than the record.
SELECT left(event.reason, {record_chars}) AS reason,
       left(event.source, {record_chars}) AS source,
       left(event.actor, {record_chars}) AS actor,
       left(event.note, {record_chars}) AS note,
       {deadline} AS deadline
FROM jobexec.events AS event
WHERE {ended}
  AND event.store_id = {store_id}
  AND event.execution_id = {id}::text
  AND event.at BETWEEN {completed_at} - interval '1 second' AND {completed_at} + interval '1 second'
  AND event.action IN ('Failed', 'Cancelled')
ORDER BY event.event_id DESC
LIMIT 1
