-- Adds the timeouts that other records have from history to a record. $1: its store id, $2: store ids of the others, $3 is not used.
INSERT INTO jobexec.figures (store_id, policy_uid, policy, generation, computed_at, figures)
SELECT DISTINCT ON (policy_uid) $1, policy_uid, policy, generation, computed_at, figures
FROM jobexec.figures
WHERE store_id = ANY ($2)
  AND $3::text IS NOT NULL
ORDER BY policy_uid, store_id DESC
ON CONFLICT (store_id, policy_uid) DO NOTHING
