-- Stops a script where the schema cannot be trusted.
DECLARE
    untrusted text;
    statements text;
    is_foreign boolean;
    found bigint;
BEGIN
    SELECT pg_catalog.string_agg(problem, '; ' ORDER BY n) FILTER (WHERE n <= {named}),
           pg_catalog.string_agg(remedy, '; ' ORDER BY n DESC),
           COALESCE(pg_catalog.bool_or(place = 1), false),
           pg_catalog.count(*)
    INTO untrusted, statements, is_foreign, found
    FROM (
        SELECT finding.*, pg_catalog.row_number() OVER (ORDER BY place, problem) AS n
        FROM (
{findings}
        ) AS finding
        WHERE NOT mended
    ) AS finding;
    IF NOT is_foreign AND (
{is_outdated}
    ) THEN
        RAISE EXCEPTION {outdated};
    END IF;
    IF found >= {many} OR pg_catalog.length(statements) > {long} OR pg_catalog.strpos(statements, '{drop}') > 0 THEN
        statements := '{drop}';
    END IF;
    IF found > {named} THEN
        untrusted := pg_catalog.format('%s; and %s more', untrusted, found - {named});
    END IF;
    IF found > 0 THEN
        RAISE EXCEPTION 'the schema jobexec cannot be trusted: %', untrusted
        USING HINT = pg_catalog.concat('As a superuser run: ', statements,
            '; or, where nothing in it is needed, or its owner is not known to you: {drop}. Then run this script once more.');
    END IF;
END
