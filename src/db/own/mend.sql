-- Sets the sequence of a table to the highest existing number if this login may, and reports whether it may. It never moves back.
SELECT CASE WHEN has_sequence_privilege(name, 'UPDATE')
            THEN setval(name, GREATEST({highest}, nextval(name))) END IS NOT NULL
FROM (SELECT pg_get_serial_sequence('jobexec.{table}', '{column}')::regclass AS name) AS sequence
