-- Removes the adapter: River's tables are as its migrations made them. What the jobs' metadata says of retries stays.
DROP TRIGGER IF EXISTS jobexec_river ON @schema@.river_job;
DROP TRIGGER IF EXISTS jobexec_river_fence ON @schema@.river_job;
DROP FUNCTION IF EXISTS @schema@.jobexec_river();
DROP FUNCTION IF EXISTS @schema@.jobexec_river_fence();
DROP INDEX IF EXISTS @schema@.jobexec_river_running;
DROP INDEX IF EXISTS @schema@.jobexec_river_running_kind;
