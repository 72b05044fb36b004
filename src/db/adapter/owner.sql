-- Reads the owner of the tables of a job system, and the login. $1: the schema, $2: the names of the tables.
SELECT (SELECT pg_get_userbyid(relowner)::text
        FROM pg_class
        WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)
          AND relname = ANY ($2)
        ORDER BY relname
        LIMIT 1),
       current_user::text
