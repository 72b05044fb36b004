-- Reports whether a person extended an execution of a table, or of a table by its name. $1: its schema, $2: its name, $3: pattern
-- for the sources of extensions without an object.
SELECT EXISTS (
    SELECT
    FROM jobexec.rules
    WHERE extend_source LIKE $3
      AND store_id IN (
          SELECT store_id FROM jobexec.stores WHERE {of_the_table} OR table_schema = $1 AND table_name = $2
      )
)
