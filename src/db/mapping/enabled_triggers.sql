-- Part of other statements: whether all triggers of an adapter are on their tables with their functions, and enabled.
(
    SELECT count(*) = {count}
    FROM pg_trigger AS trigger
    JOIN pg_class AS class ON class.oid = trigger.tgrelid
    JOIN pg_proc AS function ON function.oid = trigger.tgfoid AND function.pronamespace = class.relnamespace
    WHERE class.relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = {schema})
      AND (trigger.tgname, class.relname, function.proname) IN ({triggers})
      AND trigger.tgparentid = 0
      AND trigger.tgenabled IN ('O', 'A')
)