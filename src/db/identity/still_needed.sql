-- Part of copy_granted.sql: whether the execution is alive and the record lacks what the other one has. Rules that need nothing are
-- not locked.
{alive}
AND NOT EXISTS (
    SELECT
    FROM jobexec.rules AS own
    WHERE own.store_id = $1
      AND own.scope = other.scope
      AND own.key = other.key
      AND own.extend_by IS NOT NULL
      AND (other.promised IS NULL OR own.promised IS NOT NULL)
)
