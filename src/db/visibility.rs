//! Row-level security: whether it may hide rows of a table from the login. A store whose rows are hidden would look healthy.
//!
//! `row_security = off`, by which Postgres refuses a statement instead of hiding rows, will not do alone: where policies hide
//! nothing it refuses too, and the operator's own tables have row security and are in the same statements. So the policies are
//! held against the catalog when a table is validated, and again as each transaction begins, which turns it off where
//! something has changed ([`guard`]).

use super::mapping::literal;

/// The reason of conditions.
pub(super) const REASON: &str = "RowSecurityHidesRows";

/// The function of Postgres that refuses statements where rows would be hidden, as its errors name it in any language.
pub(super) const REFUSES: &str = "check_enable_rls";

/// What row-level security means for the login and one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own in the catalog")]
pub(super) struct Visibility {
    /// Whether it applies at all: not to a superuser, a role with BYPASSRLS, or the owner unless it is forced.
    pub(super) active: bool,
    /// Whether every row is seen for sure.
    pub(super) reads: bool,
    /// Whether every row can be changed for sure.
    pub(super) writes: bool,
    /// Whether a restrictive policy applies, beside which permissive ones prove nothing.
    pub(super) restricted: bool,
}

impl Default for Visibility {
    /// Nothing is hidden.
    fn default() -> Self {
        Self { active: false, reads: true, writes: true, restricted: false }
    }
}

/// The columns of [`Visibility`] for the relation with the oid `oid`, an SQL expression.
pub(super) fn columns(oid: &str) -> String {
    let active = format!("row_security_active({oid})");
    format!(
        "{active} AS active, NOT {active} OR {} AS reads, NOT {active} OR {} AS writes, {active} AND {} AS restricted",
        permits(oid, "r"),
        permits(oid, "w"),
        restricts(oid, "r', 'w"),
    )
}

/// The condition that permissive policies let the login reach every row with a command, `r` or `w`, and no restrictive one
/// takes any away.
fn permits(oid: &str, command: &str) -> String {
    // A policy without WITH CHECK checks by USING.
    let check = if command == "w" {
        "AND pg_get_expr(COALESCE(p.polwithcheck, p.polqual), p.polrelid) = 'true'"
    } else {
        ""
    };
    format!(
        "(EXISTS (SELECT FROM pg_policy AS p WHERE {applies} AND p.polpermissive \
                  AND pg_get_expr(p.polqual, p.polrelid) = 'true' {check}) AND NOT {restricts})",
        applies = applies(oid, command),
        restricts = restricts(oid, command),
    )
}

fn restricts(oid: &str, command: &str) -> String {
    format!("EXISTS (SELECT FROM pg_policy AS p WHERE {} AND NOT p.polpermissive)", applies(oid, command))
}

/// Whether policy `p` of the relation applies to the login and a command.
fn applies(oid: &str, command: &str) -> String {
    format!(
        "p.polrelid = {oid} AND p.polcmd IN ('*', '{command}') AND ('0' = ANY (p.polroles) OR \
         EXISTS (SELECT FROM unnest(p.polroles) AS role WHERE pg_has_role(role, 'USAGE')))"
    )
}

/// The statement after which Postgres refuses the other ones of the transaction where rows of tables may be hidden, each
/// named with its schema, quoted, and with what was found when it was validated. By the name and not the oid, as a table may be
/// dropped and made again.
pub(super) fn guard(tables: &[(String, Visibility)]) -> String {
    let seen = |(table, found): &(String, Visibility)| {
        let oid = format!("to_regclass({})", literal(table));
        if found.active {
            let writes = if found.writes { permits(&oid, "w") } else { "true".to_owned() };
            format!(
                "CASE WHEN row_security_active({oid}) THEN {} AND {writes} ELSE true END",
                permits(&oid, "r")
            )
        } else {
            format!("row_security_active({oid}) IS NOT TRUE")
        }
    };
    let seen: Vec<String> = tables.iter().map(seen).collect();
    format!(
        "SELECT set_config('row_security', CASE WHEN {} THEN 'on' ELSE 'off' END, true)",
        seen.join(" AND ")
    )
}
