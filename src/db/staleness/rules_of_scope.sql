-- Part of rules.sql: the rules of a scope. A key that is not an id of this table (its type was changed) must not make the cast fail.
SELECT *, moves AND {ends} AS ends
FROM (
    SELECT CASE WHEN {is_sane} THEN key::{type_} END AS applies_to, rule.*, {moves} AS moves
    FROM rule
    WHERE scope = '{scope}'
) AS rule
WHERE applies_to IS NOT NULL
