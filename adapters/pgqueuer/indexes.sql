-- Serves the search for running jobs by their start. The expression is the view's, word for word. The index holds running jobs
-- only.
CREATE INDEX CONCURRENTLY IF NOT EXISTS jobexec_pgqueuer_running
ON @schema@.pgqueuer ((CASE WHEN status = 'picked' THEN updated END)) WHERE status = 'picked';
