-- Refuses a change of a status. It runs as the role that changes the row, because converting a row to JSON runs casts that others have
-- created. Its arguments: schema and name of the table, the columns of the id and the status.
CREATE OR REPLACE FUNCTION jobexec.refuse_transition() RETURNS trigger
LANGUAGE plpgsql SECURITY INVOKER SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    RAISE EXCEPTION 'execution % of %.% is % and cannot become %', pg_catalog.to_jsonb(OLD) ->> TG_ARGV[2],
        TG_ARGV[0], TG_ARGV[1], pg_catalog.to_jsonb(OLD) ->> TG_ARGV[3], pg_catalog.to_jsonb(NEW) ->> TG_ARGV[3]
    USING ERRCODE = 'check_violation', CONSTRAINT = 'jobexec_transitions', SCHEMA = TG_ARGV[0], TABLE = TG_ARGV[1],
        HINT = 'An execution that has ended stays as it is; jobexec.events tells whether it was given up.';
END
$function$
