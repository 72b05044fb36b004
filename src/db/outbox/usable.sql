-- Reports whether the outbox and the messages exist and this login may use them.
SELECT count(*) = 2
FROM (
    VALUES ('outbox', 'SELECT, INSERT, DELETE'), ('messages', 'SELECT, INSERT, UPDATE, DELETE')
) AS needed (name, privileges)
JOIN pg_class AS class ON class.relnamespace = 'jobexec'::regnamespace AND class.relname = needed.name
WHERE (
    SELECT bool_and(has_table_privilege(class.oid, privilege))
    FROM unnest(string_to_array(needed.privileges, ', ')) AS privilege
)
