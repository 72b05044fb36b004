-- Makes the stored suspects for a reason those of now.
WITH {found},
gone AS (
    DELETE FROM jobexec.suspects AS suspect
    USING (SELECT execution_id FROM kept EXCEPT SELECT execution_id FROM found) AS over
    WHERE suspect.store_id = $1
      AND suspect.reason = '{reason}'
      AND suspect.execution_id = over.execution_id
)
INSERT INTO jobexec.suspects AS suspect (store_id, reason, execution_id, began_at, since, certain, detail)
SELECT DISTINCT ON (execution_id) $1, '{reason}', execution_id, began_at, statement_timestamp(), certain, detail
FROM (SELECT * FROM found EXCEPT SELECT * FROM kept) AS fresh
ON CONFLICT (store_id, reason, execution_id) DO UPDATE
SET -- Ids may be used again, and what was only suspected gets its grace period once it is certain.
    since = CASE WHEN suspect.began_at = excluded.began_at AND (suspect.certain OR NOT excluded.certain){same_detail}
                 THEN suspect.since ELSE excluded.since END,
    began_at = excluded.began_at,
    certain = excluded.certain,
    detail = excluded.detail
