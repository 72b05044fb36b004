-- Gives what this login created to the owner of the schema, if that is another role of which the login is a member. Otherwise each
-- member of such a role would own objects that the other members then distrust.
DO $jobexec$
DECLARE
    heir name := (SELECT pg_get_userbyid(nspowner) FROM pg_namespace WHERE nspname = 'jobexec');
    made text;
BEGIN
    IF heir = CURRENT_USER
        OR NOT pg_has_role(
            heir, CASE WHEN current_setting('server_version_num')::int >= 160000 THEN 'SET' ELSE 'MEMBER' END)
        OR NOT has_schema_privilege(heir, 'jobexec', 'CREATE')
    THEN
        RETURN;
    END IF;
    FOR made IN
        SELECT format('%s %s', CASE relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END, oid::regclass)
        FROM pg_class
        WHERE relnamespace = 'jobexec'::regnamespace
          AND pg_get_userbyid(relowner) = CURRENT_USER
          AND ((relkind = 'r' AND relname = ANY ({tables}))
               OR (relkind = 'S' AND relname ~ '^{sequences}[0-9]+$'))
        UNION ALL
        SELECT format('FUNCTION %s', oid::regprocedure)
        FROM pg_proc
        WHERE pronamespace = 'jobexec'::regnamespace
          AND pg_get_userbyid(proowner) = CURRENT_USER
          AND pronargs = 0
          AND proname IN ('count_refusal', 'refuse_transition', 'notify')
    LOOP
        EXECUTE format('ALTER %s OWNER TO %I', made, heir);
    END LOOP;
END
$jobexec$;
