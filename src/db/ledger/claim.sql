-- Writes or confirms the claim of a store to a table. $1: schema and $2: name of the table, $3: store id, $4: UID, $5: namespace and
-- $6: name of the store, $7: whether the database was unavailable, $8: seconds without a confirmation that make a gap.
UPDATE jobexec.stores
SET uid = $4,
    namespace = $5,
    name = $6,
    seen_at = statement_timestamp(),
    table_schema = $1,
    table_name = $2,
    table_owner = {table_owner},
    watched_since = CASE WHEN $7 OR NOT {confirmed} THEN statement_timestamp()
                         ELSE COALESCE({watched_since}, statement_timestamp()) END
WHERE store_id = $3
RETURNING {watched_since_read}, seen_at
