//! `jobexec extend`, `jobexec cancel`, `jobexec resume` and `jobexec adopt`: what a person wants of an execution or of a store. With a
//! cluster it is said to the object; without one it is a rule, or the guarded SQL.

use serde::Serialize;

use super::cluster::Cluster;
use super::direct::{self, Direct};
use super::output::{Output, Printer, plain, print, say};
use super::{CliError, Done, person, user};
use crate::api::{Duration, Phase, duration};
use crate::db::adopt::{self, How, Outcome};
use crate::db::cancel::{self, Request};
use crate::db::own::Fault;
use crate::db::{Ledger, extend as rule, ledger, running};
use crate::http::wire::StoreName;

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
and counts as long as it runs: a timeout that is shortened later does not move the deadline before what it is now.")]
pub(super) struct Extend {
    /// The id of the execution.
    #[arg(allow_negative_numbers = true)]
    id: String,
    /// How much is added to its timeout, for example 1h30m.
    #[arg(long, value_name = "DURATION")]
    by: Duration,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    output: Output,
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
    #[arg(required = true, allow_negative_numbers = true, value_name = "ID")]
    ids: Vec<String>,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    output: Output,
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
    #[command(flatten)]
    output: Output,
}

/// What was done, or asked for.
#[derive(Serialize)]
struct Told {
    /// The execution; `None`: it is about the store.
    id: Option<String>,
    /// The object that it was said to, where it was said to one.
    object: Option<String>,
    /// For a person.
    message: String,
}

impl Told {
    fn name(&self) -> Option<&str> {
        self.id.as_deref().or(self.object.as_deref())
    }
}

/// Tells it: a sentence for people, else like all other results. What is done does not depend on who reads of it: once
/// nothing can be printed the work goes on, and nothing more is.
struct Teller {
    people: bool,
    printer: Printer<Told>,
    failed: Option<CliError>,
}

impl Teller {
    fn new(output: Output) -> Self {
        let printer = Printer::new(output, Vec::new(), Told::name);
        Self { people: output.format.for_people(), printer, failed: None }
    }

    fn tell(&mut self, id: Option<&str>, object: Option<String>, message: String) {
        if self.failed.is_some() {
            return;
        }
        let told = if self.people {
            print(&format!("{message}\n"))
        } else {
            self.printer.rows(&[Told { id: id.map(str::to_owned), object, message }])
        };
        self.failed = told.err();
    }

    /// That it could not be told is an error, unless the reader has gone.
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

/// Says that what was done is in no history, if that is so.
pub(super) fn say_of_fault(fault: Option<&Fault>) {
    if let Some(fault) = fault {
        say(&format!("jobexec: it is done, and not recorded: {}", plain(&fault.to_string())));
    }
}

/// Gives an execution more time.
pub(super) async fn extend(args: Extend) -> Result<(), CliError> {
    let by = duration::format(args.by.to_chrono());
    let mut teller = Teller::new(args.output);
    if let Some(store) = args.place.store {
        args.place.direct.beside_a_store()?;
        let object = Cluster::open(store).await?.extend(&args.id, &args.by).await?;
        teller.tell(Some(&args.id), Some(object.clone()), format!("{object}: extendBy {by}"));
        return teller.end();
    }
    let mut store = Direct::open(args.place.direct).await?;
    store.certain()?;
    let id = store.id(&args.id)?;
    let store_id = match store.enlist().await? {
        Ledger::Tables { store_id, .. } => *store_id,
        Ledger::Missing(why) => return Err(CliError::NotRecorded(why.clone())),
    };
    rule::prune(&store.database, &store.mapping, store_id).await?;
    let request = rule::Request { id: id.clone(), by: args.by.to_chrono(), who: user(), actor: person() };
    let (outcome, fault) =
        rule::extend(&store.database, &store.mapping, store.in_force(), store_id, &request).await?;
    say_of_fault(fault.as_ref());
    match outcome {
        rule::Outcome::Extended(_) => {}
        rule::Outcome::Governed(object) => {
            return Err(CliError::NotDone(format!(
                "{object} extends {id}, and counts: change its spec.extendBy"
            )));
        }
        rule::Outcome::NotAlive => return Err(why_not(&store, &id).await?),
    }
    store.close().await;
    teller.tell(Some(&id), None, format!("execution {id} is extended by {by}"));
    teller.end()
}

/// Cancels executions.
pub(super) async fn cancel(args: Cancel) -> Result<Done, CliError> {
    let mut teller = Teller::new(args.output);
    let done = if let Some(store) = args.place.store {
        args.place.direct.beside_a_store()?;
        let cluster = Cluster::open(store).await?;
        for id in &args.ids {
            let object = cluster.cancel(id).await?;
            teller.tell(Some(id), Some(object.clone()), format!("{object}: cancel asked for"));
        }
        Done::Well
    } else {
        Box::pin(cancel_directly(&args.ids, args.place.direct, &mut teller)).await?
    };
    teller.end()?;
    Ok(done)
}

async fn cancel_directly(
    ids: &[String],
    target: direct::Target,
    teller: &mut Teller,
) -> Result<Done, CliError> {
    let mut store = Direct::open(target).await?;
    let ids = ids.iter().map(|id| store.id(id)).collect::<Result<Vec<_>, _>>()?;
    if !store.mapping.can_cancel() {
        return Err(CliError::NotDone(
            "the table has no text for cancelled executions that fits: see spec.table.statuses.cancelled"
                .to_owned(),
        ));
    }
    store.prepare_to_write().await?;
    let source = direct::SOURCE;
    let request = |key: &String| Request {
        key: key.clone(),
        source: source.to_owned(),
        actor: Some(person()),
        started: None,
    };
    let requests: Vec<Request> = ids.iter().map(request).collect();
    let outcome = cancel::cancel(&store.database, &store.mapping, &store.ledger, &requests).await?;
    say_of_fault(outcome.fault.as_ref());
    let mut done = Done::Well;
    for id in &ids {
        if outcome.cancelled.iter().any(|row| row.id == *id) {
            teller.tell(Some(id), None, format!("execution {id} is cancelled"));
            continue;
        }
        done = Done::Incomplete;
        match outcome.refused.iter().find(|(refused, _)| refused == id) {
            Some((_, why)) => say(&format!("jobexec: execution {id} was not cancelled: {}", plain(why))),
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
        Some(row) if matches!(row.phase, Phase::Running | Phase::Scheduled | Phase::Paused) => {
            CliError::NotDone(format!(
                "another transaction holds execution {id}, perhaps to finish it: run this again"
            ))
        }
        Some(row) => CliError::NotDone(format!("execution {id} has ended, it is {}", row.status)),
    })
}

/// Of which table to take over what another store has left.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:
  jobexec adopt --table app.runs                have delivered what another store had written
  jobexec adopt --table app.runs --discard      drop it, as in a copy of the database
  jobexec adopt --store prod/jobs --discard     the same, by the operator

What another ExecutionStore had written for a table is not delivered by the one that claims it now: that may be a copy of
another database, whose people are told by the original. A claim that nobody has confirmed for two and a half minutes ends
by it; one that is confirmed stays.")]
pub(super) struct Adopt {
    /// Drop it: nobody is told.
    #[arg(long)]
    discard: bool,
    #[command(flatten)]
    place: Place,
    #[command(flatten)]
    output: Output,
}

/// Takes over, or drops, what another store has left.
pub(super) async fn adopt(args: Adopt) -> Result<(), CliError> {
    let mut teller = Teller::new(args.output);
    let how = if args.discard { How::Discard } else { How::TakeOver };
    if let Some(store) = args.place.store {
        args.place.direct.beside_a_store()?;
        let object = Cluster::open(store).await?.adopt(how).await?;
        teller.tell(
            None,
            Some(object.clone()),
            format!("{object}: asked to adopt; status.observedAdopt says when that is done"),
        );
        return teller.end();
    }
    let named = args.place.direct.names_the_table();
    let store = Direct::open(args.place.direct).await?;
    // How its rows are read does not matter.
    if !named {
        store.certain()?;
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
                why.unwrap_or_else(|| "nothing is recorded of this table".to_owned()),
            ));
        }
    };
    teller.tell(None, None, message);
    teller.end()
}

/// Closes the breaker.
pub(super) async fn resume(args: Resume) -> Result<(), CliError> {
    let mut teller = Teller::new(args.output);
    if let Some(store) = args.place.store {
        args.place.direct.beside_a_store()?;
        let object = Cluster::open(store).await?.resume().await?;
        teller.tell(None, Some(object.clone()), format!("{object}: asked to go on"));
        return teller.end();
    }
    let store = Direct::open(args.place.direct).await?;
    let store_id = match &store.ledger {
        Ledger::Tables { store_id, .. } => *store_id,
        Ledger::Missing(why) => return Err(CliError::NotRecorded(why.clone())),
    };
    let message = match ledger::paused(&store.database, store_id).await? {
        None => "the breaker is closed: nothing is paused".to_owned(),
        Some(why) => {
            ledger::pause(&store.database, store_id, false, None).await?;
            format!("the pause is taken back ({why}); the next sweep counts anew")
        }
    };
    store.close().await;
    teller.tell(None, None, message);
    teller.end()
}
