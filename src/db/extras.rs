//! Optional additions to the application's own table that `jobexec schema` offers, each only on request: a constraint, a trigger
//! that rejects impossible transitions, and a trigger that notifies the operator of changes.

use super::ending::ACTION;
use super::mapping::{condition, filtered, literal, qualified, quote};
use crate::api::retry::RetryMethod;
use crate::api::table::StatusText;
use crate::api::{OnStale, Table};

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
        block(&format!(
            include_str!("extras/check.sql"),
            table_text = literal(&qualified(table)),
            name_text = literal(&name),
            table = qualified(table),
            name = quote(&name),
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

/// Returns the statements that create a trigger function which only its owner may attach to a table.
fn function(name: &str, create: &str) -> [String; 2] {
    [create.trim_end().to_owned(), format!("REVOKE ALL ON FUNCTION jobexec.{name}() FROM PUBLIC")]
}

fn transitions(table: &Table, role: Option<&str>, retries: Retries) -> Vec<String> {
    let s = &table.statuses;
    let (status, on) = (&table.columns.status.0, qualified(table));
    // The trigger ignores rows that the filter excludes.
    let was =
        |texts: &[StatusText]| filtered(condition(&format!("OLD.{}", quote(status)), texts), table, "OLD.");
    let is = |texts: &[StatusText]| condition(&format!("NEW.{}", quote(status)), texts);
    let retried = match &table.retry {
        Some(retry) if retry.method != RetryMethod::NewExecution => {
            retried(&was(&[s.running.as_slice(), &s.failed].concat()), &is(&s.scheduled))
        }
        _ => String::new(),
    };
    let grant = role.map_or(String::new(), |role| {
        format!(
            "EXECUTE format('GRANT SELECT ON SEQUENCE jobexec.{REFUSALS}%s TO %I', id, {});",
            literal(role)
        )
    });
    let trigger = |name: &str, call: &str| {
        let create = format!(
            include_str!("extras/refusing_trigger.sql"),
            name = name,
            status = quote(status),
            table = on,
            was_finished = was(&finished(table)),
            requeued = match retries {
                Retries::Seen => String::new(),
                Retries::Unknown => format!("(({}) AND ({})) OR\n    ", was(&s.running), is(&s.scheduled)),
            },
            was_scheduled = was(&s.scheduled),
            unless_retried = retried,
            is_done = is(&[s.completed.as_slice(), &s.failed].concat()),
            call = call,
        );
        create.trim_end().to_owned()
    };
    let mut statements = vec![block(&format!(
        include_str!("extras/sequence.sql"),
        table_text = literal(&on),
        prefix = REFUSALS,
        grant = grant,
    ))];
    statements.extend(function("count_refusal", include_str!("extras/count_refusal.sql")));
    statements.extend(function("refuse_transition", include_str!("extras/refuse_transition.sql")));
    // Triggers fire in the order of their names.
    statements.extend([
        format!("DROP TRIGGER IF EXISTS jobexec_refusals ON {on}"),
        trigger("jobexec_refusals", "jobexec.count_refusal()"),
        format!("DROP TRIGGER IF EXISTS jobexec_transitions ON {on}"),
        trigger(
            "jobexec_transitions",
            &format!(
                "jobexec.refuse_transition({schema}, {name}, {id}, {status})",
                schema = literal(&table.schema.0),
                name = literal(&table.name.0),
                id = literal(&table.columns.id.0),
                status = literal(status),
            ),
        ),
    ]);
    statements
}

/// Returns the condition that lets the operator's own retries through, to be appended to others.
fn retried(was_ended: &str, is_scheduled: &str) -> String {
    format!(
        "\n    AND NOT (({was_ended}) AND ({is_scheduled}) AND current_setting('{ACTION}', true) IS NOT DISTINCT FROM '{}')",
        OnStale::Retry.as_str(),
    )
}

fn notify(table: &Table) -> Vec<String> {
    let c = &table.columns;
    let mut statements = function("notify", include_str!("extras/notify.sql")).to_vec();
    statements.extend([
        format!("DROP TRIGGER IF EXISTS {NOTIFY_TRIGGER} ON {}", qualified(table)),
        format!(
            include_str!("extras/notify_trigger.sql"),
            name = NOTIFY_TRIGGER,
            status = quote(&c.status.0),
            start = quote(&c.started_at.0),
            table = qualified(table),
            channel = literal(CHANNEL),
            payload = literal(&relation(table)),
        )
        .trim_end()
        .to_owned(),
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
