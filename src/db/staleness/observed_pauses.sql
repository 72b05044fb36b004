-- Part of rules.sql: how long executions were paused, as far as it was observed.
observed_pause AS MATERIALIZED (
    SELECT {execution_id} AS execution_id, observation.started_at, {paused} AS paused
    FROM jobexec.observations AS observation
    WHERE observation.store_id = $4
      AND observation.kind = '{kind}'
)
