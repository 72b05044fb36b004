//! Whether what is written to the schema `jobexec` is safe from those who made it. Whoever owns the schema or a table in it
//! can have SQL run as every login that writes to it, so the operator and `jobexec schema` use only one whose owners are
//! trusted, and which has nothing in it that runs anybody else's code.

use sqlx::{AssertSqlSafe, PgConnection, Row as _};

use super::super::DbError;
use super::super::mapping::{literal, quote};

/// Whether there is a schema of before 0.1.0: tables were known by their names.
const OUTDATED: &str = "SELECT EXISTS (
        SELECT FROM pg_catalog.pg_class AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.relnamespace
        WHERE n.nspname = 'jobexec' AND c.relname = 'stores' AND c.relkind = 'r'
          AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute AS a WHERE a.attrelid = c.oid AND a.attname = 'table_oid'))";

/// What to do about it.
const DROP_OUTDATED: &str = "the schema jobexec was made before version 0.1.0, and nothing of it is migrated: as its owner run \
     `DROP SCHEMA jobexec CASCADE`, which deletes the records of what was done, extensions given by hand and messages that wait, \
     then `jobexec schema --apply --role`";

/// How many problems a message names; all statements that mend them are in it.
const NAMED: usize = 20;

/// Why a schema that is there is not used: nothing in it is read or written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// One word for a condition's reason.
    pub reason: &'static str,
    /// What is wrong, and the statements that mend it.
    pub why: String,
    /// Whether records of the login's may be in it: its owner is trusted.
    pub owner_trusted: bool,
}

/// One thing in the schema that cannot be trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// Whether it is the owner of the schema itself.
    pub(super) of_schema: bool,
    /// What, by name.
    pub(super) problem: String,
    /// The statement that mends it.
    pub(super) remedy: String,
    /// Whether `jobexec schema --apply` mends it.
    pub(super) mended: bool,
}

/// What the catalog says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reading {
    /// Whether the schema is one of before 0.1.0.
    pub(super) outdated: bool,
    /// What cannot be trusted.
    pub(super) findings: Vec<Finding>,
    /// The login.
    pub(super) login: String,
}

/// Reads the catalog, and nothing in the schema itself. `owner` is the one that the spec names. From here on every name in `tx`
/// without a schema is Postgres' own.
pub(super) async fn read(tx: &mut PgConnection, owner: Option<&str>) -> Result<Reading, DbError> {
    sqlx::raw_sql("SET LOCAL search_path = pg_catalog, pg_temp").execute(&mut *tx).await?;
    let outdated = sqlx::query_scalar(OUTDATED).persistent(false).fetch_one(&mut *tx).await?;
    let login = sqlx::query_scalar("SELECT CURRENT_USER::text").persistent(false).fetch_one(&mut *tx).await?;
    let rows = sqlx::query(AssertSqlSafe(findings(owner))).persistent(false).fetch_all(&mut *tx).await?;
    let finding = |row: &sqlx::postgres::PgRow| {
        Ok::<_, sqlx::Error>(Finding {
            of_schema: row.try_get::<i32, _>("place")? == 1,
            problem: row.try_get("problem")?,
            remedy: row.try_get("remedy")?,
            mended: row.try_get("mended")?,
        })
    };
    Ok(Reading { outdated, findings: rows.iter().map(finding).collect::<Result<_, _>>()?, login })
}

/// The query for what cannot be trusted.
fn findings(owner: Option<&str>) -> String {
    include_str!("trust.sql").replace("{named}", &owner.map_or("NULL".to_owned(), literal))
}

impl Reading {
    /// Why the schema is refused, if it is; what a migration mends does not count where one follows.
    pub(super) fn refusal(&self, migrates: bool) -> Option<Refusal> {
        if self.outdated {
            let why = format!("{DROP_OUTDATED} {}", quote(&self.login));
            return Some(Refusal { reason: "SchemaOutdated", why, owner_trusted: true });
        }
        let counts: Vec<&Finding> =
            self.findings.iter().filter(|finding| !(migrates && finding.mended)).collect();
        if counts.is_empty() {
            return None;
        }
        let named: Vec<&str> = counts.iter().take(NAMED).map(|finding| finding.problem.as_str()).collect();
        let more = match counts.len().saturating_sub(NAMED) {
            0 => String::new(),
            more => format!("; and {more} more"),
        };
        let remedies: Vec<&str> = counts.iter().map(|finding| finding.remedy.as_str()).collect();
        let why = format!(
            "the schema jobexec cannot be trusted: {}{more}. Whoever can change it can run SQL as the login {login}. As a \
             superuser run `{}`, then `jobexec schema --apply --role {login}` and the same for every other login that uses it. \
             Where nothing in it is needed, `DROP SCHEMA jobexec CASCADE` takes the place of these statements",
            named.join("; "),
            remedies.join("; "),
            login = quote(&self.login),
        );
        let owner_trusted = !counts.iter().any(|finding| finding.of_schema);
        Some(Refusal { reason: "SchemaUntrusted", why, owner_trusted })
    }

    /// Whether all that is wrong is what a migration mends.
    pub(super) fn only_lacks(&self) -> bool {
        !self.outdated && !self.findings.is_empty() && self.findings.iter().all(|finding| finding.mended)
    }
}

/// A block for a script that raises an error where [`Reading::refusal`] would refuse the schema.
pub(super) fn guard(owner: Option<&str>) -> String {
    format!(
        "DO $jobexec$\nDECLARE\n    untrusted text;\n    statements text;\nBEGIN\n    \
             IF ({OUTDATED}) THEN\n        RAISE EXCEPTION {outdated};\n    END IF;\n    \
             SELECT pg_catalog.string_agg(problem, '; '), pg_catalog.string_agg(remedy, '; ') INTO untrusted, statements FROM (\n{findings}) AS f WHERE NOT mended;\n    \
             IF untrusted IS NOT NULL THEN\n        \
                 RAISE EXCEPTION 'the schema jobexec cannot be trusted: %', untrusted\n        \
                 USING HINT = pg_catalog.concat('As a superuser run: ', statements, \
                 '; or, where nothing in it is needed: DROP SCHEMA jobexec CASCADE. Then run this script once more.');\n    \
             END IF;\nEND\n$jobexec$;",
        outdated = literal(DROP_OUTDATED),
        findings = findings(owner),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn finding(of_schema: bool, mended: bool) -> Finding {
        Finding {
            of_schema,
            problem: "trigger t on jobexec.events".into(),
            remedy: "DROP TRIGGER t".into(),
            mended,
        }
    }

    fn reading(findings: Vec<Finding>) -> Reading {
        Reading { outdated: false, findings, login: "team".into() }
    }

    #[test]
    fn a_refusal_names_what_and_how_to_mend_it() {
        let refusal = reading(vec![finding(false, false)]).refusal(false).unwrap();
        assert!(
            refusal.why.contains("trigger t on jobexec.events") && refusal.why.contains("`DROP TRIGGER t`")
        );
        assert!(refusal.owner_trusted && refusal.why.contains("--role \"team\""));
        assert!(!reading(vec![finding(true, false)]).refusal(true).unwrap().owner_trusted);
        assert_eq!(reading(Vec::new()).refusal(false), None);
    }

    #[test]
    fn what_a_migration_mends_is_refused_only_where_none_follows() {
        let lacks = reading(vec![finding(false, true)]);
        assert!(lacks.refusal(false).is_some() && lacks.refusal(true).is_none() && lacks.only_lacks());
        assert!(!reading(vec![finding(false, true), finding(false, false)]).only_lacks());
        let outdated = Reading { outdated: true, ..lacks };
        assert_eq!(outdated.refusal(true).unwrap().reason, "SchemaOutdated");
    }

    #[test]
    fn many_problems_are_cut_and_no_remedy_is() {
        let refusal = reading(vec![finding(false, false); 24]).refusal(false).unwrap();
        assert!(refusal.why.contains("; and 4 more"));
        assert_eq!(refusal.why.matches("DROP TRIGGER t").count(), 24);
    }

    #[test]
    fn a_named_owner_stays_a_name() {
        assert!(findings(Some("o'x")).contains("r.rolname = 'o''x'"));
        assert!(findings(None).contains("r.rolname = NULL"));
    }
}
