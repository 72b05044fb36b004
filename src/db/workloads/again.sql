-- Part of other statements: whether another workload has the name. A workload with another UID than the first one has its name. This
-- does not apply if an object has named another workload since.
COALESCE(
    (
        SELECT workload.name IS NOT NULL
               AND first <> workload.name || ' ' || workload.uid
               AND starts_with(first, workload.name || ' ')
        FROM {first_seen} AS observed (first)
    ),
    false
)
