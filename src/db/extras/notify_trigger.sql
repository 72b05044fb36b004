-- Announces changes of the table, once per statement: a transaction sends equal notifications only once anyway.
CREATE TRIGGER {name} AFTER INSERT OR DELETE OR UPDATE OF {status}, {start} ON {table}
FOR EACH STATEMENT EXECUTE FUNCTION jobexec.notify({channel}, {payload})
