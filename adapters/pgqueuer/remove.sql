-- Removes everything that install.sql and indexes.sql created. Jobs stay as they are.
SET LOCAL lock_timeout = '5s';
DROP VIEW IF EXISTS @schema@.jobexec_pgqueuer;
DROP FUNCTION IF EXISTS @schema@.jobexec_pgqueuer();
DROP INDEX IF EXISTS @schema@.jobexec_pgqueuer_running;
