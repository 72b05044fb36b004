-- Removes everything that install.sql and indexes.sql created. Jobs stay as they are.
SET LOCAL lock_timeout = '5s';
DROP VIEW IF EXISTS @schema@.jobexec_graphile_worker;
DROP FUNCTION IF EXISTS @schema@.jobexec_graphile_worker();
DROP INDEX IF EXISTS @schema@.jobexec_graphile_worker_running;
DROP INDEX IF EXISTS @schema@.jobexec_graphile_worker_started;
