-- Reads the columns of a relation with their types, the privileges of the login, and the indexes that serve them. $1: oid of the
-- relation, $2: the column of starts, $3: literals of the statuses of running executions, which a partial index contains, $4: the
-- column of statuses.
SELECT attribute.attname::text AS name,
       format_type(attribute.atttypid, NULL) AS type_,
       type.typcategory::text AS category,
       type.typtype::text AS kind,
       type.typtype = 'e' OR EXISTS (
           SELECT
           FROM pg_operator AS operator
           CROSS JOIN LATERAL (SELECT COALESCE(NULLIF(type.typbasetype, '0'), type.oid) AS oid) AS base
           WHERE operator.oprname = '='
             AND operator.oprnamespace = 'pg_catalog'::regnamespace
             AND operator.oprleft = base.oid
             AND operator.oprright = base.oid
       ) AS comparable,
       has_column_privilege(attribute.attrelid, attribute.attnum, 'SELECT') AS select,
       has_column_privilege(attribute.attrelid, attribute.attnum, 'UPDATE') AS update,
       EXISTS (
           SELECT
           FROM pg_index AS index
           WHERE index.indrelid = attribute.attrelid
             AND index.indisunique
             AND index.indisvalid
             AND index.indpred IS NULL
             AND index.indnkeyatts = 1
             AND index.indkey[0] = attribute.attnum
       ) AS unique,
       EXISTS (
           SELECT
           FROM pg_index AS index
           JOIN pg_attribute AS second ON second.attrelid = index.indrelid AND second.attnum = index.indkey[1]
           WHERE index.indrelid = attribute.attrelid
             AND index.indisvalid
             AND index.indkey[0] = attribute.attnum
             AND second.attname = $2
             AND (
                 -- Postgres prints numbers and booleans without quotes.
                 SELECT bool_and(
                     strpos(predicate, literal) > 0
                     OR (
                         bare ~ '^([0-9]+|true|false)$'
                         AND predicate ~ ('[[:<:]]' || bare || '[[:>:]]')
                         AND strpos(predicate, quote_ident($4)) > 0
                     )
                 )
                 FROM unnest($3::text[]) AS literal
                 CROSS JOIN LATERAL (SELECT btrim(literal, '''') AS bare) AS bared
                 CROSS JOIN LATERAL (SELECT pg_get_expr(index.indpred, index.indrelid) AS predicate) AS printed
             )
       ) AS indexed,
       EXISTS (
           SELECT
           FROM pg_index AS index
           WHERE index.indrelid = attribute.attrelid
             AND index.indisvalid
             AND index.indpred IS NULL
             AND index.indkey[0] = attribute.attnum
       ) AS leads,
       EXISTS (
           SELECT
           FROM (
               SELECT attribute.attrelid::regclass AS relid
               UNION
               SELECT relid FROM pg_partition_tree(attribute.attrelid::regclass)
           ) AS part
           JOIN pg_attribute AS own ON own.attrelid = part.relid AND own.attname = attribute.attname
           JOIN pg_index AS index ON index.indrelid = part.relid AND own.attnum = ANY (index.indkey)
           WHERE index.indisunique
             AND index.indpred IS NULL
             AND index.indexprs IS NULL
       ) AS keyed,
       CASE WHEN type.typname IN ('varchar', 'bpchar') AND attribute.atttypmod > 4 THEN attribute.atttypmod - 4 END AS limit,
       attribute.attnotnull AS required,
       has_column_privilege(attribute.attrelid, attribute.attnum, 'INSERT') AS insert,
       attribute.atthasdef OR attribute.attidentity <> '' OR attribute.attgenerated <> '' AS has_default,
       attribute.attgenerated <> '' OR attribute.attidentity = 'a' AS generated
FROM pg_attribute AS attribute
JOIN pg_type AS type ON type.oid = attribute.atttypid
WHERE attribute.attrelid = $1
  AND attribute.attnum > 0
  AND NOT attribute.attisdropped
