-- Reads the record of a table. $1: its schema, $2: its name, $3: seconds without a confirmation that make a gap.
SELECT store_id, uid, namespace, name,
       CASE WHEN {confirmed} THEN {watched_since} END AS watched_since,
       CASE WHEN (table_schema, table_name) <> ($1, $2) THEN format('%I.%I', table_schema, table_name) END AS was
FROM jobexec.stores
WHERE {of_the_table}
