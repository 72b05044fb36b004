-- Serves the search for running jobs. Their starts are in the events, which Procrastinate indexes by job. The index holds running
-- jobs only.
CREATE INDEX CONCURRENTLY IF NOT EXISTS jobexec_procrastinate_running ON @schema@.procrastinate_jobs (id) WHERE status = 'doing';
