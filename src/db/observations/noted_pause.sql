-- Part of other statements: what is recorded of the pause of an execution.
(
    -- Existing records stay unchanged: this writes only new ones.
    SELECT observation.detail
    FROM jobexec.observations AS observation
    WHERE observation.store_id = $1
      AND observation.kind = '{kind}'
      AND observation.execution_id = {id}::text
      AND observation.started_at = {started_at}
)
