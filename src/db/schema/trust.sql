-- What in the schema jobexec is somebody else's, or can run somebody else's SQL with the rights of whoever writes to it:
-- one row each, with the statement that mends it. It reads the catalog alone. {named} is the owner that the spec names, or
-- NULL. `jobexec schema` runs it as a part of its script, so it has no parameters.
WITH RECURSIVE
home AS (SELECT oid, nspowner, nspacl FROM pg_catalog.pg_namespace WHERE nspname = 'jobexec'),
-- The login and the roles that it is a member of. pg_has_role would name every role for a superuser.
own AS (
    SELECT oid FROM pg_catalog.pg_roles WHERE rolname = CURRENT_USER
    UNION
    SELECT m.roleid FROM pg_catalog.pg_auth_members AS m JOIN own ON m.member = own.oid),
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
    WHERE c.relname = ANY ('{_sqlx_migrations,stores,rules,figures,suspects,sweeps,events,samples,outbox,messages}')),
-- Everything that was made in the schema, and its owner: what the bootstrap superuser owns is not written down.
objects AS (
    SELECT i.type, i.identity, d.classid, d.objid, COALESCE(s.refobjid, 10::oid) AS owner
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
    FROM pg_catalog.pg_policy AS p JOIN tables AS t ON p.polrelid = t.oid),
policies AS (
    SELECT t.name AS table_name, p.polname::text AS name,
           p.polcmd = '*' AND p.polpermissive AND p.polroles = '{0}' AND p.polwithcheck IS NULL
           -- How a Postgres lays it out is its own matter.
           AND pg_catalog.translate(pg_catalog.pg_get_expr(p.polqual, p.polrelid), E'() \n\t', '') = CASE t.name
               WHEN 'stores' THEN 'registry=tableoidANDhas_any_column_privilegetable_oid,''UPDATE''::text'
               ELSE 'store_idINSELECTstores.store_idFROMjobexec.stores' END AS ours
    FROM pg_catalog.pg_policy AS p JOIN tables AS t ON p.polrelid = t.oid)
-- `place` 1: the owner of the schema itself; `mended`: whether `jobexec schema --apply` mends it.
SELECT place, problem, remedy, mended FROM (
    SELECT 1 AS place, pg_catalog.format('the schema is owned by %I', pg_catalog.pg_get_userbyid(home.nspowner)) AS problem,
           pg_catalog.format('ALTER SCHEMA jobexec OWNER TO %s', heir.name) AS remedy, false AS mended
    FROM home, heir WHERE home.nspowner NOT IN (SELECT oid FROM trusted)
    UNION ALL
    SELECT 2, pg_catalog.format('%s %s is owned by %I', o.type, o.identity, pg_catalog.pg_get_userbyid(o.owner)),
           CASE WHEN o.type IN ('table', 'sequence')
                THEN pg_catalog.format('ALTER %s %s OWNER TO %s', pg_catalog.upper(o.type), o.identity, heir.name)
                -- Code of theirs is not to become somebody's who has more rights.
                ELSE pg_catalog.format('DROP %s IF EXISTS %s CASCADE', pg_catalog.upper(o.type), o.identity) END, false
    FROM objects AS o, heir
    -- Default privileges of somebody's are about what he creates there, which is found itself.
    WHERE o.owner NOT IN (SELECT oid FROM trusted) AND o.type <> 'default acl'
    UNION ALL
    SELECT 3, pg_catalog.format('jobexec.%I is no ordinary table', t.name), 'DROP SCHEMA jobexec CASCADE', false
    FROM tables AS t WHERE t.kind <> 'r'
    UNION ALL
    SELECT 4, pg_catalog.format('%s may create objects in the schema',
                                CASE a.grantee WHEN 0 THEN 'everybody' ELSE pg_catalog.pg_get_userbyid(a.grantee) END),
           pg_catalog.format('REVOKE CREATE ON SCHEMA jobexec FROM %s CASCADE', CASE a.grantee WHEN 0 THEN 'PUBLIC'
                             ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END), false
    FROM home, LATERAL pg_catalog.aclexplode(home.nspacl) AS a
    WHERE a.privilege_type = 'CREATE' AND a.grantee NOT IN (SELECT oid FROM trusted) AND a.grantee <> home.nspowner
    UNION ALL
    SELECT 5, pg_catalog.format('%s has %s on jobexec.%I',
                                CASE a.grantee WHEN 0 THEN 'everybody' ELSE pg_catalog.pg_get_userbyid(a.grantee) END,
                                pg_catalog.string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type), t.name),
           pg_catalog.format('REVOKE %s ON jobexec.%I FROM %s CASCADE',
                             pg_catalog.string_agg(a.privilege_type, ', ' ORDER BY a.privilege_type), t.name, CASE a.grantee WHEN 0
                             THEN 'PUBLIC' ELSE pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(a.grantee)) END), false
    FROM tables AS t, LATERAL pg_catalog.aclexplode(t.relacl) AS a
    WHERE a.privilege_type IN ('TRIGGER', 'REFERENCES', 'TRUNCATE')
      AND a.grantee NOT IN (SELECT oid FROM trusted) AND a.grantee <> t.relowner
    GROUP BY a.grantee, t.name
    UNION ALL
    SELECT 6, pg_catalog.format('trigger %I on jobexec.%I', g.tgname, t.name),
           pg_catalog.format('DROP TRIGGER IF EXISTS %I ON jobexec.%I', g.tgname, t.name), false
    FROM pg_catalog.pg_trigger AS g JOIN tables AS t ON g.tgrelid = t.oid WHERE NOT g.tgisinternal
    UNION ALL
    SELECT 7, pg_catalog.format('rule %I on jobexec.%I', r.rulename, t.name),
           pg_catalog.format('DROP RULE IF EXISTS %I ON jobexec.%I', r.rulename, t.name), false
    FROM pg_catalog.pg_rewrite AS r JOIN tables AS t ON r.ev_class = t.oid WHERE t.kind = 'r'
    UNION ALL
    SELECT 8, pg_catalog.format('default of jobexec.%I.%I', t.name, a.attname),
           pg_catalog.format('ALTER TABLE jobexec.%I ALTER COLUMN %I DROP %s', t.name, a.attname,
                             CASE a.attgenerated WHEN '' THEN 'DEFAULT' ELSE 'EXPRESSION' END), false
    FROM pg_catalog.pg_attrdef AS d JOIN tables AS t ON d.adrelid = t.oid
    JOIN pg_catalog.pg_attribute AS a ON a.attrelid = d.adrelid AND a.attnum = d.adnum
    UNION ALL
    SELECT 9, pg_catalog.format('policy %I on jobexec.%I', p.name, p.table_name),
           pg_catalog.format('DROP POLICY IF EXISTS %I ON jobexec.%I', p.name, p.table_name), false
    FROM policies AS p WHERE p.ours IS NOT TRUE
    UNION ALL
    SELECT 10, pg_catalog.format('jobexec.%I is without its row security', t.name),
           pg_catalog.format('ALTER TABLE jobexec.%I ENABLE ROW LEVEL SECURITY', t.name), true
    FROM tables AS t
    WHERE t.secured AND t.kind = 'r'
      AND NOT (t.relrowsecurity AND EXISTS (SELECT FROM policies AS p WHERE p.table_name = t.name AND p.ours))
    UNION ALL
    -- What Postgres itself brings is not written down.
    SELECT DISTINCT 11, pg_catalog.format('%s of jobexec.%I uses %s', i.identity, p.name, u.identity),
           CASE i.type WHEN 'index' THEN pg_catalog.format('DROP INDEX IF EXISTS %s', i.identity)
                       WHEN 'table constraint' THEN pg_catalog.format('ALTER TABLE jobexec.%I DROP CONSTRAINT IF EXISTS %I', p.name,
                           (SELECT conname FROM pg_catalog.pg_constraint WHERE oid = p.objid))
                       ELSE 'DROP SCHEMA jobexec CASCADE' END, false
    FROM parts AS p JOIN pg_catalog.pg_depend AS d ON d.classid = p.classid AND d.objid = p.objid
    CROSS JOIN LATERAL pg_catalog.pg_identify_object(p.classid, p.objid, 0) AS i
    CROSS JOIN LATERAL pg_catalog.pg_identify_object(d.refclassid, d.refobjid, 0) AS u
    WHERE d.refclassid NOT IN ('pg_catalog.pg_class'::pg_catalog.regclass, 'pg_catalog.pg_constraint'::pg_catalog.regclass,
                               'pg_catalog.pg_namespace'::pg_catalog.regclass)
    UNION ALL
    SELECT 12, pg_catalog.format('%s inherits with jobexec.%I', other.oid::pg_catalog.regclass, t.name),
           pg_catalog.format('ALTER TABLE IF EXISTS %s NO INHERIT %s', h.inhrelid::pg_catalog.regclass, h.inhparent::pg_catalog.regclass),
           false
    FROM pg_catalog.pg_inherits AS h JOIN tables AS t ON t.oid IN (h.inhparent, h.inhrelid)
    JOIN pg_catalog.pg_class AS other ON other.oid IN (h.inhparent, h.inhrelid) AND other.oid <> t.oid
    UNION ALL
    SELECT 13, pg_catalog.format('foreign key %I of %s to jobexec.%I', c.conname, c.conrelid::pg_catalog.regclass, t.name),
           pg_catalog.format('ALTER TABLE IF EXISTS %s DROP CONSTRAINT IF EXISTS %I', c.conrelid::pg_catalog.regclass, c.conname), false
    FROM pg_catalog.pg_constraint AS c JOIN tables AS t ON c.confrelid = t.oid
    WHERE c.conrelid NOT IN (SELECT oid FROM tables)
) AS found ORDER BY place, problem
