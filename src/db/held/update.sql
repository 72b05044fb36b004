-- Records which stale executions other transactions lock now, and lists those that were skipped for long. $1 to $4: the rules, $5:
-- ids of executions to leave out.
WITH {predicate},
free AS MATERIALIZED (
    SELECT {id} AS id FROM {table} AS execution WHERE {id} = ANY (ARRAY (SELECT id FROM stale)) {lock}
),
held AS MATERIALIZED (
    SELECT {id}::text AS execution_id, {started_at} AS started_at, {holder} AS detail
    FROM {table} AS execution
    WHERE {id} = ANY (ARRAY (SELECT id FROM stale))
      AND {running}
      AND {id} NOT IN (SELECT id FROM free)
),
released AS (
    DELETE FROM jobexec.observations AS observation
    WHERE observation.store_id = $4
      AND observation.kind = '{kind}'
      AND observation.execution_id NOT IN (SELECT execution_id FROM held)
),
noted AS (
    INSERT INTO jobexec.observations AS observation (store_id, kind, execution_id, started_at, since, detail)
    SELECT $4, '{kind}', execution_id, started_at, statement_timestamp(), detail FROM held
    ON CONFLICT (store_id, kind, execution_id) DO UPDATE
    SET started_at = excluded.started_at,
        detail = excluded.detail,
        since = CASE WHEN observation.started_at IS DISTINCT FROM excluded.started_at THEN excluded.since
                     ELSE observation.since END
    RETURNING execution_id, since, detail
)
SELECT execution_id, {since} AS since, left(detail, {record_chars}) AS detail
FROM noted
WHERE since <= statement_timestamp() - interval '{reported_after} seconds'
  AND $5::text[] IS NOT NULL
