-- Returns how many changes the transition trigger has rejected. $1: store id, $2: the prefix of the names of its sequences.
SELECT COALESCE(pg_sequence_last_value(class.oid), 0)
FROM pg_class AS class
WHERE class.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'jobexec')
  AND class.relkind = 'S'
  AND class.relname = $2::text || (SELECT table_oid::text FROM jobexec.stores WHERE store_id = $1)
  AND CASE class.relkind WHEN 'S' THEN has_sequence_privilege(class.oid, 'SELECT') END
