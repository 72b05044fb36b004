-- Stores computed timeouts. $1: store id, $2: UID, $3: name and $4: generation of the policy, $5: when they were computed, $6: the
-- timeouts as JSON.
INSERT INTO jobexec.figures (store_id, policy_uid, policy, generation, computed_at, figures)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (store_id, policy_uid) DO UPDATE
SET policy = excluded.policy,
    generation = excluded.generation,
    computed_at = excluded.computed_at,
    figures = excluded.figures
