-- Reads audit records with the type and the owner of their executions. $1: ids of the records, $2: store id.
SELECT event.action,
       left(event.execution_id, {id_bytes}) AS execution_id,
       left(event.job_id, {text_chars}) AS job_id,
       {job_type} AS job_type,
       event.execution_number,
       {started_at} AS started_at,
       {deadline} AS deadline,
       {at} AS at,
       left(event.reason, {record_chars}) AS reason,
       left(event.source, {record_chars}) AS source,
       left(event.actor, {record_chars}) AS actor,
       left(event.note, {record_chars}) AS note,
       {owner} AS owner
FROM jobexec.events AS event
LEFT JOIN {table} AS execution ON {id} = {recorded_id}
WHERE event.store_id = $2
  AND event.event_id = ANY ($1)
ORDER BY event.event_id
