-- Part of other statements: the rules that apply to a row, and its verdict.
LEFT JOIN execution_rule ON execution_rule.applies_to = {id}
LEFT JOIN job_rule ON job_rule.applies_to = {job}
LEFT JOIN type_rule ON type_rule.applies_to = {type_}
CROSS JOIN store_defaults{own_limit}
CROSS JOIN LATERAL (SELECT {settings}) AS verdict
