-- What is looked for is found without reading all of it.

-- The first records of a sweep, and its last one. Without their order in the index either all of its records are sorted or
-- all records of all sweeps are read. It has the name of the index that it takes the place of, which 0001 would make again.
DO $$
BEGIN
    IF (SELECT indnatts FROM pg_index WHERE indexrelid = to_regclass('jobexec.events_sweep')) = 1 THEN
        ALTER INDEX jobexec.events_sweep RENAME TO events_sweep_before;
        CREATE INDEX events_sweep ON jobexec.events (sweep_id, event_id);
        DROP INDEX jobexec.events_sweep_before;
    END IF;
END $$;

-- The sweeps of long ago, to be forgotten with their records.
CREATE INDEX IF NOT EXISTS sweeps_started ON jobexec.sweeps (store_id, started_at);
