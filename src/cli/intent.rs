//! `jobexec extend`, `jobexec cancel` and `jobexec resume`: what a person wants of an execution or of a store. With a
//! cluster it is said to the object; without one it is a rule, or the guarded SQL.

use super::cluster::{Cluster, StoreName};
use super::direct::{self, Direct};
use super::output::{print, say};
use super::{CliError, Done, person, user};
use crate::api::{Duration, Phase, duration};
use crate::db::cancel::{self, Request};
use crate::db::{Ledger, extend as rule, ledger, running};

/// Where the store is.
#[derive(Debug, clap::Args)]
struct Place {
    /// The `ExecutionStore`, by the current kube context; it counts before the database.
    #[arg(long, value_name = "NAMESPACE/NAME")]
    store: Option<StoreName>,
    #[command(flatten)]
    direct: direct::Target,
}

/// Whom to give more time.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  jobexec extend 39 --by 6h                     a rule in jobexec.rules of DATABASE_URL
  jobexec extend 39 --by 6h --store prod/jobs   spec.extendBy of its JobExecution, which is made if there is none
  jobexec extend 39 --by 0s                     take it back

The time is the whole extension, so that saying it twice adds nothing. It is added to whatever timeout the execution has,
and counts as long as it runs.")]
pub(super) struct Extend {
    /// The id of the execution.
    #[arg(allow_hyphen_values = true)]
    id: String,
    /// How much is added to its timeout, for example 1h30m.
    #[arg(long, value_name = "DURATION")]
    by: Duration,
    #[command(flatten)]
    place: Place,
}

/// Which executions to cancel.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  jobexec cancel 39                      in the table of DATABASE_URL, at once
  jobexec cancel 39 --store prod/jobs    spec.cancel of its JobExecution, which is made if there is none

What runs or waits becomes cancelled. A worker that finishes at the same moment wins; nobody stops its process.

Exit status: 0 cancelled; 1 one of them was not.")]
pub(super) struct Cancel {
    /// The ids of the executions.
    #[arg(required = true, allow_hyphen_values = true, value_name = "ID")]
    ids: Vec<String>,
    #[command(flatten)]
    place: Place,
}

/// Whose breaker to close.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  jobexec resume                      take back the pause in jobexec.stores: the next sweep counts anew
  jobexec resume --store prod/jobs    let the operator go on, however many are stale

`jobexec cleanup --dry-run` shows what the sweep would end.")]
pub(super) struct Resume {
    #[command(flatten)]
    place: Place,
}

/// Gives an execution more time.
pub(super) async fn extend(args: Extend) -> Result<(), CliError> {
    let by = duration::format(args.by.to_chrono());
    if let Some(store) = args.place.store {
        let object = Cluster::open(store).await?.extend(&args.id, &args.by).await?;
        return print(&format!("{object}: extendBy {by}\n"));
    }
    let mut store = Direct::open(args.place.direct).await?;
    let id = store.id(&args.id)?;
    let store_id = match store.enlist().await? {
        Ledger::Tables { store_id } => *store_id,
        Ledger::Missing(why) => return Err(CliError::NotRecorded(why.clone())),
    };
    rule::prune(&store.database, &store.mapping, store_id).await?;
    let request = rule::Request { id: id.clone(), by: args.by.to_chrono(), who: user(), actor: person() };
    let text = match rule::extend(&store.database, &store.mapping, store_id, &request).await? {
        rule::Outcome::Extended(_) => format!("execution {id} is extended by {by}\n"),
        rule::Outcome::Governed(object) => {
            return Err(CliError::NotDone(format!(
                "{object} extends {id}, and counts: change its spec.extendBy"
            )));
        }
        rule::Outcome::NotAlive => return Err(why_not(&store, &id).await?),
    };
    store.close().await;
    print(&text)
}

/// Cancels executions.
pub(super) async fn cancel(args: Cancel) -> Result<Done, CliError> {
    if let Some(store) = args.place.store {
        let cluster = Cluster::open(store).await?;
        for id in &args.ids {
            let object = cluster.cancel(id).await?;
            print(&format!("{object}: cancel asked for\n"))?;
        }
        return Ok(Done::Well);
    }
    let mut store = Direct::open(args.place.direct).await?;
    let ids = args.ids.iter().map(|id| store.id(id)).collect::<Result<Vec<_>, _>>()?;
    if !store.mapping.can_cancel() {
        return Err(CliError::NotDone(
            "the table has no text for cancelled executions that fits: see spec.table.statuses.cancelled"
                .to_owned(),
        ));
    }
    if let Some(problem) = &store.unwritable {
        return Err(problem.clone().into());
    }
    if let Ledger::Missing(why) = store.enlist().await? {
        say(&format!("jobexec: this is not recorded, since {why}"));
    }
    let request = |key: &String| Request {
        key: key.clone(),
        source: super::cleanup::SOURCE.to_owned(),
        actor: Some(person()),
    };
    let requests: Vec<Request> = ids.iter().map(request).collect();
    let outcome = cancel::cancel(&store.database, &store.mapping, &store.ledger, &requests).await?;
    let mut done = Done::Well;
    for id in &ids {
        if outcome.cancelled.iter().any(|row| row.id == *id) {
            print(&format!("execution {id} is cancelled\n"))?;
            continue;
        }
        done = Done::Incomplete;
        match outcome.refused.iter().find(|(refused, _)| refused == id) {
            Some((_, why)) => say(&format!("jobexec: execution {id} was not cancelled: {why}")),
            None => say(&format!("jobexec: {}", why_not(&store, id).await?)),
        }
    }
    store.close().await;
    Ok(done)
}

/// Why nothing was done to an execution that should run or wait.
async fn why_not(store: &Direct, id: &str) -> Result<CliError, CliError> {
    let found = running::look(&store.database, &store.judge(), vec![id.to_owned()]).await?;
    Ok(match found.first() {
        None => CliError::NoExecution(id.to_owned()),
        Some(row) if matches!(row.phase, Phase::Running | Phase::Scheduled) => CliError::NotDone(format!(
            "another transaction holds execution {id}, perhaps to finish it: run this again"
        )),
        Some(row) => CliError::NotDone(format!("execution {id} has ended, it is {}", row.status)),
    })
}

/// Closes the breaker.
pub(super) async fn resume(args: Resume) -> Result<(), CliError> {
    if let Some(store) = args.place.store {
        let object = Cluster::open(store).await?.resume().await?;
        return print(&format!("{object}: asked to go on\n"));
    }
    let store = Direct::open(args.place.direct).await?;
    let store_id = match &store.ledger {
        Ledger::Tables { store_id } => *store_id,
        Ledger::Missing(why) => return Err(CliError::NotRecorded(why.clone())),
    };
    let Some(why) = ledger::paused(&store.database, store_id).await? else {
        store.close().await;
        return print("the breaker is closed: nothing is paused\n");
    };
    ledger::pause(&store.database, store_id, None).await?;
    store.close().await;
    print(&format!("the pause is taken back ({why}); the next sweep counts anew\n"))
}
