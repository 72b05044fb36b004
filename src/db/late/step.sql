-- Reports whether executions that were ended have finished with another result since, and where the next step begins. $1: store id,
-- $2: the record before which to check.
{found}
SELECT (SELECT count(*) > 0 FROM found) AS any_found,
       (SELECT min(event_id) FROM walk HAVING count(*) = {step} AND max(at) > {since}) AS next
