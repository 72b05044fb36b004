-- With these the operator finds running jobs by their start and by their id in a table of any size. Postgres builds no index of a
-- partitioned table concurrently: that of job is empty, so that queues with a table of their own that are made later get it, and
-- that of job_common, which has all other queues, is built beside it and attached.
CREATE INDEX IF NOT EXISTS jobexec_pg_boss_running
ON ONLY @schema@.job (started_on) WHERE state = 'active';
CREATE INDEX IF NOT EXISTS jobexec_pg_boss_running_id
ON ONLY @schema@.job ((name || '/' || id::text)) WHERE state = 'active';
CREATE INDEX CONCURRENTLY IF NOT EXISTS jobexec_pg_boss_common_running
ON @schema@.job_common (started_on) WHERE state = 'active';
CREATE INDEX CONCURRENTLY IF NOT EXISTS jobexec_pg_boss_common_running_id
ON @schema@.job_common ((name || '/' || id::text)) WHERE state = 'active';
ALTER INDEX @schema@.jobexec_pg_boss_running ATTACH PARTITION @schema@.jobexec_pg_boss_common_running;
ALTER INDEX @schema@.jobexec_pg_boss_running_id ATTACH PARTITION @schema@.jobexec_pg_boss_common_running_id;
