-- Part of other statements: the rules of a store by scope, each with the execution, job or type that it applies to. $1: default
-- timeout, $2: default grace period, $3: the other defaults and the manual request as JSON, $4: store id; without the tables, rules
-- as JSON.
store_defaults AS MATERIALIZED (
    SELECT store_defaults.*{heartbeats_held}
    FROM jsonb_to_record($3::jsonb) AS store_defaults ({typed_columns}, store text, watched timestamptz)
    -- Named in every statement, so that their types are known.
    WHERE $1::interval IS NOT NULL
      AND $2::interval IS NOT NULL
),
rule AS MATERIALIZED ({rules}),
execution_rule AS MATERIALIZED ({execution_rules}),
job_rule AS MATERIALIZED ({job_rules}),
type_rule AS MATERIALIZED ({type_rules}){observed_pauses}{running_again}
