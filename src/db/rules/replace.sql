-- Makes the rules of a store, and the mapping by which they apply, equal to those in effect. $1: store id, $2: rules as JSON,
-- $3: sources whose rules stay, $4: pattern for the sources of extensions without an object, $5: mapping as JSON.
WITH in_effect AS MATERIALIZED (
    SELECT * FROM jsonb_to_recordset($2::jsonb) AS rule ({typed_columns}, actor text)
),
stored AS MATERIALIZED (
    SELECT * FROM jobexec.rules WHERE store_id = $1
),
by_hand AS MATERIALIZED (
    SELECT scope, key, extend_by, extend_source FROM stored WHERE extend_source LIKE $4
),
wanted AS MATERIALIZED (
    SELECT {merged_columns}, in_effect.actor
    FROM in_effect
    LEFT JOIN by_hand USING (scope, key)
    UNION ALL
    SELECT {columns}, NULL
    FROM (
        SELECT by_hand.scope, by_hand.key, by_hand.extend_by, by_hand.extend_source,
               '{{}}'::text[] AS overruled, interval '0' AS earliest, false AS fixed, {unset_columns}
        FROM by_hand
        WHERE NOT EXISTS (
            SELECT FROM in_effect WHERE in_effect.scope = by_hand.scope AND in_effect.key = by_hand.key
        )
    ) AS only_by_hand
),
differing AS MATERIALIZED (
    SELECT {columns} FROM wanted
    EXCEPT
    SELECT {columns} FROM stored
),
unwanted AS MATERIALIZED (
    SELECT *
    FROM stored
    WHERE NOT EXISTS (SELECT FROM wanted WHERE wanted.scope = stored.scope AND wanted.key = stored.key)
      AND (
          COALESCE(timeout_source = ANY ($3), false)
          OR COALESCE(extend_source = ANY ($3), false)
          OR COALESCE(grace_source = ANY ($3), false)
          OR COALESCE(heartbeat_source = ANY ($3), false)
          OR COALESCE(on_stale_source = ANY ($3), false)
          OR COALESCE(retry_source = ANY ($3), false)
          OR COALESCE(warn_source = ANY ($3), false)
      ) IS FALSE
),
{moved}
deleted AS (
    DELETE FROM jobexec.rules AS rule
    USING unwanted
    WHERE rule.store_id = $1
      AND rule.scope = unwanted.scope
      AND rule.key = unwanted.key
      AND (rule.extend_source LIKE $4) IS NOT TRUE
    RETURNING rule.key
),
written AS (
    INSERT INTO jobexec.rules AS rule (store_id, {columns})
    SELECT $1, {columns} FROM differing
    ON CONFLICT (store_id, scope, key) DO UPDATE SET ({columns}) = ROW ({new_values})
    RETURNING rule.key
),
mapped AS (
    UPDATE jobexec.stores SET mapping = $5::jsonb
    WHERE store_id = $1 AND mapping IS DISTINCT FROM $5::jsonb
    RETURNING store_id
)
-- Whether anything was changed, and whether a rule stays that a person has extended since the statement began.
SELECT (SELECT count(*) FROM deleted) + (SELECT count(*) FROM written) + (SELECT count(*) FROM mapped) > 0,
       (SELECT count(*) FROM deleted) < (SELECT count(*) FROM unwanted)
