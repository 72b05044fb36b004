//! What `jobexec schema` offers for the application's own table, each only where it is asked for: a constraint, a
//! trigger that refuses impossible transitions, and a trigger that tells the operator of changes.

use super::mapping::{condition, literal, qualified, quote};
use crate::api::Table;
use crate::api::table::StatusText;

/// The channel on which [`Extra::Notify`] tells of changes; the payload is [`relation`].
pub const CHANNEL: &str = "jobexec";

/// The name of the trigger of [`Extra::Notify`].
pub const NOTIFY_TRIGGER: &str = "jobexec_notify";

/// An addition to the application's table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Extra {
    /// A CHECK constraint: running executions have a start, finished ones an end.
    Check,
    /// A trigger that refuses every change of a status but scheduled → running or cancelled, and running → completed,
    /// failed or cancelled. The refused are counted in the status of the `ExecutionStore`.
    Transitions,
    /// A trigger that tells the operator of changes by NOTIFY, so that it need not wait for its poll.
    Notify,
}

impl Extra {
    /// What it is for, in a line.
    pub const fn purpose(self) -> &'static str {
        match self {
            Self::Check => "Running executions have a start, finished ones an end.",
            Self::Transitions => {
                "An execution that has ended stays as it is: a late finish is refused and counted."
            }
            Self::Notify => "The operator is told of changes, so that it need not wait for its poll.",
        }
    }

    /// The statements that add it, each harmless when it was run before.
    pub fn statements(self, table: &Table, role: Option<&str>) -> Vec<String> {
        match self {
            Self::Check => check(table),
            Self::Transitions => transitions(table, role),
            Self::Notify => notify(table),
        }
    }
}

/// How a notification names the table.
pub fn relation(table: &Table) -> String {
    format!("{}.{}", table.schema.0, table.name.0)
}

fn check(table: &Table) -> Vec<String> {
    let (c, s) = (&table.columns, &table.statuses);
    let status = quote(&c.status.0);
    let name: String = table.name.0.chars().take(40).collect();
    let name = format!("{name}_jobexec_times");
    vec![
        // Without reading the table under a lock that keeps writers out; the second statement reads it under one that
        // does not.
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
            running = condition(&status, &s.running),
            finished = condition(&status, &finished(table)),
            start = quote(&c.started_at.0),
            end = quote(&c.completed_at.0),
        )),
        format!("ALTER TABLE {} VALIDATE CONSTRAINT {}", qualified(table), quote(&name)),
    ]
}

fn transitions(table: &Table, role: Option<&str>) -> Vec<String> {
    let s = &table.statuses;
    let status = &table.columns.status.0;
    let was = |texts: &[StatusText]| condition(&format!("OLD.{}", quote(status)), texts);
    let is = |texts: &[StatusText]| condition(&format!("NEW.{}", quote(status)), texts);
    let grant = role.map_or(String::new(), |role| {
        format!(
            "EXECUTE format('GRANT SELECT ON SEQUENCE jobexec.refused_%s TO %I', id, {});\n",
            literal(role)
        )
    });
    vec![
        // A sequence counts what is rolled back, which no table could.
        block(&format!(
            "DECLARE id integer; BEGIN\n\
             INSERT INTO jobexec.stores (table_schema, table_name) VALUES ({schema}, {name}) ON CONFLICT DO NOTHING;\n\
             SELECT store_id INTO id FROM jobexec.stores WHERE (table_schema, table_name) = ({schema}, {name});\n\
             EXECUTE format('CREATE SEQUENCE IF NOT EXISTS jobexec.refused_%s', id);\n{grant}END",
            schema = literal(&table.schema.0),
            name = literal(&table.name.0),
        )),
        // As its owner, so that the application's role needs no right on the operator's schema. What that role may
        // create, temporary types among it, comes last in the search path.
        "CREATE OR REPLACE FUNCTION jobexec.refuse_transition() RETURNS trigger\n\
         LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $function$\n\
         DECLARE id pg_catalog.int4; was pg_catalog.text; BEGIN\n\
         SELECT store_id INTO id FROM jobexec.stores WHERE (table_schema, table_name) = (TG_ARGV[0], TG_ARGV[1]);\n\
         PERFORM nextval(format('jobexec.refused_%s', id)::pg_catalog.regclass);\n\
         was := to_jsonb(OLD) ->> TG_ARGV[3];\n\
         RAISE EXCEPTION 'execution % of %.% is % and cannot become %', to_jsonb(OLD) ->> TG_ARGV[2],\n    \
             TG_ARGV[0], TG_ARGV[1], was, to_jsonb(NEW) ->> TG_ARGV[3]\n\
         USING ERRCODE = 'check_violation', CONSTRAINT = 'jobexec_transitions', SCHEMA = TG_ARGV[0], TABLE = TG_ARGV[1],\n    \
             HINT = 'An execution that has ended stays as it is; jobexec.events tells whether it was given up.';\n\
         END $function$"
            .to_owned(),
        format!("DROP TRIGGER IF EXISTS jobexec_transitions ON {}", qualified(table)),
        // Allowed changes never call the function. What statuses mean that the mapping does not know is not judged.
        format!(
            "CREATE TRIGGER jobexec_transitions BEFORE UPDATE OF {column} ON {table} FOR EACH ROW WHEN (\n    \
                 (({was_finished}) AND OLD.{column} IS DISTINCT FROM NEW.{column}) OR\n    \
                 (({was_running}) AND ({is_scheduled})) OR\n    \
                 (({was_scheduled}) AND ({is_done}))\n\
             ) EXECUTE FUNCTION jobexec.refuse_transition({schema}, {name}, {id}, {status})",
            column = quote(status),
            table = qualified(table),
            was_finished = was(&finished(table)),
            was_running = was(&s.running),
            is_scheduled = is(&s.scheduled),
            was_scheduled = was(&s.scheduled),
            is_done = is(&[s.completed.as_slice(), &s.failed].concat()),
            schema = literal(&table.schema.0),
            name = literal(&table.name.0),
            id = literal(&table.columns.id.0),
            status = literal(status),
        ),
    ]
}

fn notify(table: &Table) -> Vec<String> {
    let c = &table.columns;
    vec![
        "CREATE OR REPLACE FUNCTION jobexec.notify() RETURNS trigger LANGUAGE plpgsql AS $function$\n\
         BEGIN PERFORM pg_catalog.pg_notify(TG_ARGV[0], TG_ARGV[1]); RETURN NULL; END $function$"
            .to_owned(),
        format!("DROP TRIGGER IF EXISTS {NOTIFY_TRIGGER} ON {}", qualified(table)),
        // Once a statement: a transaction sends equal notifications only once anyway.
        format!(
            "CREATE TRIGGER {NOTIFY_TRIGGER} AFTER INSERT OR DELETE OR UPDATE OF {status}, {start} ON {table}\n    \
             FOR EACH STATEMENT EXECUTE FUNCTION jobexec.notify({channel}, {relation})",
            status = quote(&c.status.0),
            start = quote(&c.started_at.0),
            table = qualified(table),
            channel = literal(CHANNEL),
            relation = literal(&relation(table)),
        ),
    ]
}

/// An anonymous block, in quotes that its body does not hold.
fn block(body: &str) -> String {
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
