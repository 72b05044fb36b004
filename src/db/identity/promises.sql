-- Part of copy_granted.sql: whether a rule that exists gets the promise: one to a later run, or a longer one to the same run.
(
    excluded.promised IS NOT NULL
    AND COALESCE(
        excluded.promised_by <= CASE WHEN {extends} THEN excluded.extend_by ELSE rule.extend_by END,
        rule.promised IS NULL)
    AND (
        rule.promised IS NULL
        OR (excluded.promised_start, excluded.promised) > (rule.promised_start, rule.promised)
    )
)
