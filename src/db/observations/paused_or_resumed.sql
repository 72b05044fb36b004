-- Records that executions were paused or resumed since the last look. $1: store id.
UPDATE jobexec.observations AS observation
SET since = statement_timestamp(),
    detail = CASE WHEN observation.detail IS NULL THEN '{resumed}' END,
    total = CASE WHEN observation.detail IS NULL THEN {seen_paused} ELSE observation.total END
{changed}
