-- Reads the records of an execution, the latest first. $1: store id, $2: id of the execution, $3: how many, $4: how many characters
-- of each text.
SELECT at,
       left(action, $4) AS action,
       left(reason, $4) AS reason,
       left(source, $4) AS source,
       left(actor, $4) AS actor,
       left(note, $4) AS note
FROM jobexec.events
WHERE store_id = $1
  AND execution_id = $2
ORDER BY event_id DESC
LIMIT $3
