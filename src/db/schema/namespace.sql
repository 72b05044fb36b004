-- Reports whether the schema jobexec exists, whether this login may use it, and whether it may create the schema or what is in it.
SELECT namespace.oid IS NOT NULL AS there,
       COALESCE(has_schema_privilege(namespace.oid, 'USAGE'), false) AS usable,
       CASE WHEN namespace.oid IS NULL THEN has_database_privilege(current_database(), 'CREATE')
            ELSE pg_has_role(namespace.nspowner, 'USAGE') END AS may_create
FROM (SELECT) AS one
LEFT JOIN pg_namespace AS namespace ON namespace.nspname = 'jobexec'
