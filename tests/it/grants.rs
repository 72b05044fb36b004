//! Least privilege in Postgres: every grant of `jobexec schema --role` is revoked once, and the features that stop, those
//! that continue, and the status are as documented.

use jobexec_operator::api::{ExecutionStore, ExecutionStoreStatus};
use kube::api::{Patch, PatchParams};
use serde_json::json;

use crate::support::{Operator, World, is, message};

/// The purpose of a grant.
#[derive(Clone, Copy, Debug, PartialEq)]
enum For {
    /// Without it nothing is recorded, and executions are failed nevertheless.
    Recording,
    /// Without it no execution is failed.
    Enforcement,
    /// Without it only history grows or is not stored, or notifications are not sent.
    History,
}

use For::{Enforcement, History, Recording};

/// The permissions, their object, and their purpose.
const GRANTS: [(&str, &str, For); 19] = [
    ("USAGE", "SCHEMA jobexec", Recording),
    ("SELECT", "jobexec._sqlx_migrations", Recording),
    (
        "SELECT, INSERT (registry), INSERT (table_oid), INSERT (table_schema), INSERT (table_name), INSERT (table_owner), UPDATE",
        "jobexec.stores",
        Recording,
    ),
    ("SELECT, INSERT, UPDATE, DELETE", "jobexec.rules", Recording),
    ("SELECT, INSERT, UPDATE, DELETE", "jobexec.figures", Recording),
    ("SELECT, INSERT, UPDATE, DELETE", "jobexec.suspects", Recording),
    ("SELECT, INSERT, UPDATE, DELETE", "jobexec.observations", Recording),
    ("SELECT, INSERT, UPDATE", "jobexec.retries", Recording),
    ("SELECT, INSERT, UPDATE", "jobexec.sweeps", Recording),
    ("SELECT, INSERT", "jobexec.events", Recording),
    ("SELECT, INSERT, DELETE", "jobexec.samples", History),
    ("DELETE", "jobexec.stores", History),
    ("DELETE", "jobexec.events", History),
    ("DELETE", "jobexec.retries", History),
    ("DELETE", "jobexec.sweeps", History),
    ("SELECT, INSERT, DELETE", "jobexec.outbox", History),
    ("SELECT, INSERT, UPDATE, DELETE", "jobexec.messages", History),
    (
        "SELECT (id), SELECT (job_id), SELECT (execution_number), SELECT (status), SELECT (started_at), \
         SELECT (completed_at)",
        "public.job_executions",
        Enforcement,
    ),
    ("UPDATE (status), UPDATE (completed_at)", "public.job_executions", Enforcement),
];

/// Each single grant.
fn singly() -> Vec<(&'static str, &'static str, For)> {
    let each = |(rights, on, what): &(&'static str, &'static str, For)| {
        rights.split(", ").map(|right| (right, *on, *what)).collect::<Vec<_>>()
    };
    GRANTS.iter().flat_map(each).collect()
}

/// The number of worlds that share the work.
const WORLDS: usize = 4;

#[tokio::test]
async fn each_missing_grant_takes_away_what_it_is_for() {
    let shares = (0..WORLDS).map(|share| async move {
        let world = World::new("grants").await;
        world.store(json!({})).await;
        for (number, (right, on, what)) in singly().into_iter().enumerate().skip(share).step_by(WORLDS) {
            without(&world, number, right, on, what).await;
        }
    });
    futures::future::join_all(shares).await;
}

/// Starts an operator without the grant.
async fn without(world: &World, number: usize, right: &str, on: &str, what: For) {
    world.sql(&format!("REVOKE {right} ON {on} FROM {}", world.role)).await;
    let nothing = Patch::Merge(json!({"status": {"conditions": []}}));
    let stores = world.api::<ExecutionStore>();
    stores.patch_status("jobs", &PatchParams::default(), &nothing).await.unwrap();
    let row =
        format!("INSERT INTO job_executions VALUES ({number}, 1, 1, 'running', now() - interval '2 days')");
    world.sql(&row).await;
    let operator = world.operator();
    let status = told(world, &operator, what).await;
    let failed = format!("SELECT status = 'failed' FROM job_executions WHERE id = {number}");
    match what {
        Recording => {
            let text = message(&status.conditions, "AuditAvailable");
            let name = on.trim_start_matches("SCHEMA ");
            assert!(text.contains(name) && text.contains("jobexec schema"), "{right} {on}: {text}");
            world.until_true(&failed).await;
        }
        History => world.until_true(&failed).await,
        Enforcement => {
            let text = message(&status.conditions, "Ready");
            assert!(text.contains("GRANT"), "{right} {on}: {text}");
            assert!(!world.one::<bool>(&failed).await, "{right} {on}");
        }
    }
    drop(operator);
    world.sql("DELETE FROM job_executions").await;
    world.prepare().await;
}

async fn told(world: &World, operator: &Operator, what: For) -> ExecutionStoreStatus {
    let enforces = |s: &ExecutionStoreStatus| is(&s.conditions, "Ready", "True", "Enforcing");
    let wanted = |s: &ExecutionStoreStatus| match what {
        Recording => enforces(s) && is(&s.conditions, "AuditAvailable", "False", "TablesMissing"),
        History => enforces(s) && is(&s.conditions, "AuditAvailable", "True", "TablesPresent"),
        Enforcement => is(&s.conditions, "SchemaValid", "False", "InsufficientPrivilege"),
    };
    world.store_until(operator, wanted).await
}

/// The grants of `jobexec schema` are exactly those that are revoked above.
#[tokio::test]
async fn no_grant_is_left_out() {
    let world = World::bare("grantlist").await;
    let printed = String::from_utf8(world.jobexec(&["schema", "--role", "somebody"]).stdout).unwrap();
    let plain = |text: &str| text.replace(['"', ';'], "");
    let mut given: Vec<String> =
        printed.lines().filter(|line| line.starts_with("GRANT ")).map(plain).collect();
    given.retain(|line| !line.contains("job_executions") && !line.contains("SCHEMA"));
    let own = GRANTS.iter().filter(|(_, on, _)| on.starts_with("jobexec."));
    let mut taken: Vec<String> =
        own.map(|(rights, on, _)| format!("GRANT {rights} ON {on} TO somebody")).collect();
    given.sort();
    taken.sort();
    assert_eq!(given, taken);
    let columns = "GRANT SELECT (id, job_id, execution_number, status, started_at, completed_at), UPDATE (status, completed_at) \
                   ON public.job_executions TO somebody";
    assert!(printed.lines().any(|line| plain(line) == columns), "{printed}");
    // Of a table, and not of a view, which has none.
    let versions = "GRANT SELECT (xmax, xmin) ON public.job_executions TO somebody";
    assert!(
        printed.lines().any(|line| line.starts_with("DO ") && plain(line).contains(versions)),
        "{printed}"
    );
}
