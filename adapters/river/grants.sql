-- What the operator's role needs, and no more. The triggers write the other columns: that takes no right of the role.
GRANT USAGE ON SCHEMA @schema@ TO @role@;
GRANT SELECT (id, kind, state, attempt, attempted_at, finalized_at, created_at) ON @schema@.river_job TO @role@;
GRANT UPDATE (state, finalized_at) ON @schema@.river_job TO @role@;
