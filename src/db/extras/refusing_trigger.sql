-- Calls a function for each change of a status that is not allowed; allowed changes call none. Statuses that the mapping does not know
-- are not judged.
CREATE TRIGGER {name} BEFORE UPDATE OF {status} ON {table} FOR EACH ROW WHEN (
    ((({was_finished}) AND OLD.{status} IS DISTINCT FROM NEW.{status}) OR
    {requeued}(({was_scheduled}) AND ({is_done}))){unless_retried}
) EXECUTE FUNCTION {call}
