-- Reports whether the schema is from before 0.1.0, which identified tables by name alone and not also by owner, and had another word
-- for the action on a stale execution.
SELECT EXISTS (
    SELECT
    FROM pg_catalog.pg_class AS class
    JOIN pg_catalog.pg_namespace AS namespace ON namespace.oid = class.relnamespace
    CROSS JOIN LATERAL (
        SELECT pg_catalog.array_agg(attribute.attname::text) AS names
        FROM pg_catalog.pg_attribute AS attribute
        WHERE attribute.attrelid = class.oid
          AND attribute.attnum > 0
          AND NOT attribute.attisdropped
    ) AS has
    WHERE namespace.nspname = 'jobexec'
      AND class.relkind = 'r'
      AND CASE class.relname
          WHEN 'stores' THEN (has.names @> '{table_oid,table_owner}') IS NOT TRUE
          WHEN 'rules' THEN has.names @> '{on_timeout}' OR (has.names @> '{retry}') IS NOT TRUE
      END
)
