-- Announces a change of the table. Its arguments: the channel and the payload.
CREATE OR REPLACE FUNCTION jobexec.notify() RETURNS trigger
LANGUAGE plpgsql SECURITY INVOKER SET search_path = pg_catalog, pg_temp AS $function$
BEGIN PERFORM pg_catalog.pg_notify(TG_ARGV[0], TG_ARGV[1]); RETURN NULL; END
$function$
