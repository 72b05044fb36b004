//! Checks whether the operator's tables can be used, and creates them if the login may.

use super::refusal::Refusal;
use super::state::State;
use super::{build, state, trust};
use crate::db::{Database, DbError};

/// The time limit of one statement when an operator creates or extends its tables: an index takes a second for a million records,
/// and nothing is recorded meanwhile. When a person runs the command, there is no limit.
const STATEMENT_TIMEOUT: &str = "1min";

/// The remedy that an administrator can apply.
const HINT: &str = "have an administrator run `jobexec schema --apply --role` with this login's name";

/// The reason why the operator's tables cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lack {
    /// The tables do not exist, or this login is not allowed to use them.
    Missing(String),
    /// The tables exist, but nothing in them can be trusted.
    Refused(Refusal),
}

impl Lack {
    /// Returns the reason in a sentence.
    pub fn why(&self) -> &str {
        match self {
            Self::Missing(why) | Self::Refused(Refusal { why, .. }) => why,
        }
    }
}

/// Ensures that the operator's tables exist and can be trusted; creates or extends them if the login may. Returns the reason if
/// they cannot be used. `owner` is the owner of the schema that the spec names.
pub async fn ensure(database: &Database, owner: Option<&str>) -> Result<Option<Lack>, DbError> {
    let missing = |why: String| Ok(Some(Lack::Missing(why)));
    match state::read(database, owner).await? {
        State::Ready => Ok(None),
        State::Behind { may_create } => {
            let lacks = "the schema jobexec is behind: nobody is notified, no health over time is kept, or indexes are lacking";
            if !may_create {
                tracing::info!("{lacks}; {HINT}");
            } else if let Err(error) = build::build(database, owner, STATEMENT_TIMEOUT).await {
                tracing::warn!(%error, "{lacks}; {HINT}");
            }
            Ok(None)
        }
        State::Missing { may_create: true } => match build::build(database, owner, STATEMENT_TIMEOUT).await {
            Ok(()) => Ok(None),
            Err(error) => missing(format!("the schema jobexec could not be created ({error}); {HINT}")),
        },
        State::Missing { may_create: false } => missing(format!(
            "the schema jobexec is missing or too old, and this login may not create it; {HINT}"
        )),
        State::Forbidden(what) => missing(format!("this login may not use {what}; {HINT}")),
        State::Refused(refusal) => Ok(Some(Lack::Refused(refusal))),
    }
}

/// Returns the reason if this login cannot use the operator's tables as they are. Creates nothing.
pub async fn lacking(database: &Database, owner: Option<&str>) -> Result<Option<Lack>, DbError> {
    Ok(match state::read(database, owner).await? {
        State::Ready | State::Behind { .. } => None,
        State::Missing { .. } => Some(Lack::Missing(
            "the schema jobexec is missing or too old: run `jobexec schema --apply`".to_owned(),
        )),
        State::Forbidden(what) => Some(Lack::Missing(format!(
            "this login may not use {what}: run `jobexec schema --apply --role` with its name"
        ))),
        State::Refused(refusal) => Some(Lack::Refused(refusal)),
    })
}

/// Returns the reason if the operator's tables exist but must not be used. Reads only the catalog.
pub async fn refused(database: &Database, owner: Option<&str>) -> Result<Option<Refusal>, DbError> {
    let mut tx = database.read().await?;
    let reading = trust::read(&mut tx, owner).await?;
    tx.commit().await?;
    Ok(reading.refusal(false))
}
