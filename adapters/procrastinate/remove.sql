-- Removes everything that install.sql and indexes.sql created. Jobs stay as they are.
SET LOCAL lock_timeout = '5s';
DROP VIEW IF EXISTS @schema@.jobexec_procrastinate;
DROP FUNCTION IF EXISTS @schema@.jobexec_procrastinate();
DROP INDEX IF EXISTS @schema@.jobexec_procrastinate_running;
