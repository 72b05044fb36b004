-- Reads the columns of relations with their types; a type of the same schema without it. $1: the schema, $2: the names of the
-- relations.
SELECT class.relname::text AS relation,
       attribute.attname::text AS name,
       CASE WHEN type.typnamespace = class.relnamespace THEN type.typname::text
            ELSE format_type(attribute.atttypid, NULL) END AS type_
FROM pg_class AS class
JOIN pg_attribute AS attribute ON attribute.attrelid = class.oid
JOIN pg_type AS type ON type.oid = attribute.atttypid
WHERE class.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)
  AND class.relname = ANY ($2)
  AND attribute.attnum > 0
  AND NOT attribute.attisdropped
