//! Checks whether row-level security may hide rows of a table from the login. A store whose rows are hidden would look healthy.
//!
//! `row_security = off`, with which Postgres refuses a statement instead of hiding rows, is not enough: it also refuses where
//! policies hide nothing, and the operator's own tables have row security and are part of the same statements. So the policies are
//! compared with the catalog when a table is validated, and again when each transaction begins; if something has changed, the
//! transaction sets `row_security = off` ([`guard`]).

use super::mapping::literal;

/// The reason of conditions.
pub(super) const REASON: &str = "RowSecurityHidesRows";

/// The function of Postgres that refuses statements if rows would be hidden. Errors contain its name in any language.
pub(super) const REFUSES: &str = "check_enable_rls";

/// The effect of row-level security for the login on one table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, sqlx::FromRow)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own in the catalog")]
pub(super) struct Visibility {
    /// True if it applies at all: it does not apply to a superuser, to a role with BYPASSRLS, or to the owner unless it is forced.
    pub(super) active: bool,
    /// True if the login certainly sees every row.
    pub(super) reads: bool,
    /// True if the login can certainly change every row.
    pub(super) writes: bool,
    /// True if a restrictive policy applies. Then permissive policies prove nothing.
    pub(super) restricted: bool,
}

impl Default for Visibility {
    /// Returns the value for a table of which nothing is hidden.
    fn default() -> Self {
        Self { active: false, reads: true, writes: true, restricted: false }
    }
}

/// Returns the columns of [`Visibility`] for the relation with the oid `oid`, an SQL expression.
pub(super) fn columns(oid: &str) -> String {
    let active = format!("row_security_active({oid})");
    format!(
        "{active} AS active, NOT {active} OR {} AS reads, NOT {active} OR {} AS writes, {active} AND {} AS restricted",
        permits(oid, "r"),
        permits(oid, "w"),
        restricts(oid, "r', 'w"),
    )
}

/// Returns the condition that permissive policies let the login reach every row with a command, `r` or `w`, and that no restrictive
/// policy takes any away.
fn permits(oid: &str, command: &str) -> String {
    // A policy without WITH CHECK checks with USING.
    let check = if command == "w" {
        "AND pg_get_expr(COALESCE(policy.polwithcheck, policy.polqual), policy.polrelid) = 'true'"
    } else {
        ""
    };
    format!(
        "(EXISTS (SELECT FROM pg_policy AS policy WHERE {applies} AND policy.polpermissive \
                  AND pg_get_expr(policy.polqual, policy.polrelid) = 'true' {check}) AND NOT {restricts})",
        applies = applies(oid, command),
        restricts = restricts(oid, command),
    )
}

fn restricts(oid: &str, command: &str) -> String {
    format!(
        "EXISTS (SELECT FROM pg_policy AS policy WHERE {} AND NOT policy.polpermissive)",
        applies(oid, command)
    )
}

/// Returns the condition that `policy` of the relation applies to the login and a command.
fn applies(oid: &str, command: &str) -> String {
    format!(
        "policy.polrelid = {oid} AND policy.polcmd IN ('*', '{command}') AND ('0' = ANY (policy.polroles) OR \
         EXISTS (SELECT FROM unnest(policy.polroles) AS role WHERE pg_has_role(role, 'USAGE')))"
    )
}

/// Returns a statement that makes Postgres refuse the later statements of the transaction if rows of tables may be hidden. Each
/// table is given by its quoted name with its schema, and by the result of its validation. The statement uses the name and not the
/// oid, because a table may be dropped and created again. Empty without tables.
pub(super) fn guard(tables: &[(String, Visibility)]) -> String {
    if tables.is_empty() {
        return String::new();
    }
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
