-- With these the operator finds running jobs by their start, and those of a kind, in a table of any size.
CREATE INDEX CONCURRENTLY IF NOT EXISTS jobexec_river_running
ON @schema@.river_job (attempted_at) WHERE state = 'running';
CREATE INDEX CONCURRENTLY IF NOT EXISTS jobexec_river_running_kind
ON @schema@.river_job (kind, attempted_at) WHERE state = 'running';
