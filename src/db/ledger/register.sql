-- Registers a table unless it is known. $1: its schema, $2: its name, $3: how many numbers to try.
INSERT INTO jobexec.stores (registry, table_oid, table_schema, table_name, table_owner)
SELECT 'jobexec.stores'::regclass, {table_oid}, $1, $2, {table_owner}
FROM generate_series(1, $3)
WHERE NOT EXISTS (SELECT FROM jobexec.stores WHERE {of_the_table})
ON CONFLICT DO NOTHING
