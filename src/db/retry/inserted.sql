-- Part of other statements: inserts rows that retry those of `wanted`, and finds out which is which. Postgres knows nothing of the number
-- of these rows: joins of them would compare each with each, so that they are looked up in objects instead.
latest AS MATERIALIZED (
    {latest}
),
numbered AS MATERIALIZED (
    SELECT wanted.*,
           wanted.counted + 1 AS next_attempt,
           COALESCE(((SELECT jsonb_object_agg(job, number) FROM latest WHERE job IS NOT NULL) ->> wanted.job_key::text)::bigint, 0)
               + row_number() OVER (PARTITION BY wanted.job_key ORDER BY wanted.due_at, wanted.id) AS next_number
    FROM wanted
),
inserted AS (
    INSERT INTO {table} AS created ({columns})
    SELECT {values}
    FROM numbered
    ON CONFLICT DO NOTHING
    RETURNING {created_id}::text AS id, {created_key} AS key
),
matched AS MATERIALIZED (
    SELECT numbered.id,
           (SELECT jsonb_object_agg(key, id) FROM inserted WHERE key IS NOT NULL) ->> {numbered_key} AS next_id
    FROM numbered
)
