//! Checks whether it is safe to write to the schema `jobexec`. The owner of the schema or of a table in it can run SQL as every
//! login that writes to it. So the operator and `jobexec schema` use it only if its owners are trusted and nothing in it runs the
//! code of anybody else.

use sqlx::{AssertSqlSafe, PgConnection, Row as _};

use super::super::DbError;
use super::super::extras::block;
use super::super::mapping::{literal, quote};
use super::grants;
use super::refusal::Refusal;

/// Finds a schema from before 0.1.0.
const OUTDATED: &str = include_str!("outdated.sql");

/// The remedy for an outdated schema.
const DROP_OUTDATED: &str = "the schema jobexec was made before version 0.1.0, and nothing of it is migrated: as its owner run \
     `DROP SCHEMA jobexec CASCADE`, which deletes the records of what was done, extensions given by hand and messages that wait, \
     then ";

/// The statement that fixes everything.
const DROP: &str = "DROP SCHEMA jobexec CASCADE";

/// The maximum number of problems that a message names.
const NAMED: usize = 20;

/// If a message has this many problems, or more bytes of statements than this, it names [`DROP`] alone: `trust.sql` returns no more
/// than a hundred problems of a kind, and statements that a condition truncates would be half of a remedy.
const MANY: usize = 100;
const LONG: usize = 16 * 1024;

/// An object in the schema that cannot be trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    /// True if the problem is the owner of the schema itself.
    pub(super) of_schema: bool,
    /// The problem, which names the object.
    pub(super) problem: String,
    /// The statement that fixes it.
    pub(super) remedy: String,
    /// True if `jobexec schema --apply` fixes it.
    pub(super) mended: bool,
}

/// The findings in the catalog.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Reading {
    /// True if the schema is from before 0.1.0.
    pub(super) outdated: bool,
    /// The objects that cannot be trusted.
    pub(super) findings: Vec<Finding>,
    /// The name of the login.
    pub(super) login: String,
}

/// Reads the catalog, and nothing in the schema itself. `owner` is the owner that the spec names. From here on, every name without
/// a schema in `tx` is Postgres' own.
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

/// Returns the query that finds the objects that cannot be trusted.
fn findings(owner: Option<&str>) -> String {
    format!(
        include_str!("trust.sql"),
        tables = literal(&format!("{{{}}}", grants::tables().join(","))),
        named = owner.map_or("NULL".to_owned(), literal),
    )
}

impl Reading {
    /// Returns the reason if the schema is refused. If `migrates`, a migration follows, so problems that it fixes do not count.
    pub(super) fn refusal(&self, migrates: bool) -> Option<Refusal> {
        // The role that applies a schema may differ from the role that uses it.
        let next = if migrates {
            "`jobexec schema --apply --role` with the name of each login that uses it".to_owned()
        } else {
            format!("`jobexec schema --apply --role {}`", quote(&self.login))
        };
        // A schema that somebody else created first contains no records, whatever version it looks like.
        let foreign = self.findings.iter().any(|finding| finding.of_schema);
        if self.outdated && !foreign {
            let why = format!("{DROP_OUTDATED}{next}");
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
        let others = if migrates { "" } else { " and the same for every other login that uses it" };
        let named_owner = if foreign {
            ". Who trusts its owner names it in `spec.connection.schemaOwner` instead, which takes no superuser"
        } else {
            ""
        };
        let why = format!(
            "the schema jobexec cannot be trusted: {}{more}. Whoever can change it can run SQL as the login {}. As a superuser \
             run `{}`, then {next}{others}. Where nothing in it is needed, or its owner is not known to you, `{DROP}` takes the \
             place of these statements{named_owner}",
            named.join("; "),
            quote(&self.login),
            remedy(&counts),
        );
        Some(Refusal { reason: "SchemaUntrusted", why, owner_trusted: !foreign })
    }

    /// Reports whether there are problems and a migration fixes all of them.
    pub(super) fn only_lacks(&self) -> bool {
        !self.outdated && !self.findings.is_empty() && self.findings.iter().all(|finding| finding.mended)
    }
}

/// Returns the statements that fix `counts`, from the last to the first: foreign code must be dropped before anybody else becomes
/// the owner of the table that would run it.
fn remedy(counts: &[&Finding]) -> String {
    let statements: Vec<&str> = counts.iter().rev().map(|finding| finding.remedy.as_str()).collect();
    let all = statements.join("; ");
    let drops = statements.contains(&DROP) || counts.len() >= MANY || all.len() > LONG;
    if drops { DROP.to_owned() } else { all }
}

/// Returns a block for a script that raises an error where [`Reading::refusal`] would refuse the schema.
pub(super) fn guard(owner: Option<&str>) -> String {
    // The block contains the name of the owner, which can be any text: the quotes are chosen so that the name cannot end them.
    let body = format!(
        include_str!("guard.sql"),
        named = NAMED,
        many = MANY,
        long = LONG,
        drop = DROP,
        is_outdated = OUTDATED.trim_end(),
        outdated = literal(&format!(
            "{DROP_OUTDATED}`jobexec schema --apply --role` with the name of each login that uses it"
        )),
        findings = findings(owner).trim_end(),
    );
    format!("{};", block(&body))
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
        assert!(refusal.owner_trusted && refusal.why.contains("`jobexec schema --apply --role \"team\"`"));
        let applied = reading(vec![finding(true, false)]).refusal(true).unwrap();
        assert!(
            !applied.why.contains("--role \"team\"") && applied.why.contains("schemaOwner"),
            "{}",
            applied.why
        );
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
    fn foreign_code_is_dropped_before_anybody_owns_what_runs_it() {
        let owner = Finding { remedy: "ALTER SCHEMA jobexec OWNER TO a".into(), ..finding(true, false) };
        let refusal = reading(vec![owner, finding(false, false)]).refusal(false).unwrap();
        assert!(refusal.why.contains("`DROP TRIGGER t; ALTER SCHEMA jobexec OWNER TO a`"), "{}", refusal.why);
    }

    #[test]
    fn more_than_a_condition_holds_is_mended_by_one_statement() {
        let whole = |refusal: Refusal| {
            refusal.why.contains("run `DROP SCHEMA jobexec CASCADE`") && refusal.why.len() < 32 * 1024
        };
        assert!(whole(reading(vec![finding(false, false); MANY]).refusal(false).unwrap()));
        let long = Finding { problem: "x".repeat(400), remedy: "x".repeat(1000), ..finding(true, false) };
        assert!(whole(reading(vec![long; 50]).refusal(false).unwrap()));
        let dropped = Finding { remedy: DROP.into(), ..finding(false, false) };
        assert!(whole(reading(vec![finding(false, false), dropped]).refusal(false).unwrap()));
    }

    #[test]
    fn what_looks_old_and_is_somebody_elses_holds_nothing() {
        let old = Reading { outdated: true, ..reading(vec![finding(true, false)]) };
        let refusal = old.refusal(false).unwrap();
        assert!(refusal.reason == "SchemaUntrusted" && !refusal.owner_trusted);
    }

    #[test]
    fn a_named_owner_stays_a_name() {
        assert!(findings(Some("o'x")).contains("r.rolname = 'o''x'"));
        assert!(findings(None).contains("r.rolname = NULL"));
        // In a comment the newline would end the comment, and in an anonymous block the name would end the block's quotes.
        assert_eq!(findings(Some("x\nDROP")).matches("x\nDROP").count(), 1);
        assert!(guard(Some("$do$; DROP")).starts_with("DO $_do$"));
    }
}
