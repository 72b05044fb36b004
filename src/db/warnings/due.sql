-- Part of any.sql and record.sql: the executions to report, which are long-running, or stale and allowed to continue.
WITH {predicate},
due AS (
    (SELECT {columns}, 'Warned' AS action, 'LongRunning' AS reason, verdict.warn_source AS source,
            NULL::timestamptz AS again_at
     FROM {table} AS execution {rules_of_row}
     WHERE {running}
       AND {started_early_enough}
       AND {counts_from} <= statement_timestamp() - {warn_after}
       AND {not_warned_of}
       AND ({deadline} > statement_timestamp()) IS NOT FALSE
     ORDER BY {order}
     LIMIT {limit})
    {alerts}
)
