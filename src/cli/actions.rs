//! `jobexec extend`, `jobexec cancel`, `jobexec resume` and `jobexec adopt`: actions on an execution or a store. With
//! `--store` they patch the Kubernetes object; without it they write a rule or run the guarded SQL.

use serde::Serialize;

use super::cluster::Cluster;
use super::direct::{self, Direct};
use super::output::{Output, Printer, eprint, escape_control, print};
use super::{CliError, CommandResult, actor, user};
use crate::api::duration::NEVER;
use crate::api::{Duration, Phase, duration};
use crate::db::adopt::{self, How, Outcome};
use crate::db::cancel::{self, Request};
use crate::db::own::Fault;
use crate::db::{Ledger, extend as rule, ledger, running};
use crate::http::types::StoreName;

/// The options that select a store.
#[derive(Debug, clap::Args)]
struct StoreArgs {
    /// The `ExecutionStore` in the current kube context; takes precedence over the database.
    #[arg(long, value_name = "NAMESPACE/NAME")]
    store: Option<StoreName>,
    #[command(flatten)]
    direct: direct::Target,
}

/// The options of `jobexec extend`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  jobexec extend 39 --by 6h                     write a rule to jobexec.rules in DATABASE_URL
  jobexec extend 39 --by 6h --store prod/jobs   set spec.extendBy of its JobExecution, which is created if necessary
  jobexec extend 39 --by 0s                     revoke the extension

The duration is the whole extension: running the command twice adds nothing. It is added to the timeout of the execution
and applies as long as the execution runs: a timeout that is shortened later does not move the deadline before its current
value.")]
pub(super) struct Extend {
    /// The id of the execution.
    #[arg(allow_negative_numbers = true)]
    id: String,
    /// How much to add to its timeout, for example 1h30m.
    #[arg(long, value_name = "DURATION")]
    by: Duration,
    #[command(flatten)]
    target: StoreArgs,
    #[command(flatten)]
    output: Output,
}

/// The options of `jobexec cancel`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  jobexec cancel 39                      cancel it in the table of DATABASE_URL at once
  jobexec cancel 39 --store prod/jobs    set spec.cancel of its JobExecution, which is created if necessary

Running and waiting executions become cancelled. A worker that finishes at the same moment wins; its process is not stopped.

Exit status: 0 cancelled; 1 at least one of them was not.")]
pub(super) struct Cancel {
    /// The ids of the executions.
    #[arg(required = true, allow_negative_numbers = true, value_name = "ID")]
    ids: Vec<String>,
    #[command(flatten)]
    target: StoreArgs,
    #[command(flatten)]
    output: Output,
}

/// The options of `jobexec resume`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  jobexec resume                      close the breaker in jobexec.stores: the next sweep counts again
  jobexec resume --store prod/jobs    let the operator continue, however many executions are stale

`jobexec cleanup --dry-run` shows what the sweep would end.")]
pub(super) struct Resume {
    #[command(flatten)]
    target: StoreArgs,
    #[command(flatten)]
    output: Output,
}

/// The result of an action, as printed.
#[derive(Serialize)]
struct ActionResult {
    /// The execution; `None` for an action on the store.
    id: Option<String>,
    /// The Kubernetes object that was patched, if any.
    object: Option<String>,
    /// A sentence for people.
    message: String,
}

impl ActionResult {
    fn name(&self) -> Option<&str> {
        self.id.as_deref().or(self.object.as_deref())
    }
}

/// Prints results: a sentence for people, otherwise the format of all other commands. An action does not depend on its
/// reader: once printing fails, the work continues and nothing more is printed.
struct Reporter {
    people: bool,
    printer: Printer<ActionResult>,
    failed: Option<CliError>,
}

impl Reporter {
    fn new(output: Output) -> Self {
        let printer = Printer::new(output, Vec::new(), ActionResult::name);
        Self { people: output.format.is_for_people(), printer, failed: None }
    }

    fn report(&mut self, id: Option<&str>, object: Option<String>, message: String) {
        if self.failed.is_some() {
            return;
        }
        let printed = if self.people {
            print(&format!("{message}\n"))
        } else {
            self.printer.rows(&[ActionResult { id: id.map(str::to_owned), object, message }])
        };
        self.failed = printed.err();
    }

    /// Finishes the output. A failure to print is an error, unless it is a broken pipe.
    fn end(self) -> Result<(), CliError> {
        let ended = match self.failed {
            Some(error) => Err(error),
            None if self.people => Ok(()),
            None => self.printer.end("").map(drop),
        };
        match ended {
            Err(error) if error.is_broken_pipe() => Ok(()),
            ended => ended,
        }
    }
}

/// Warns if the action was done but not recorded.
pub(super) fn warn_if_unrecorded(fault: Option<&Fault>) {
    if let Some(fault) = fault {
        eprint(&format!("jobexec: done, but not recorded: {}", escape_control(&fault.to_string())));
    }
}

/// Gives an execution more time.
pub(super) async fn extend(args: Extend) -> Result<(), CliError> {
    let by = duration::format(args.by.to_chrono());
    let mut reporter = Reporter::new(args.output);
    if let Some(store) = args.target.store {
        args.target.direct.reject_with_store()?;
        let (object, never_by) = Cluster::open(store).await?.extend(&args.id, &args.by).await?;
        let message = format!("{object}: extendBy {by}{}", unless_never(never_by.as_deref()));
        reporter.report(Some(&args.id), Some(object), message);
        return reporter.end();
    }
    let mut store = Direct::open(args.target.direct).await?;
    store.check_certain()?;
    let id = store.id(&args.id)?;
    let store_id = match store.register().await? {
        Ledger::Tables { store_id, .. } => *store_id,
        Ledger::Missing(why) => return Err(CliError::NotRecorded(why.clone())),
    };
    rule::prune(&store.database, &store.mapping, store_id).await?;
    let found = running::look(&store.database, &store.predicate(), vec![id.clone()]).await?;
    let never_by = found.first().filter(|execution| execution.never_ends());
    let never_by = never_by.map(|execution| execution.timeout_source.as_str());
    let request = rule::Request { id: id.clone(), by: args.by.to_chrono(), who: user(), actor: actor() };
    let (outcome, fault) =
        rule::extend(&store.database, &store.mapping, store.effective_rules(), store_id, &request).await?;
    warn_if_unrecorded(fault.as_ref());
    match outcome {
        rule::Outcome::Extended(_) => {}
        rule::Outcome::Governed(object) => {
            return Err(CliError::NotDone(format!(
                "{object} already extends execution {id} and takes precedence: change its spec.extendBy"
            )));
        }
        rule::Outcome::NotAlive => return Err(explain_refusal(&store, &id).await?),
    }
    let message = format!("execution {id} is extended by {by}{}", unless_never(never_by));
    store.close().await;
    reporter.report(Some(&id), None, message);
    reporter.end()
}

/// Says that an extension adds nothing while an execution has no deadline by this object.
fn unless_never(by: Option<&str>) -> String {
    by.map_or(String::new(), |source| {
        format!(", which adds nothing as long as its timeout is {NEVER} ({source}): it has no deadline")
    })
}

/// Cancels executions.
pub(super) async fn cancel(args: Cancel) -> Result<CommandResult, CliError> {
    let mut reporter = Reporter::new(args.output);
    let done = if let Some(store) = args.target.store {
        args.target.direct.reject_with_store()?;
        let cluster = Cluster::open(store).await?;
        for id in &args.ids {
            let object = cluster.cancel(id).await?;
            reporter.report(Some(id), Some(object.clone()), format!("{object}: cancel requested"));
        }
        CommandResult::Ok
    } else {
        Box::pin(cancel_directly(&args.ids, args.target.direct, &mut reporter)).await?
    };
    reporter.end()?;
    Ok(done)
}

async fn cancel_directly(
    ids: &[String],
    target: direct::Target,
    reporter: &mut Reporter,
) -> Result<CommandResult, CliError> {
    let mut store = Direct::open(target).await?;
    let ids = ids.iter().map(|id| store.id(id)).collect::<Result<Vec<_>, _>>()?;
    if !store.mapping.can_cancel() {
        return Err(CliError::NotDone(
            "the table has no usable status for cancelled executions: set spec.table.statuses.cancelled"
                .to_owned(),
        ));
    }
    store.prepare_to_write().await?;
    let source = direct::SOURCE;
    let request = |key: &String| Request {
        key: key.clone(),
        source: source.to_owned(),
        actor: Some(actor()),
        started: None,
    };
    let requests: Vec<Request> = ids.iter().map(request).collect();
    let outcome = cancel::cancel(&store.database, &store.mapping, &store.ledger, &requests).await?;
    warn_if_unrecorded(outcome.fault.as_ref());
    let mut done = CommandResult::Ok;
    for id in &ids {
        if outcome.cancelled.iter().any(|row| row.id == *id) {
            reporter.report(Some(id), None, format!("execution {id} is cancelled"));
            continue;
        }
        done = CommandResult::Partial;
        match outcome.refused.iter().find(|(refused, _)| refused == id) {
            Some((_, why)) => {
                eprint(&format!("jobexec: execution {id} was not cancelled: {}", escape_control(why)));
            }
            None => eprint(&format!("jobexec: {}", explain_refusal(&store, id).await?)),
        }
    }
    store.close().await;
    Ok(done)
}

/// Explains why nothing was done to an execution.
async fn explain_refusal(store: &Direct, id: &str) -> Result<CliError, CliError> {
    let found = running::look(&store.database, &store.predicate(), vec![id.to_owned()]).await?;
    Ok(match found.first() {
        None => CliError::NoExecution(id.to_owned()),
        Some(row) if matches!(row.phase, Phase::Running | Phase::Scheduled | Phase::Paused) => {
            CliError::NotDone(format!(
                "another transaction has locked execution {id}, perhaps to finish it: run this command again"
            ))
        }
        Some(row) => {
            CliError::NotDone(format!("execution {id} has already ended with status {}", row.status))
        }
    })
}

/// The options of `jobexec adopt`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  jobexec adopt --table app.runs --discard      this database is a copy: discard what came along, deliver nothing
  jobexec adopt --table app.runs                this database has moved: take it over, deliver the messages
  jobexec adopt --store prod/jobs --discard     the same as the first one, by the operator

The messages that another ExecutionStore has left for a table are not delivered, because the database may be a copy, and the
original notifies the same people. This command takes such messages over, or discards them; the same with the record that
another table by this name has left: its history, and the extensions of executions. It also ends a claim that nobody has
confirmed for two and a half minutes; a claim that is confirmed stays.")]
pub(super) struct Adopt {
    /// Discard it: deliver no messages.
    #[arg(long)]
    discard: bool,
    #[command(flatten)]
    target: StoreArgs,
    #[command(flatten)]
    output: Output,
}

/// Takes over, or drops, the records of another store.
pub(super) async fn adopt(args: Adopt) -> Result<(), CliError> {
    let mut reporter = Reporter::new(args.output);
    let how = if args.discard { How::Discard } else { How::TakeOver };
    if let Some(store) = args.target.store {
        args.target.direct.reject_with_store()?;
        let object = Cluster::open(store).await?.adopt(how).await?;
        reporter.report(
            None,
            Some(object.clone()),
            format!("{object}: asked to adopt; status.observedAdopt says when that is done"),
        );
        return reporter.end();
    }
    let named = args.target.direct.names_table();
    let store = Direct::open(args.target.direct).await?;
    // The mapping of its columns does not matter here.
    if !named {
        store.check_certain()?;
    }
    let outcome = store.database.within(adopt::adopt(&store.database, &store.mapping, None, how)).await?;
    store.close().await;
    let message = match outcome {
        Outcome::Done(adopted) => {
            let told = adopted.told(how);
            let again = adopted.released.is_some() && how == How::Discard;
            let again = if again { "; run this again once a store has claimed the table" } else { "" };
            format!("{told}{again}")
        }
        Outcome::Claimed(holder) => {
            return Err(CliError::NotDone(format!(
                "the ExecutionStore {}/{} manages this table",
                holder.namespace, holder.name
            )));
        }
        Outcome::Nothing(why) => {
            return Err(CliError::NotRecorded(
                why.unwrap_or_else(|| "no store has recorded anything about this table".to_owned()),
            ));
        }
    };
    reporter.report(None, None, message);
    reporter.end()
}

/// Closes the circuit breaker.
pub(super) async fn resume(args: Resume) -> Result<(), CliError> {
    let mut reporter = Reporter::new(args.output);
    if let Some(store) = args.target.store {
        args.target.direct.reject_with_store()?;
        let object = Cluster::open(store).await?.resume().await?;
        reporter.report(None, Some(object.clone()), format!("{object}: resume requested"));
        return reporter.end();
    }
    let store = Direct::open(args.target.direct).await?;
    let store_id = match &store.ledger {
        Ledger::Tables { store_id, .. } => *store_id,
        Ledger::Missing(why) => return Err(CliError::NotRecorded(why.clone())),
    };
    let message = match ledger::breaker::paused(&store.database, store_id).await? {
        None => "the circuit breaker is closed: enforcement is not paused".to_owned(),
        Some(why) => {
            ledger::breaker::pause(&store.database, store_id, false, None).await?;
            format!("the circuit breaker is closed again (it was open: {why}); the next sweep counts again")
        }
    };
    store.close().await;
    reporter.report(None, None, message);
    reporter.end()
}
