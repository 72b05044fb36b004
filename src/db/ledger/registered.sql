-- Reads and locks the record of a table. $1: its schema, $2: its name, $3: seconds for which a claim counts, $4: seconds without a
-- confirmation that make a gap.
SELECT store_id, uid, namespace, name,
       {counts} AS counts,
       NOT {confirmed} AS silent,
       CASE WHEN (table_schema, table_name) <> ($1, $2) THEN format('%I.%I', table_schema, table_name) END AS was,
       watched_since IS NOT NULL AS watched
FROM jobexec.stores
WHERE {of_the_table}
FOR NO KEY UPDATE
