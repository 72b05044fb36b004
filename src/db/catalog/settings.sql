-- Reads the login, whether Postgres knows the time zone $1, and whether this server accepts no writes.
SELECT current_user::text,
       $1 = 'UTC' OR EXISTS (SELECT FROM pg_timezone_names WHERE name = $1),
       pg_is_in_recovery() OR current_setting('default_transaction_read_only')::boolean
