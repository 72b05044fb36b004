-- Adds a constraint on the times of executions without reading the table under a lock that blocks writers; a later statement
-- validates it under a lock that does not.
BEGIN
    IF NOT EXISTS (
        SELECT FROM pg_constraint WHERE conrelid = {table_text}::regclass AND conname = {name_text}
    ) THEN
        ALTER TABLE {table} ADD CONSTRAINT {name} CHECK (
            (NOT ({running}) OR {start} IS NOT NULL)
            AND (NOT ({finished}) OR {end} IS NOT NULL)
        ) NOT VALID;
    END IF;
END
