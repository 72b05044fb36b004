//! Optional additions to the application's own table that `jobexec schema` offers, each only on request: a constraint, a trigger
//! that rejects impossible transitions, and a trigger that notifies the operator of changes.

use super::mapping::{condition, filtered, literal, qualified, quote};
use crate::api::Table;
use crate::api::table::StatusText;

/// The channel on which [`Extra::Notify`] announces changes; the payload is [`relation`].
pub const CHANNEL: &str = "jobexec";

/// The name of the trigger of [`Extra::Notify`].
pub const NOTIFY_TRIGGER: &str = "jobexec_notify";

/// An addition to the application's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Extra {
    /// A CHECK constraint: running executions have a start, finished ones an end.
    Check,
    /// A trigger that refuses every change of a status but scheduled → running or cancelled, and running → completed,
    /// failed or cancelled; running → scheduled too where the table is seen to use it, or a waiting status is called after
    /// retries. The refused are counted in the status of the `ExecutionStore`.
    Transitions,
    /// A trigger that tells the operator of changes by NOTIFY, so that it need not wait for its poll.
    Notify,
}

impl Extra {
    /// Returns its purpose in one line.
    pub const fn purpose(self) -> &'static str {
        match self {
            Self::Check => "Running executions have a start, finished ones an end.",
            Self::Transitions => {
                "An execution that has ended stays as it is: a late finish is refused and counted."
            }
            Self::Notify => "The operator is told of changes, so that it need not wait for its poll.",
        }
    }

    /// Returns the statements that add it. Each is harmless if it ran before.
    pub fn statements(self, table: &Table, role: Option<&str>, retries: Retries) -> Vec<String> {
        match self {
            Self::Check => check(table),
            Self::Transitions => transitions(table, role, retries),
            Self::Notify => notify(table),
        }
    }
}

/// Whether running executions go back to waiting, for example in a queue that retries them in the same row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retries {
    /// Nothing indicates it.
    Unknown,
    /// They do.
    Seen,
}

impl Retries {
    /// Derives it from the names of the statuses, such as `retryable` or `retry_scheduled`.
    pub fn by_name(table: &Table) -> Self {
        let retries = |text: &StatusText| text.0.to_lowercase().contains("retr");
        if table.statuses.scheduled.iter().any(retries) { Self::Seen } else { Self::Unknown }
    }
}

/// Returns the query for two facts about the table: whether some waiting executions have a start, and so were running before, and
/// whether some waiting or running executions have an end, and so had finished before.
pub(super) fn seen(table: &Table) -> String {
    let (c, s) = (&table.columns, &table.statuses);
    let (status, start, end) = (quote(&c.status.0), quote(&c.started_at.0), quote(&c.completed_at.0));
    let any = |texts: &[StatusText], more: &str| {
        let rows = filtered(format!("{} AND {more} IS NOT NULL", condition(&status, texts)), table, "");
        format!("EXISTS (SELECT FROM {} WHERE {rows})", qualified(table))
    };
    let alive = [s.scheduled.as_slice(), &s.running].concat();
    format!("SELECT {}, {}", any(&s.scheduled, &start), any(&alive, &end))
}

/// Returns the name of the table in a notification.
pub fn relation(table: &Table) -> String {
    format!("{}.{}", table.schema.0, table.name.0)
}

fn check(table: &Table) -> Vec<String> {
    let (c, s) = (&table.columns, &table.statuses);
    let status = quote(&c.status.0);
    let name: String = table.name.0.chars().take(40).collect();
    let name = format!("{name}_jobexec_times");
    vec![
        // Adds the constraint without reading the table under a lock that blocks writers; the second statement reads it under a
        // lock that does not.
        block(&format!(
            "BEGIN\n\
             IF NOT EXISTS (SELECT FROM pg_constraint WHERE conrelid = {table_text}::regclass AND conname = {name_text}) THEN\n\
             ALTER TABLE {table} ADD CONSTRAINT {quoted} CHECK (\n    \
                 (NOT ({running}) OR {start} IS NOT NULL) AND\n    (NOT ({finished}) OR {end} IS NOT NULL)\n) NOT VALID;\n\
             END IF;\nEND",
            table_text = literal(&qualified(table)),
            name_text = literal(&name),
            table = qualified(table),
            quoted = quote(&name),
            running = filtered(condition(&status, &s.running), table, ""),
            finished = filtered(condition(&status, &finished(table)), table, ""),
            start = quote(&c.started_at.0),
            end = quote(&c.completed_at.0),
        )),
        format!("ALTER TABLE {} VALIDATE CONSTRAINT {}", qualified(table), quote(&name)),
    ]
}

/// The prefix of the name of the sequence that counts the rejected changes of a table. The rest is the table's oid, which its
/// triggers know too.
pub(super) const REFUSALS: &str = "refused_";

/// The body of `jobexec.count_refusal`. It runs as its owner, so that the application's role needs no privilege on the operator's
/// schema; so it uses nothing but the table that it is called for. A partition counts for its table.
const COUNT: &str = "BEGIN
    PERFORM pg_catalog.nextval(pg_catalog.to_regclass(pg_catalog.format('jobexec.refused_%s',
        COALESCE(pg_catalog.pg_partition_root(TG_RELID), TG_RELID)::pg_catalog.oid)));
    RETURN NEW;
END";

/// The body of `jobexec.refuse_transition`. It runs as the role that changes the row, because converting a row to JSON runs casts
/// that others have created.
const REFUSE: &str = "BEGIN
    RAISE EXCEPTION 'execution % of %.% is % and cannot become %', pg_catalog.to_jsonb(OLD) ->> TG_ARGV[2],
        TG_ARGV[0], TG_ARGV[1], pg_catalog.to_jsonb(OLD) ->> TG_ARGV[3], pg_catalog.to_jsonb(NEW) ->> TG_ARGV[3]
    USING ERRCODE = 'check_violation', CONSTRAINT = 'jobexec_transitions', SCHEMA = TG_ARGV[0], TABLE = TG_ARGV[1],
        HINT = 'An execution that has ended stays as it is; jobexec.events tells whether it was given up.';
END";

/// Returns the statements that create a trigger function which only its owner may attach to a table.
fn function(name: &str, security: &str, body: &str) -> [String; 2] {
    [
        format!(
            "CREATE OR REPLACE FUNCTION jobexec.{name}() RETURNS trigger\n\
             LANGUAGE plpgsql SECURITY {security} SET search_path = pg_catalog, pg_temp AS $function$\n{body}\n$function$"
        ),
        format!("REVOKE ALL ON FUNCTION jobexec.{name}() FROM PUBLIC"),
    ]
}

fn transitions(table: &Table, role: Option<&str>, retries: Retries) -> Vec<String> {
    let s = &table.statuses;
    let (status, on) = (&table.columns.status.0, qualified(table));
    // The trigger ignores rows that the filter excludes.
    let was =
        |texts: &[StatusText]| filtered(condition(&format!("OLD.{}", quote(status)), texts), table, "OLD.");
    let is = |texts: &[StatusText]| condition(&format!("NEW.{}", quote(status)), texts);
    let grant = role.map_or(String::new(), |role| {
        format!(
            "EXECUTE format('GRANT SELECT ON SEQUENCE jobexec.{REFUSALS}%s TO %I', id, {});\n",
            literal(role)
        )
    });
    // Allowed changes call neither function. Statuses that the mapping does not know are not judged.
    let refused = format!(
        "BEFORE UPDATE OF {column} ON {on} FOR EACH ROW WHEN (\n    \
             (({was_finished}) AND OLD.{column} IS DISTINCT FROM NEW.{column}) OR\n    \
             {requeued}(({was_scheduled}) AND ({is_done}))\n\
         ) EXECUTE FUNCTION",
        column = quote(status),
        was_finished = was(&finished(table)),
        requeued = match retries {
            Retries::Seen => String::new(),
            Retries::Unknown => format!("(({}) AND ({})) OR\n    ", was(&s.running), is(&s.scheduled)),
        },
        was_scheduled = was(&s.scheduled),
        is_done = is(&[s.completed.as_slice(), &s.failed].concat()),
    );
    let mut statements = vec![
        // A sequence also counts what is rolled back, which no table could.
        block(&format!(
            "DECLARE id oid := {name}::regclass; BEGIN\n\
             EXECUTE format('CREATE SEQUENCE IF NOT EXISTS jobexec.{REFUSALS}%s', id);\n\
             EXECUTE format('REVOKE ALL ON SEQUENCE jobexec.{REFUSALS}%s FROM PUBLIC', id);\n{grant}END",
            name = literal(&on),
        )),
    ];
    statements.extend(function("count_refusal", "DEFINER", COUNT));
    statements.extend(function("refuse_transition", "INVOKER", REFUSE));
    // Triggers fire in the order of their names.
    statements.extend([
        format!("DROP TRIGGER IF EXISTS jobexec_refusals ON {on}"),
        format!("CREATE TRIGGER jobexec_refusals {refused} jobexec.count_refusal()"),
        format!("DROP TRIGGER IF EXISTS jobexec_transitions ON {on}"),
        format!(
            "CREATE TRIGGER jobexec_transitions {refused} jobexec.refuse_transition({schema}, {name}, {id}, {status})",
            schema = literal(&table.schema.0),
            name = literal(&table.name.0),
            id = literal(&table.columns.id.0),
            status = literal(status),
        ),
    ]);
    statements
}

/// The body of `jobexec.notify`.
const NOTIFY: &str = "BEGIN PERFORM pg_catalog.pg_notify(TG_ARGV[0], TG_ARGV[1]); RETURN NULL; END";

fn notify(table: &Table) -> Vec<String> {
    let c = &table.columns;
    let mut statements = function("notify", "INVOKER", NOTIFY).to_vec();
    statements.extend([
        format!("DROP TRIGGER IF EXISTS {NOTIFY_TRIGGER} ON {}", qualified(table)),
        // Once per statement: a transaction sends equal notifications only once anyway.
        format!(
            "CREATE TRIGGER {NOTIFY_TRIGGER} AFTER INSERT OR DELETE OR UPDATE OF {status}, {start} ON {table}\n    \
             FOR EACH STATEMENT EXECUTE FUNCTION jobexec.notify({channel}, {relation})",
            status = quote(&c.status.0),
            start = quote(&c.started_at.0),
            table = qualified(table),
            channel = literal(CHANNEL),
            relation = literal(&relation(table)),
        ),
    ]);
    statements
}

/// Returns an anonymous block, quoted such that its body does not contain the quote.
pub(super) fn block(body: &str) -> String {
    let mut tag = "$do$".to_owned();
    while body.contains(&tag) {
        tag.insert(1, '_');
    }
    format!("DO {tag} {body} {tag}")
}

fn finished(table: &Table) -> Vec<StatusText> {
    let s = &table.statuses;
    [s.completed.as_slice(), &s.failed, &s.cancelled].concat()
}
