//! Adoption of what another `ExecutionStore` left in the operator's tables for a table of executions: its claim, the messages that
//! it posted and did not deliver, the sweeps that it did not announce, and the record of another table by this name. When a person
//! requests it with `jobexec adopt` or the annotation `jobexec.dev/adopt`, the store that claims the table takes it over or
//! discards it.

mod records;

use records::Whose;
use sqlx::{AssertSqlSafe, PgConnection};

use super::identity::Left;
use super::ledger::{self, Entered, Holder, Registered, StoreIdentity};
use super::{Database, DbError, Mapping, schema};

/// The way to handle what another store left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// The store that claims the table takes it over, and delivers its messages.
    TakeOver,
    /// It is deleted, and nobody is notified.
    Discard,
}

impl How {
    /// Returns what the value of the annotation requests.
    pub fn of(value: &str) -> Self {
        if value.starts_with(DISCARD) { Self::Discard } else { Self::TakeOver }
    }
}

/// The prefix of an annotation value that requests to discard.
pub const DISCARD: &str = "discard";

/// The result of an adoption.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Adopted {
    /// The store whose claim ended.
    pub released: Option<StoreIdentity>,
    /// The number of messages, plus the posts that are not yet part of a message.
    pub messages: u64,
    /// The number of sweeps that no Event announces.
    pub sweeps: u64,
    /// The records that a table of this name had left behind.
    pub records: Vec<String>,
    /// The records among them that another store confirms as its own.
    pub kept: Vec<String>,
    /// The records among them whose tables were owned by another role than this table.
    pub foreign: Vec<String>,
    /// The records among them that belong to tables in schemas which this login may not use, each with its schema.
    pub closed: Vec<(String, String)>,
}

impl Adopted {
    /// Reports whether everything requested was done.
    pub const fn is_whole(&self) -> bool {
        self.closed.is_empty() && self.foreign.is_empty()
    }

    /// Returns the same as text for people.
    pub fn told(&self, how: How) -> String {
        let Self { released, messages, sweeps, records, kept, foreign, closed } = self;
        let mut parts = Vec::new();
        if let Some(StoreIdentity { namespace, name, .. }) = released {
            parts.push(format!(
                "the claim of the ExecutionStore {namespace}/{name}, which it no longer confirms, has ended"
            ));
        }
        match how {
            How::TakeOver if *messages > 0 => {
                parts.push(format!("{messages} messages and events are the store's now, and are delivered"));
            }
            How::Discard if *messages > 0 => {
                parts.push(format!("{messages} messages and events were dropped"));
            }
            _ => {}
        }
        if *sweeps > 0 {
            parts.push(format!("{sweeps} sweeps are announced as Events"));
        }
        if !records.is_empty() {
            let done =
                if how == How::TakeOver { "is the table's own now" } else { "is gone, or left to its table" };
            parts.push(format!("{} {done}", records.join(", ")));
        }
        if !kept.is_empty() {
            parts.push(format!("{} stays, since that store confirms its claim", kept.join(", ")));
        }
        if !foreign.is_empty() {
            parts.push(format!(
                "{} stays: another role owned its table than owns this one. If it is this table's all the same, run `jobexec adopt` as a \
                 superuser",
                foreign.join(", ")
            ));
        }
        for (record, schema) in closed {
            parts.push(format!(
                "{record} stays, since this login may not use the schema of its table: GRANT USAGE ON SCHEMA {schema} to it, and ask again"
            ));
        }
        if parts.is_empty() {
            return "there is nothing of another ExecutionStore to adopt".to_owned();
        }
        parts.join("; ")
    }
}

/// The outcome of a request to adopt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was done, as far as there was anything to adopt.
    Done(Adopted),
    /// Another store confirms that it manages the table: nothing was done.
    Claimed(StoreIdentity),
    /// Nothing is recorded for the table, for this reason if one is known.
    Nothing(Option<String>),
}

/// Adopts for `who`, the store that claims the table next; without `who`, for the store that has the claim or will get it.
///
/// # Errors
/// Returns the errors of the database. Everything done before the error stays done, and the rest can be requested again.
pub async fn adopt(
    database: &Database,
    mapping: &Mapping,
    who: Option<&StoreIdentity>,
    how: How,
) -> Result<Outcome, DbError> {
    if let Some(lack) = schema::lacking(database, mapping.schema_owner()).await? {
        return Ok(Outcome::Nothing(Some(lack.why().to_owned())));
    }
    let mut tx = database.write().await?;
    if ledger::enter(&mut tx, mapping).await? == Entered::Hidden {
        return Ok(Outcome::Nothing(Some(ledger::HIDDEN.to_owned())));
    }
    let Some(Registered { store_id, holder, .. }) = ledger::registered(&mut tx, mapping).await? else {
        return Ok(Outcome::Nothing(None));
    };
    let left = ledger::left_behind(&mut tx, mapping, Some(store_id)).await?;
    let own = who.map(|who| &who.uid).or(holder.as_ref().map(|holder| &holder.claimant.uid)).cloned();
    let plan = match plan(holder, who, how) {
        Ok(plan) => plan,
        Err(holder) => return Ok(Outcome::Claimed(holder)),
    };
    let mut adopted = Adopted::default();
    if let Some(holder) = plan.release {
        release(&mut tx, mapping, store_id).await?;
        adopted.released = Some(holder);
    }
    (adopted.messages, adopted.sweeps) = match how {
        How::TakeOver => take_over(&mut tx, store_id, plan.own.as_deref(), plan.new.as_deref()).await?,
        How::Discard => (discard(&mut tx, store_id, plan.own.as_deref()).await?, 0),
    };
    tx.commit().await?;
    let (anothers, own): (Vec<Left>, _) = left.into_iter().partition(|left| is_anothers(left, own.as_ref()));
    adopted.kept = anothers.iter().map(Left::to_string).collect();
    for left in own {
        adopt_record(database, &left, store_id, plan.new.as_deref(), how, &mut adopted).await?;
    }
    Ok(Outcome::Done(adopted))
}

/// Adopts or discards the record of another table.
async fn adopt_record(
    database: &Database,
    left: &Left,
    store_id: i64,
    uid: Option<&str>,
    how: How,
    adopted: &mut Adopted,
) -> Result<(), DbError> {
    if !records::may_change(database, left.store_id).await? {
        adopted.foreign.push(left.to_string());
        return Ok(());
    }
    adopted.messages += match how {
        How::TakeOver => records::take_over(database, store_id, left.store_id, uid).await?,
        How::Discard if left.now_called.is_some() => {
            if let Some(schema) = records::leave(database, left.store_id).await? {
                adopted.closed.push((left.to_string(), schema));
                return Ok(());
            }
            0
        }
        How::Discard => records::delete(database, left.store_id).await?,
    };
    adopted.records.push(left.to_string());
    Ok(())
}

/// Reports whether another store confirms that it manages the table of the record. Nobody manages a table that is gone.
fn is_anothers(left: &Left, own: Option<&String>) -> bool {
    let other = left.claimant.as_ref().is_some_and(|claimant| Some(&claimant.uid) != own);
    left.confirmed && left.now_called.is_some() && other
}

/// The steps of an adoption.
#[derive(Debug, PartialEq, Eq)]
struct Plan {
    /// The store whose claim ends.
    release: Option<StoreIdentity>,
    /// Rows with this UID, or without a UID, do not belong to another store.
    own: Option<String>,
    /// The UID that rows get when they are taken over.
    new: Option<String>,
}

/// Decides the steps, or returns the store that manages the table.
fn plan(holder: Option<Holder>, who: Option<&StoreIdentity>, how: How) -> Result<Plan, StoreIdentity> {
    let (holder, silent) = match holder {
        Some(Holder { claimant, silent, .. }) => (Some(claimant), silent),
        None => (None, true),
    };
    if let Some(who) = who {
        let other = holder.filter(|holder| holder.uid != who.uid);
        let uid = Some(who.uid.clone());
        return match other {
            Some(holder) if !silent => Err(holder),
            release => Ok(Plan { release, own: uid.clone(), new: uid }),
        };
    }
    let uid = holder.as_ref().map(|holder| holder.uid.clone());
    Ok(match how {
        _ if !silent => Plan { release: None, own: uid.clone(), new: uid },
        How::TakeOver => Plan { release: holder, own: None, new: None },
        // Its operator may only be absent for a while, so messages that it still has to deliver are not discarded.
        How::Discard => Plan { release: holder, own: uid, new: None },
    })
}

/// Ends the claim.
async fn release(tx: &mut PgConnection, mapping: &Mapping, store_id: i64) -> Result<(), sqlx::Error> {
    let sql = include_str!("adopt/release.sql");
    let (schema, name) = mapping.relation();
    sqlx::query(sql).bind(store_id).bind(schema).bind(name).persistent(false).execute(tx).await?;
    Ok(())
}

/// The condition that a row was written for a store with another UID than `$2`.
const FOREIGN: &str = "store_id = $1 AND uid IS NOT NULL AND uid IS DISTINCT FROM $2::text";

/// Returns the number of messages and posts, and the number of sweeps.
async fn take_over(
    tx: &mut PgConnection,
    store_id: i64,
    own: Option<&str>,
    new: Option<&str>,
) -> Result<(u64, u64), sqlx::Error> {
    let mut taken = vec![records::move_outbox(tx, store_id, Whose::OthersThan(own), store_id, new).await?];
    for sql in [
        format!("UPDATE jobexec.messages SET uid = $3::text WHERE {FOREIGN} AND ended_at IS NULL"),
        format!("UPDATE jobexec.sweeps SET uid = $3::text WHERE {FOREIGN} AND announced_at IS NULL"),
    ] {
        let query = sqlx::query(AssertSqlSafe(sql)).bind(store_id).bind(own).bind(new);
        taken.push(query.persistent(false).execute(&mut *tx).await?.rows_affected());
    }
    Ok((taken[0] + taken[1], taken[2]))
}

/// Returns the number of messages and posts.
async fn discard(tx: &mut PgConnection, store_id: i64, own: Option<&str>) -> Result<u64, sqlx::Error> {
    let mut dropped = 0;
    for sql in [
        format!("DELETE FROM jobexec.outbox WHERE {FOREIGN}"),
        format!("DELETE FROM jobexec.messages WHERE {FOREIGN} AND ended_at IS NULL"),
    ] {
        let query = sqlx::query(AssertSqlSafe(sql)).bind(store_id).bind(own).persistent(false);
        dropped += query.execute(&mut *tx).await?.rows_affected();
    }
    Ok(dropped)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claimant(uid: &str) -> StoreIdentity {
        StoreIdentity { uid: uid.into(), predecessor: None, namespace: "prod".into(), name: "jobs".into() }
    }

    fn held(uid: &str, silent: bool) -> Holder {
        Holder { claimant: claimant(uid), counts: true, silent }
    }

    #[test]
    fn a_claim_that_is_confirmed_is_taken_from_nobody() {
        for how in [How::TakeOver, How::Discard] {
            assert_eq!(plan(Some(held("other", false)), Some(&claimant("own")), how), Err(claimant("other")));
            let silent = plan(Some(held("other", true)), Some(&claimant("own")), how).unwrap();
            assert_eq!((silent.release, silent.own.as_deref()), (Some(claimant("other")), Some("own")));
            let own = plan(Some(held("own", false)), Some(&claimant("own")), how).unwrap();
            assert_eq!((own.release, own.new.as_deref()), (None, Some("own")));
            // On the command line, it applies to the store that has the claim.
            let there = plan(Some(held("other", false)), None, how).unwrap();
            assert_eq!((there.release, there.own.as_deref()), (None, Some("other")));
        }
    }

    #[test]
    fn what_a_store_that_may_only_be_away_has_to_deliver_is_not_dropped() {
        let dropped = plan(Some(held("away", true)), None, How::Discard).unwrap();
        assert_eq!((dropped.release, dropped.own.as_deref()), (Some(claimant("away")), Some("away")));
        let taken = plan(Some(held("away", true)), None, How::TakeOver).unwrap();
        assert_eq!((taken.own, taken.new), (None, None), "whoever claims the table next delivers it");
    }

    #[test]
    fn the_annotation_says_whether_it_is_dropped() {
        assert_eq!(How::of("2026-01-01"), How::TakeOver);
        assert_eq!(How::of("discard-1"), How::Discard);
    }

    #[test]
    fn a_record_whose_table_another_store_manages_stays() {
        let record = |confirmed, now_called: Option<&str>| Left {
            store_id: 3,
            claimant: Some(claimant("other")),
            confirmed,
            now_called: now_called.map(str::to_owned),
            dumped: false,
            same_owner: true,
            extended: 0,
            undelivered: 0,
        };
        let own = "own".to_owned();
        assert!(is_anothers(&record(true, Some("app.old")), Some(&own)));
        assert!(!is_anothers(&record(true, Some("app.old")), Some(&"other".to_owned())));
        assert!(!is_anothers(&record(false, Some("app.old")), Some(&own)));
        assert!(!is_anothers(&record(true, None), Some(&own)), "its table is gone");
    }

    #[test]
    fn that_there_was_nothing_is_told() {
        assert!(Adopted::default().told(How::TakeOver).starts_with("there is nothing"));
        let some = Adopted { messages: 2, ..Adopted::default() };
        assert!(some.told(How::TakeOver).contains("2 messages and events are the store's now"));
        assert!(some.told(How::Discard).contains("2 messages and events were dropped"));
    }
}
