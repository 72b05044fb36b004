CREATE FUNCTION public.hostile() RETURNS boolean LANGUAGE plpgsql AS
    $f$ BEGIN RAISE EXCEPTION 'somebody else''s function ran'; END $f$;
DO $$
DECLARE l text; r text; op text; n int := 0; f record;
    types text[] := '{smallint,integer,bigint,numeric,double precision,uuid,text,varchar,bpchar,name,boolean,timestamptz,timestamp,interval,jsonb,text[],public.kind,public.label,public.word}';
BEGIN
    FOR f IN
        SELECT proname AS name, args, pg_get_function_result(p.oid) AS result
        FROM pg_proc AS p CROSS JOIN LATERAL (
            SELECT pg_get_function_identity_arguments(p.oid) AS args UNION
            SELECT regexp_replace(pg_get_function_identity_arguments(p.oid), '\mtext\M', 'character varying', 'g')) AS a
        WHERE pronamespace = 'pg_catalog'::regnamespace AND prokind = 'f' AND NOT proretset AND provariadic = 0
          AND proname ~ '^(left|length|octet_length|char_length|strpos|btrim|translate|round|floor|extract|date_part|timezone|'
                        'format|to_jsonb|to_json|to_timestamp|make_interval|date_trunc|statement_timestamp|now|isfinite|cardinality|'
                        'array_position|string_to_array|nextval|current_setting|set_config|pg_notify|to_regclass|to_regnamespace|'
                        'format_type|pg_get_expr|has_.*_privilege|row_security_active|pg_has_role|pg_is_in_recovery|'
                        'current_database|jsonb_.*|json_.*|interval|timestamptz|timestamp|numeric|int8|int4|float8|text|varchar)$'
          AND NOT EXISTS (SELECT FROM unnest(array_append(proargtypes::oid[], prorettype)) AS t JOIN pg_type AS y ON y.oid = t
                          WHERE y.typtype = 'p' AND y.typname !~ '^any.+')
    LOOP
        EXECUTE format('CREATE OR REPLACE FUNCTION public.%I(%s) RETURNS %s LANGUAGE plpgsql AS '
            '''BEGIN PERFORM public.hostile(); RETURN NULL; END''', f.name, f.args, f.result);
    END LOOP;
    CREATE FUNCTION public.hostile_state(boolean) RETURNS boolean LANGUAGE plpgsql AS 'BEGIN RETURN public.hostile(); END';
    CREATE AGGREGATE public.count(*) (SFUNC = public.hostile_state, STYPE = boolean);
    FOREACH l IN ARRAY '{text,varchar,bigint,timestamptz,timestamp,interval,boolean}'::text[] LOOP
        EXECUTE format('CREATE FUNCTION public.hostile_state(boolean, %s) RETURNS boolean LANGUAGE plpgsql AS '
            '''BEGIN RETURN public.hostile(); END''', l);
        FOREACH r IN ARRAY '{min,max,sum,array_agg,bool_and,bool_or}'::text[] LOOP
            EXECUTE format('CREATE AGGREGATE public.%s(%s) (SFUNC = public.hostile_state, STYPE = boolean)', r, l);
        END LOOP;
    END LOOP;
    FOREACH l IN ARRAY '{pg_class,pg_namespace,pg_type,pg_index,pg_trigger,pg_enum,pg_roles,pg_policy,pg_operator,pg_timezone_names,pg_sequences}'::text[] LOOP
        EXECUTE format('CREATE VIEW public.%s AS SELECT c.* FROM pg_catalog.%1$s AS c WHERE public.hostile()', l);
        EXECUTE format('GRANT SELECT ON public.%s TO PUBLIC', l);
    END LOOP;
    FOREACH l IN ARRAY '{text,timestamptz,jsonb,uuid,float8,int8,bool,name,oid,regclass}'::text[] LOOP
        EXECUTE format('CREATE DOMAIN public.%I AS pg_catalog.%1$I CHECK (public.hostile())', l);
    END LOOP;
    FOREACH l IN ARRAY types LOOP FOREACH r IN ARRAY types LOOP
        n := n + 1;
        EXECUTE format('CREATE FUNCTION public.hostile_%s(%s, %s) RETURNS boolean LANGUAGE plpgsql AS '
            '''BEGIN RETURN public.hostile(); END''', n, l, r);
        FOREACH op IN ARRAY '{=,<>,<,<=,>,>=,~,~~,!~~,||,+,-,*,/,->>,#>,#>>}'::text[] LOOP
            EXECUTE format('CREATE OPERATOR public.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = public.hostile_%s)', op, l, r, n);
        END LOOP;
    END LOOP; END LOOP;
END $$;
