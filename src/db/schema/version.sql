-- Returns the newest migration of the schema, and whether all optional tables exist. $1: names of those tables.
SELECT (SELECT max(version) FROM jobexec._sqlx_migrations WHERE success) AS version,
       (SELECT bool_and(to_regclass('jobexec.' || table_name) IS NOT NULL)
        FROM unnest($1::text[]) AS table_name) AS whole
