-- Serves the search for running jobs by their start. The condition is the view's, word for word. The index holds running jobs only.
CREATE INDEX CONCURRENTLY IF NOT EXISTS jobexec_graphile_worker_running ON @schema@._private_jobs (locked_at)
WHERE CASE WHEN locked_at IS NOT NULL THEN 'running' WHEN is_available THEN 'scheduled' ELSE 'failed' END = 'running';

-- Serves the count of recent starts, which names no status.
CREATE INDEX CONCURRENTLY IF NOT EXISTS jobexec_graphile_worker_started ON @schema@._private_jobs (locked_at)
WHERE locked_at IS NOT NULL;
