-- Ends the claim to a table. $1: store id, $2: schema and $3: name of the table.
UPDATE jobexec.stores
SET uid = NULL,
    namespace = NULL,
    name = NULL,
    seen_at = NULL,
    table_schema = $2,
    table_name = $3,
    table_owner = (SELECT pg_get_userbyid(class.relowner)::text FROM pg_class AS class WHERE class.oid = table_oid)
WHERE store_id = $1
