-- Creates the sequence that counts the refused changes of a table. A sequence also counts what is rolled back, which no table could.
DECLARE
    id oid := {table_text}::regclass;
BEGIN
    EXECUTE format('CREATE SEQUENCE IF NOT EXISTS jobexec.{prefix}%s', id);
    EXECUTE format('REVOKE ALL ON SEQUENCE jobexec.{prefix}%s FROM PUBLIC', id);
    {grant}
END
