-- Lists audit records of a store, the newest first. $1: store id; unless NULL, only those $2: of this execution, $3: of this job,
-- $4: not older than this, $5: before this record; $6: how many at most, $7 and $8: characters of a job id and of other texts.
SELECT event_id,
       at,
       left(execution_id, $8) AS execution_id,
       left(job_id, $7) AS job_id,
       execution_number,
       left(action, $8) AS action,
       left(reason, $8) AS reason,
       left(source, $8) AS source,
       left(actor, $8) AS actor,
       left(note, $8) AS note,
       started_at,
       deadline
FROM jobexec.events
WHERE store_id = $1
  AND ($2::text IS NULL OR execution_id = $2)
  AND ($3::text IS NULL OR left(job_id, $7) = left($3, $7))
  AND ($4::interval IS NULL OR at >= statement_timestamp() - $4)
  AND ($5::bigint IS NULL OR event_id < $5)
ORDER BY event_id DESC
LIMIT $6
