-- Moves the first audit records to another record. They keep their numbers, because posts refer to these; one whose number is taken
-- gets another. $1: its store id, $2: the store id that they have.
WITH taken AS (
    DELETE FROM jobexec.events WHERE {first_events} RETURNING *
),
marked AS MATERIALIZED (
    SELECT taken.*,
           EXISTS (
               SELECT
               FROM jobexec.events AS event
               WHERE event.store_id = $1 AND event.event_id = taken.event_id
           ) AS number_is_taken
    FROM taken
),
kept AS (
    INSERT INTO jobexec.events (store_id, event_id, {columns})
    OVERRIDING SYSTEM VALUE
    SELECT $1, event_id, {columns} FROM marked WHERE NOT number_is_taken
    ON CONFLICT DO NOTHING
),
numbered AS (
    INSERT INTO jobexec.events (store_id, {columns})
    SELECT $1, {columns} FROM marked WHERE number_is_taken ORDER BY event_id
    ON CONFLICT DO NOTHING
)
SELECT count(*) FROM taken
