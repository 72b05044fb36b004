-- What in the schema jobexec is somebody else's, or can run somebody else's SQL with the rights of whoever writes to it:
-- one row each, with the statement that mends it. It reads the catalog alone. `named` is the owner that the spec names, or
-- NULL; `tables` are those of the operator. `jobexec schema` runs it as a part of its script, so it has no parameters.
-- Whoever owns the schema chooses how much is in it and how long names are, so each place, the rows and their texts are bounded.
WITH RECURSIVE
home AS (SELECT oid, nspowner, nspacl FROM pg_catalog.pg_namespace WHERE nspname = 'jobexec'),
-- The login and the roles that it is a member of. pg_has_role would name every role for a superuser.
own AS (
    SELECT oid FROM pg_catalog.pg_roles WHERE rolname = CURRENT_USER
    UNION
    -- From Postgres 16 on whoever creates a role is a member of it that may administer it and not act as it.
    SELECT m.roleid FROM pg_catalog.pg_auth_members AS m JOIN own ON m.member = own.oid
    WHERE COALESCE((pg_catalog.to_jsonb(m) ->> 'set_option')::pg_catalog.bool, true)),
place AS (SELECT datdba FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database()),
trusted AS (
    SELECT r.oid FROM pg_catalog.pg_roles AS r
    WHERE r.rolsuper OR r.rolname = 'pg_database_owner' OR r.rolname = {named}
       OR r.oid = (SELECT datdba FROM place) OR r.oid IN (SELECT oid FROM own)),
-- Who may own what nobody need distrust.
heir AS (SELECT pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(datdba)) AS name FROM place),
tables AS (
    SELECT c.oid, c.relname::text AS name, c.relkind::text AS kind, c.relowner, c.relacl, c.relrowsecurity,
           c.relname <> '_sqlx_migrations' AS secured
    FROM pg_catalog.pg_class AS c JOIN home ON c.relnamespace = home.oid
    WHERE c.relname = ANY ({tables})),
-- Everything that was made in the schema, and its owner. pg_shdepend does not know what belongs to the roles that Postgres
-- itself brings, of which the bootstrap superuser is only one.
objects AS (
    SELECT i.type, i.identity, d.classid, d.objid, COALESCE(CASE d.classid
               WHEN 'pg_catalog.pg_class'::pg_catalog.regclass THEN (SELECT relowner FROM pg_catalog.pg_class WHERE oid = d.objid)
               WHEN 'pg_catalog.pg_proc'::pg_catalog.regclass THEN (SELECT proowner FROM pg_catalog.pg_proc WHERE oid = d.objid)
               WHEN 'pg_catalog.pg_type'::pg_catalog.regclass THEN (SELECT typowner FROM pg_catalog.pg_type WHERE oid = d.objid)
               WHEN 'pg_catalog.pg_operator'::pg_catalog.regclass THEN (SELECT oprowner FROM pg_catalog.pg_operator WHERE oid = d.objid)
               WHEN 'pg_catalog.pg_opclass'::pg_catalog.regclass THEN (SELECT opcowner FROM pg_catalog.pg_opclass WHERE oid = d.objid)
               WHEN 'pg_catalog.pg_opfamily'::pg_catalog.regclass THEN (SELECT opfowner FROM pg_catalog.pg_opfamily WHERE oid = d.objid)
               WHEN 'pg_catalog.pg_collation'::pg_catalog.regclass THEN (SELECT collowner FROM pg_catalog.pg_collation WHERE oid = d.objid)
               WHEN 'pg_catalog.pg_conversion'::pg_catalog.regclass THEN (SELECT conowner FROM pg_catalog.pg_conversion WHERE oid = d.objid)
               WHEN 'pg_catalog.pg_statistic_ext'::pg_catalog.regclass THEN (SELECT stxowner FROM pg_catalog.pg_statistic_ext WHERE oid = d.objid)
               WHEN 'pg_catalog.pg_ts_config'::pg_catalog.regclass THEN (SELECT cfgowner FROM pg_catalog.pg_ts_config WHERE oid = d.objid)
               WHEN 'pg_catalog.pg_ts_dict'::pg_catalog.regclass THEN (SELECT dictowner FROM pg_catalog.pg_ts_dict WHERE oid = d.objid)
               WHEN 'pg_catalog.pg_extension'::pg_catalog.regclass THEN (SELECT extowner FROM pg_catalog.pg_extension WHERE oid = d.objid)
           END, s.refobjid, 10::oid) AS owner
    FROM pg_catalog.pg_depend AS d JOIN home ON d.refobjid = home.oid
    LEFT JOIN pg_catalog.pg_shdepend AS s ON s.classid = d.classid AND s.objid = d.objid AND s.deptype = 'o'
         AND s.dbid = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
    CROSS JOIN LATERAL pg_catalog.pg_identify_object(d.classid, d.objid, 0) AS i
    WHERE d.refclassid = 'pg_catalog.pg_namespace'::pg_catalog.regclass AND d.objsubid = 0
      -- Sequences of columns are their table's.
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend AS c
                      WHERE c.classid = d.classid AND c.objid = d.objid AND c.deptype = 'i')),
-- What belongs to the tables and may have code in it.
parts AS (
    SELECT 'pg_catalog.pg_class'::pg_catalog.regclass AS classid, oid AS objid, name FROM tables
    UNION ALL
    SELECT 'pg_catalog.pg_class'::pg_catalog.regclass, i.indexrelid, t.name
    FROM pg_catalog.pg_index AS i JOIN tables AS t ON i.indrelid = t.oid
    UNION ALL
    SELECT 'pg_catalog.pg_constraint'::pg_catalog.regclass, c.oid, t.name
    FROM pg_catalog.pg_constraint AS c JOIN tables AS t ON c.conrelid = t.oid
    UNION ALL
    SELECT 'pg_catalog.pg_policy'::pg_catalog.regclass, p.oid, t.name
    FROM pg_catalog.pg_policy AS p JOIN tables AS t ON p.polrelid = t.oid
    UNION ALL
    -- ANALYZE computes their expressions as the owner of the table.
    SELECT 'pg_catalog.pg_statistic_ext'::pg_catalog.regclass, s.oid, t.name
    FROM pg_catalog.pg_statistic_ext AS s JOIN tables AS t ON s.stxrelid = t.oid),
-- Numbers of rows come from these, for which nobody needs a right.
sequences AS (
    SELECT c.oid::pg_catalog.regclass AS name, c.relacl, c.relowner
    FROM pg_catalog.pg_depend AS d JOIN tables AS t ON d.refobjid = t.oid JOIN pg_catalog.pg_class AS c ON c.oid = d.objid
    WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
      AND d.deptype = 'i' AND c.relkind = 'S'),
-- What row security asks of a record; how a Postgres lays it out is its own matter.
by_table AS (
    SELECT 'CASEWHENhas_schema_privilegeto_regnamespacequote_identtable_schema::oid,''USAGE''::textTHENto_regclassformat''%I.%I''::text,'
           'table_schema,table_name::oidELSENULL::oidEND' AS by_name,
           'has_any_column_privilegetable_oid,''UPDATE''::text' AS by_oid),
asked AS (
    SELECT pg_catalog.concat('COALESCECASEWHENregistry=tableoidTHEN', by_oid, 'ELSENULL::booleanEND,has_any_column_privilege', by_name,
                             ',''UPDATE''::text') AS of_table,
           pg_catalog.concat('registry<>tableoidOR', by_oid, 'ISNOTNULLOREXISTSSELECTFROMpg_classWHEREoid=', by_name,
                             'ANDpg_get_userbyidrelowner=table_owner') AS of_owner,
           pg_catalog.concat('registry=tableoidAND', by_oid, 'ANDtable_oid=', by_name, 'ANDEXISTSSELECTFROMpg_classWHEREoid=table_oid',
                             'ANDpg_get_userbyidrelowner=table_owner') AS to_table,
           pg_catalog.concat('store_idINSELECTstore_idFROMjobexec.storesWHEREregistry=tableoidAND', by_oid) AS to_store,
           'store_idINSELECTstore_idFROMjobexec.stores' AS of_store
    FROM by_table),
policies AS (
    SELECT p.table_name, p.name, p.command,
           permissive AND CASE p.command
               WHEN 'r' THEN p.old_rows = CASE p.table_name WHEN 'stores' THEN of_table ELSE of_store END AND p.new_rows = ''
               WHEN 'a' THEN p.old_rows = '' AND p.new_rows = CASE p.table_name WHEN 'stores' THEN to_table ELSE to_store END
               WHEN 'w' THEN p.old_rows = changed AND p.new_rows = CASE p.table_name WHEN 'stores' THEN to_table ELSE to_store END
               WHEN 'd' THEN p.old_rows = changed AND p.new_rows = '' END AS ours
    FROM (SELECT t.name AS table_name, p.polname::text AS name, p.polcmd::text AS command,
                 p.polpermissive AND p.polroles = '{{0}}' AS permissive, plain.old_rows, plain.new_rows
          FROM pg_catalog.pg_policy AS p JOIN tables AS t ON p.polrelid = t.oid
          CROSS JOIN LATERAL (
              SELECT pg_catalog.regexp_replace(pg_catalog.translate(COALESCE(pg_catalog.pg_get_expr(p.polqual, p.polrelid), ''),
                         E'() \n\t', ''), '(?:stores|pg_class)\.', '', 'g') AS old_rows,
                     pg_catalog.regexp_replace(pg_catalog.translate(COALESCE(pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid), ''),
                         E'() \n\t', ''), '(?:stores|pg_class)\.', '', 'g') AS new_rows) AS plain
          LIMIT 1000) AS p
    CROSS JOIN asked
    CROSS JOIN LATERAL (
        SELECT CASE p.table_name WHEN 'stores' THEN pg_catalog.concat(of_owner, 'AND', of_table)
                                 ELSE pg_catalog.concat(of_store, 'WHERE', of_owner) END AS changed) AS c)
-- `place` 1: the owner of the schema itself; `mended`: whether `jobexec schema --apply` mends it. The statements are run from the
-- last place to the first: until nothing of others' is left nobody becomes the owner of what would run it.
SELECT place, pg_catalog.left(problem, 400) AS problem,
       CASE WHEN pg_catalog.length(remedy) <= 1000 THEN remedy ELSE 'DROP SCHEMA jobexec CASCADE' END AS remedy, mended
FROM (
    (SELECT 1 AS place, pg_catalog.format('the schema is owned by %I', pg_catalog.pg_get_userbyid(home.nspowner)) AS problem,
           pg_catalog.format('ALTER SCHEMA jobexec OWNER TO %s', heir.name) AS remedy, false AS mended
    FROM home, heir WHERE home.nspowner NOT IN (SELECT oid FROM trusted) LIMIT 100)
    UNION ALL
    (SELECT CASE WHEN o.type IN ('table', 'sequence') THEN 2 ELSE 17 END,
           pg_catalog.format('%s %s is owned by %I', o.type, o.identity, pg_catalog.pg_get_userbyid(o.owner)),
           CASE WHEN o.type IN ('table', 'sequence')
                THEN pg_catalog.format('ALTER %s %s OWNER TO %s', pg_catalog.upper(o.type), o.identity, heir.name)
                -- Code of theirs is not to become somebody's who has more rights.
                ELSE pg_catalog.format('DROP %s IF EXISTS %s CASCADE', CASE o.type WHEN 'statistics object' THEN 'STATISTICS'
                                        WHEN 'composite type' THEN 'TYPE' ELSE pg_catalog.upper(o.type) END, o.identity) END, false
    FROM objects AS o, heir
    -- Default privileges of somebody's are about what he creates there, which is found itself.
    WHERE o.owner NOT IN (SELECT oid FROM trusted) AND o.type <> 'default acl' LIMIT 100)
    UNION ALL
    (SELECT 3, pg_catalog.format('jobexec.%I is no ordinary table', t.name), 'DROP SCHEMA jobexec CASCADE', false
    FROM tables AS t WHERE t.kind <> 'r' LIMIT 100)
    UNION ALL
    (SELECT 4, pg_catalog.format('%s may create objects in the schema',
                                CASE a.grantee WHEN 0 THEN 'everybody' ELSE pg_catalog.pg_get_userbyid(a.grantee) END),
           pg_catalog.format('REVOKE CREATE ON SCHEMA jobexec FROM %s CASCADE', CASE a.grantee WHEN 0 THEN 'PUBLIC'
                             ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END), false
    FROM home, LATERAL pg_catalog.aclexplode(home.nspacl) AS a
    WHERE a.privilege_type = 'CREATE' AND a.grantee NOT IN (SELECT oid FROM trusted) AND a.grantee <> home.nspowner LIMIT 100)
    UNION ALL
    (SELECT 5, pg_catalog.format('%s has %s on jobexec.%I',
                                CASE a.grantee WHEN 0 THEN 'everybody' ELSE pg_catalog.pg_get_userbyid(a.grantee) END,
                                pg_catalog.string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type), t.name),
           pg_catalog.format('REVOKE %s ON jobexec.%I FROM %s CASCADE',
                             pg_catalog.string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type), t.name, CASE a.grantee WHEN 0
                             THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END), false
    FROM tables AS t, LATERAL pg_catalog.aclexplode(t.relacl) AS a
    WHERE a.privilege_type IN ('TRIGGER', 'REFERENCES', 'TRUNCATE')
      AND a.grantee NOT IN (SELECT oid FROM trusted) AND a.grantee <> t.relowner
    GROUP BY a.grantee, t.name LIMIT 100)
    UNION ALL
    (SELECT 6, pg_catalog.format('trigger %I on jobexec.%I', g.tgname, t.name),
           pg_catalog.format('DROP TRIGGER IF EXISTS %I ON jobexec.%I', g.tgname, t.name), false
    FROM pg_catalog.pg_trigger AS g JOIN tables AS t ON g.tgrelid = t.oid WHERE NOT g.tgisinternal LIMIT 100)
    UNION ALL
    (SELECT 7, pg_catalog.format('rule %I on jobexec.%I', r.rulename, t.name),
           pg_catalog.format('DROP RULE IF EXISTS %I ON jobexec.%I', r.rulename, t.name), false
    FROM pg_catalog.pg_rewrite AS r JOIN tables AS t ON r.ev_class = t.oid WHERE t.kind = 'r' LIMIT 100)
    UNION ALL
    (SELECT 8, pg_catalog.format('default of jobexec.%I.%I', t.name, a.attname),
           pg_catalog.format('ALTER TABLE jobexec.%I ALTER COLUMN %I DROP %s', t.name, a.attname,
                             CASE a.attgenerated WHEN '' THEN 'DEFAULT' ELSE 'EXPRESSION' END), false
    FROM pg_catalog.pg_attrdef AS d JOIN tables AS t ON d.adrelid = t.oid
    JOIN pg_catalog.pg_attribute AS a ON a.attrelid = d.adrelid AND a.attnum = d.adnum LIMIT 100)
    UNION ALL
    (SELECT 9, pg_catalog.format('policy %I on jobexec.%I', p.name, p.table_name),
           pg_catalog.format('DROP POLICY IF EXISTS %I ON jobexec.%I', p.name, p.table_name), false
    FROM policies AS p WHERE p.ours IS NOT TRUE LIMIT 100)
    UNION ALL
    (SELECT 10, pg_catalog.format('jobexec.%I is without its row security', t.name),
           pg_catalog.format('ALTER TABLE jobexec.%I ENABLE ROW LEVEL SECURITY', t.name), true
    FROM tables AS t
    WHERE t.secured AND t.kind = 'r'
      AND NOT (t.relrowsecurity
               AND 4 = (SELECT pg_catalog.count(DISTINCT p.command) FROM policies AS p WHERE p.table_name = t.name AND p.ours))
    LIMIT 100)
    UNION ALL
    -- What Postgres itself brings is not written down.
    SELECT DISTINCT 11, pg_catalog.format('%s of jobexec.%I uses %s', i.identity, p.name, u.identity),
           CASE i.type WHEN 'index' THEN pg_catalog.format('DROP INDEX IF EXISTS %s', i.identity)
                       WHEN 'table constraint' THEN pg_catalog.format('ALTER TABLE jobexec.%I DROP CONSTRAINT IF EXISTS %I', p.name,
                           (SELECT conname FROM pg_catalog.pg_constraint WHERE oid = p.objid))
                       WHEN 'statistics object' THEN pg_catalog.format('DROP STATISTICS IF EXISTS %s', i.identity)
                       ELSE 'DROP SCHEMA jobexec CASCADE' END, false
    FROM (SELECT p.*, d.refclassid, d.refobjid
          FROM parts AS p JOIN pg_catalog.pg_depend AS d ON d.classid = p.classid AND d.objid = p.objid
          WHERE d.refclassid NOT IN ('pg_catalog.pg_class'::pg_catalog.regclass, 'pg_catalog.pg_constraint'::pg_catalog.regclass,
                                     'pg_catalog.pg_namespace'::pg_catalog.regclass) LIMIT 100) AS p
    CROSS JOIN LATERAL pg_catalog.pg_identify_object(p.classid, p.objid, 0) AS i
    CROSS JOIN LATERAL pg_catalog.pg_identify_object(p.refclassid, p.refobjid, 0) AS u
    UNION ALL
    (SELECT 12, pg_catalog.format('%s inherits with jobexec.%I', other.oid::pg_catalog.regclass, t.name),
           pg_catalog.format('ALTER TABLE IF EXISTS %s NO INHERIT %s', h.inhrelid::pg_catalog.regclass, h.inhparent::pg_catalog.regclass),
           false
    FROM pg_catalog.pg_inherits AS h JOIN tables AS t ON t.oid IN (h.inhparent, h.inhrelid)
    JOIN pg_catalog.pg_class AS other ON other.oid IN (h.inhparent, h.inhrelid) AND other.oid <> t.oid LIMIT 100)
    UNION ALL
    (SELECT 13, pg_catalog.format('foreign key %I of %s to jobexec.%I', c.conname, c.conrelid::pg_catalog.regclass, t.name),
           pg_catalog.format('ALTER TABLE IF EXISTS %s DROP CONSTRAINT IF EXISTS %I', c.conrelid::pg_catalog.regclass, c.conname), false
    FROM pg_catalog.pg_constraint AS c JOIN tables AS t ON c.confrelid = t.oid
    WHERE c.conrelid NOT IN (SELECT oid FROM tables) LIMIT 100)
    UNION ALL
    (SELECT 14, pg_catalog.format('foreign key %I of jobexec.%I to %s', c.conname, t.name, c.confrelid::pg_catalog.regclass),
           pg_catalog.format('ALTER TABLE IF EXISTS jobexec.%I DROP CONSTRAINT IF EXISTS %I', t.name, c.conname), false
    FROM pg_catalog.pg_constraint AS c JOIN tables AS t ON c.conrelid = t.oid
    WHERE c.contype = 'f' AND c.confrelid NOT IN (SELECT oid FROM tables) LIMIT 100)
    UNION ALL
    (SELECT 15, pg_catalog.format('%s has %s on %s', CASE a.grantee WHEN 0 THEN 'everybody' ELSE pg_catalog.pg_get_userbyid(a.grantee) END,
                                 pg_catalog.string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type), s.name),
           pg_catalog.format('REVOKE ALL ON SEQUENCE %s FROM %s CASCADE', s.name, CASE a.grantee WHEN 0
                             THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END), true
    FROM sequences AS s, LATERAL pg_catalog.aclexplode(s.relacl) AS a
    WHERE a.privilege_type IN ('UPDATE', 'USAGE') AND a.grantee NOT IN (SELECT oid FROM trusted) AND a.grantee <> s.relowner
    GROUP BY a.grantee, s.name LIMIT 100)
    UNION ALL
    (SELECT 16, pg_catalog.format('%s has REFERENCES on jobexec.%I.%I',
                                 CASE a.grantee WHEN 0 THEN 'everybody' ELSE pg_catalog.pg_get_userbyid(a.grantee) END, t.name, c.attname),
           pg_catalog.format('REVOKE REFERENCES (%I) ON jobexec.%I FROM %s CASCADE', c.attname, t.name, CASE a.grantee WHEN 0
                             THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END), false
    FROM tables AS t JOIN pg_catalog.pg_attribute AS c ON c.attrelid = t.oid, LATERAL pg_catalog.aclexplode(c.attacl) AS a
    WHERE a.privilege_type = 'REFERENCES' AND NOT c.attisdropped
      AND a.grantee NOT IN (SELECT oid FROM trusted) AND a.grantee <> t.relowner LIMIT 100)
) AS found ORDER BY place, problem LIMIT 500
