-- Reads functions without arguments, views and triggers by their names, with their texts, comments and owners, and of triggers the
-- table and the function. $1: the schema, $2: the names.
SELECT 'FUNCTION' AS kind, proname::text AS name, prosrc AS body, obj_description(oid, 'pg_proc') AS comment, true AS enabled,
       prosecdef AS definer, proconfig IS NOT NULL AS pinned, pg_get_userbyid(proowner)::text AS owner, NULL AS on_table,
       NULL AS function
FROM pg_proc
WHERE pronamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)
  AND proname = ANY ($2)
  AND pronargs = 0
UNION ALL
SELECT 'VIEW', relname::text, NULL, obj_description(oid, 'pg_class'), true, false, true, pg_get_userbyid(relowner)::text, NULL, NULL
FROM pg_class
WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)
  AND relname = ANY ($2)
  AND relkind = 'v'
UNION ALL
SELECT 'TRIGGER', trigger.tgname::text, NULL, NULL, trigger.tgenabled IN ('O', 'A'), false, true,
       pg_get_userbyid(class.relowner)::text, class.relname::text, function.proname::text
FROM pg_trigger AS trigger
JOIN pg_class AS class ON class.oid = trigger.tgrelid
JOIN pg_proc AS function ON function.oid = trigger.tgfoid AND function.pronamespace = class.relnamespace
WHERE class.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = $1)
  AND trigger.tgname = ANY ($2)
  AND trigger.tgparentid = 0
