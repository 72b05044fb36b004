-- Part of rules.sql: executions that run again with the same start, and get one grace period.
running_again AS MATERIALIZED (
    SELECT {id} AS execution_id, observation.since + verdict.grace AS until
    FROM jobexec.observations AS observation
    JOIN {table} AS execution ON {id} = {observed_id} AND {started_at} = observation.started_at
    {rules_of_row}
    WHERE observation.store_id = $4
      AND observation.kind = '{kind}'
      AND {running}
      AND observation.since + verdict.grace > statement_timestamp()
)
