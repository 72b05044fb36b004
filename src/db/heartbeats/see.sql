-- Reads the state of the server, what is stored of it, and whether a heartbeat is old. $1: store id.
SELECT statement_timestamp() AS now,
       pg_postmaster_start_time() AS started_at,
       sessions.*,
       {known_start} AS known_start,
       {doubted} AS doubted,
       left(store.heartbeats_why, 256) AS why,
       {held} AS held,
       {quiet} AS quiet
FROM (
    SELECT COALESCE(sum(numbackends), 0)::bigint AS open,
           COALESCE(sum(sessions_abandoned), 0)::bigint AS abandoned,
           COALESCE(sum(sessions_fatal + sessions_killed), 0)::bigint AS ended
    FROM pg_stat_database
    WHERE datname = current_database()
) AS sessions
LEFT JOIN jobexec.stores AS store ON store.store_id = $1
