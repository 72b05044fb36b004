-- Removes the adapter: pg-boss's tables are as its migrations made them.
DROP VIEW IF EXISTS @schema@.jobexec_pg_boss;
DROP FUNCTION IF EXISTS @schema@.jobexec_pg_boss();
DROP INDEX IF EXISTS @schema@.jobexec_pg_boss_running;
DROP INDEX IF EXISTS @schema@.jobexec_pg_boss_running_id;
DROP INDEX IF EXISTS @schema@.jobexec_pg_boss_common_running;
DROP INDEX IF EXISTS @schema@.jobexec_pg_boss_common_running_id;
