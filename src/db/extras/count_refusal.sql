-- Counts a refused change of a status. It runs as its owner, so that the application's role needs no privilege on the operator's
-- schema; so it uses nothing but the table that it is called for. A partition counts for its table.
CREATE OR REPLACE FUNCTION jobexec.count_refusal() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$
BEGIN
    PERFORM pg_catalog.nextval(pg_catalog.to_regclass(pg_catalog.format('jobexec.refused_%s',
        COALESCE(pg_catalog.pg_partition_root(TG_RELID), TG_RELID)::pg_catalog.oid)));
    RETURN NEW;
END
$function$
