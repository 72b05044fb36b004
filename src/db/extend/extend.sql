-- Extends an execution that is alive unless an object extends it. $1: store id, $2: id of the execution, $3: the extension, $4: its
-- source, $5: pattern for the sources of extensions without an object, $6: who asks for it.
WITH alive AS MATERIALIZED (
    SELECT {id}::text AS id,
           {job_id} AS job_id,
           {number}::bigint AS number,
           {started_at} AS started_at,
           (SELECT rule.extend_source
            FROM jobexec.rules AS rule
            WHERE rule.store_id = $1
              AND rule.scope = 'execution'
              AND rule.key = {id}::text
              AND rule.extend_source NOT LIKE $5) AS governed
    FROM {table} AS execution
    WHERE {id} = $2::text::{id_type}
      AND {alive}
),
extended AS (
    INSERT INTO jobexec.rules AS rule (store_id, scope, key, extend_by, extend_source, overruled, earliest, fixed)
    SELECT $1, 'execution', id, $3, $4, '{{}}', interval '0', false
    FROM alive
    WHERE governed IS NULL
    ON CONFLICT (store_id, scope, key) DO UPDATE
    SET extend_by = excluded.extend_by, extend_source = excluded.extend_source
    RETURNING rule.key
)
{recorded}
SELECT governed, started_at FROM alive
