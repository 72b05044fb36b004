-- Reports for each table whether this login has all privileges that it needs; NULL: there is no such table. $1: the names, $2: the
-- privileges of each as a list, with those on one column as `INSERT (column)`.
SELECT (
    SELECT bool_and(
        CASE strpos(privilege, '(')
            WHEN 0 THEN has_table_privilege(class.oid, privilege)
            ELSE has_column_privilege(
                class.oid, split_part(rtrim(privilege, ')'), '(', 2), split_part(privilege, ' ', 1))
        END)
    FROM unnest(string_to_array(needed.privileges, ', ')) AS privilege
    WHERE class.oid IS NOT NULL
) AS all_held
FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS needed (name, privileges, place)
LEFT JOIN pg_class AS class ON class.relnamespace = 'jobexec'::regnamespace AND class.relname = needed.name
ORDER BY needed.place
