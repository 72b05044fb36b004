//! The state of the operator's tables, from the view of a login.

use sqlx::PgConnection;

use super::super::{Database, DbError};
use super::migrations::{FIRST, MIGRATIONS};
use super::refusal::Refusal;
use super::{grants, trust};

/// The state of the operator's tables.
pub(super) enum State {
    Ready,
    /// Everything required exists, but something optional is missing.
    Behind {
        may_create: bool,
    },
    Missing {
        may_create: bool,
    },
    /// The tables exist, but this login lacks a privilege.
    Forbidden(String),
    /// The tables exist, but must not be used.
    Refused(Refusal),
}

/// Reads only the catalog until it is known what belongs to somebody else and which privileges the login has, because reading a
/// table without the privilege is an error. `owner` is the owner of the schema that the spec names.
pub(super) async fn read(database: &Database, owner: Option<&str>) -> Result<State, DbError> {
    let mut tx = database.read().await?;
    let reading = trust::read(&mut tx, owner).await?;
    let (exists, usage, may_create): (bool, bool, bool) =
        sqlx::query_as(include_str!("namespace.sql")).persistent(false).fetch_one(&mut *tx).await?;
    if !exists {
        return Ok(State::Missing { may_create });
    }
    if may_create && reading.only_lacks() {
        return Ok(State::Missing { may_create });
    }
    if let Some(refusal) = reading.refusal(false) {
        return Ok(State::Refused(refusal));
    }
    if !usage {
        return Ok(State::Forbidden("the schema jobexec".to_owned()));
    }
    if let Some(lacking) = lacking(&mut tx, may_create).await? {
        return Ok(lacking);
    }
    let (version, whole): (Option<i64>, bool) = sqlx::query_as(include_str!("version.sql"))
        .bind(grants::EXTRA.map(|(table, _)| table))
        .persistent(false)
        .fetch_one(&mut *tx)
        .await?;
    tx.commit().await?;
    let newest = MIGRATIONS.last().map(|(version, ..)| *version);
    Ok(match version {
        version if version < Some(FIRST) => State::Missing { may_create },
        version if version >= newest && whole => State::Ready,
        _ => State::Behind { may_create },
    })
}

/// Returns the state for the first required table that does not exist, or on which the login lacks a privilege.
async fn lacking(tx: &mut PgConnection, may_create: bool) -> Result<Option<State>, DbError> {
    let all_held: Vec<Option<bool>> = sqlx::query_scalar(include_str!("privileges.sql"))
        .bind(grants::NEEDED.map(|(table, _)| table))
        .bind(grants::NEEDED.map(|(_, rights)| rights))
        .persistent(false)
        .fetch_all(tx)
        .await?;
    for ((table, rights), held) in grants::NEEDED.iter().zip(all_held) {
        match held {
            None => return Ok(Some(State::Missing { may_create })),
            Some(false) => return Ok(Some(State::Forbidden(format!("jobexec.{table} ({rights})")))),
            Some(true) => {}
        }
    }
    Ok(None)
}
