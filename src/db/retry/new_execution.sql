-- Inserts the rows of the next attempts, and records them. A row that a unique constraint refuses is tried again later. Parameters: as in
-- ready.sql.
{ready},
wanted AS MATERIALIZED (
    {wanted}
),
{inserted},
started AS MATERIALIZED (
    SELECT *
    FROM (
        SELECT numbered.*,
               (SELECT jsonb_object_agg(id, next_id) FROM matched WHERE next_id IS NOT NULL) ->> numbered.id::text AS next_id
        FROM numbered
    ) AS numbered
    WHERE next_id IS NOT NULL
),
{outcome}
UNION ALL
SELECT '', 0, NULL, NULL, true WHERE (SELECT count(*) FROM inserted) <> (SELECT count(next_id) FROM matched)
