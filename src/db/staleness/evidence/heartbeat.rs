//! `HeartbeatLost`: the row itself says when its worker was last alive, and that is too long ago.

use chrono::{DateTime, SecondsFormat, Utc};
use sqlx::Row as _;
use sqlx::postgres::PgRow;
use sqlx::postgres::types::PgInterval;

use super::{Beats, Finding, Kind};
use crate::api::ExecutionStoreSpec;
use crate::api::duration;
use crate::db::decode;
use crate::db::intervals::delta;
use crate::db::mapping::{RECORD_CHARS, clamp_timestamp};
use crate::db::reason::Reason;
use crate::db::staleness::{Rules, Selection, StalenessPredicate};

pub(super) struct Heartbeat;

impl Kind for Heartbeat {
    fn reason(&self) -> Reason {
        Reason::HeartbeatLost
    }

    fn is_configured(&self, spec: &ExecutionStoreSpec) -> bool {
        let columns = &spec.table.columns;
        columns.heartbeat_at.is_some() || (columns.checkpoint_at.is_some() && spec.heartbeat.is_none())
    }

    fn stored(&self) -> Option<&'static str> {
        Some("lost heartbeats")
    }

    fn source(&self) -> &'static str {
        "verdict.heartbeat_source"
    }

    fn stale(&self, predicate: &StalenessPredicate<'_>, selection: Selection) -> Vec<String> {
        let stale = || {
            let at = predicate.mapping.heartbeat_at()?;
            let more = silent(predicate, &at, |cutoff| predicate.mapping.heartbeat_by(cutoff))?;
            Some(predicate.by_evidence(self.reason(), "", &more, selection))
        };
        stale().into_iter().collect()
    }

    fn beats(&self, predicate: &StalenessPredicate<'_>, _store_id: &str) -> Option<Beats> {
        Some(Beats {
            joins: String::new(),
            at: predicate.mapping.heartbeat_at()?,
            idle: String::new(),
            quiet: |predicate, cutoff| {
                let m = predicate.mapping;
                let quiet = m.heartbeat_by(cutoff).unwrap_or_else(|| "false".to_owned());
                format!("EXISTS (SELECT FROM {} AS execution WHERE {} AND {quiet})", m.table(), m.judged())
            },
        })
    }

    fn columns(&self, predicate: &StalenessPredicate<'_>) -> Vec<(String, &'static str)> {
        predicate.mapping.heartbeat_at().map_or_else(Vec::new, |at| columns(predicate, &at))
    }

    fn explain(
        &self,
        predicate: &StalenessPredicate<'_>,
        row: &PgRow,
    ) -> Result<Option<Finding>, sqlx::Error> {
        if predicate.mapping.heartbeat_at().is_none() {
            return Ok(None);
        }
        let silence = Silence::read(row)?;
        let seen = match (silence.at, &silence.timeout) {
            (_, None) => silence.does_not_count().to_owned(),
            (None, Some(_)) => "there never was one, so that only the deadline counts".to_owned(),
            (Some(at), Some(timeout)) => format!(
                "the last one was at {}{}, and they may be {} apart",
                at.to_rfc3339_opts(SecondsFormat::Secs, true),
                if Some(at) < silence.began { ", before it began" } else { "" },
                duration::format(delta(timeout))
            ),
        };
        let seen = silence.and_whether_it_counts(seen, predicate);
        Ok(Some(Finding { reason: self.reason(), seen, stale_at: silence.lost_at }))
    }
}

/// Returns the condition that the row `execution` lost its heartbeat, which was last sent `at`. `by` returns the condition that it
/// was sent by a cutoff. `None`: no heartbeat of the store counts.
pub(super) fn silent(
    predicate: &StalenessPredicate<'_>,
    at: &str,
    by: impl FnOnce(&str) -> Option<String>,
) -> Option<String> {
    let shortest = predicate.effective_rules.shortest_heartbeat()?;
    let narrow = by(&StalenessPredicate::before(shortest))?;
    Some(format!("{narrow} AND {} <= {}", predicate.heartbeat_lost_at(at)?, predicate.heartbeats_checked()))
}

/// Returns the columns that [`Silence::read`] reads, about the row `execution` with its last heartbeat `at`.
pub(super) fn columns(predicate: &StalenessPredicate<'_>, at: &str) -> Vec<(String, &'static str)> {
    let running = predicate.mapping.judged();
    let lost = predicate.heartbeat_lost_at(at);
    let lost =
        lost.map_or("NULL::timestamptz".to_owned(), |lost| format!("CASE WHEN {running} THEN {lost} END"));
    let held = format!("{} > {} AND {running}", predicate.last_alive(at), predicate.known_alive(at));
    let why = match predicate.rules {
        Rules::Memory => "NULL::text".to_owned(),
        Rules::Table(_) => format!(
            "(SELECT left(store.heartbeats_why, {RECORD_CHARS}) FROM jobexec.stores AS store WHERE store.store_id = $4)"
        ),
    };
    vec![
        (clamp_timestamp(at), "heartbeat_at"),
        ("verdict.heartbeat".to_owned(), "heartbeat_timeout"),
        ("verdict.heartbeat_source IS NOT NULL".to_owned(), "heartbeat_timeout_set"),
        (lost, "heartbeat_lost_at"),
        (held, "heartbeat_held"),
        (why, "heartbeats_why"),
    ]
}

/// How long a worker has been silent.
pub(super) struct Silence {
    /// The last heartbeat.
    pub(super) at: Option<DateTime<Utc>>,
    /// How long a worker may be silent.
    pub(super) timeout: Option<PgInterval>,
    /// The time from which the execution counts.
    pub(super) began: Option<DateTime<Utc>>,
    /// The time at which the execution becomes stale by its silence.
    pub(super) lost_at: Option<DateTime<Utc>>,
    /// True if an object sets the timeout.
    set: bool,
    held: bool,
    why: Option<String>,
}

impl Silence {
    /// Reads [`columns`].
    pub(super) fn read(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            at: decode::maybe_at(row, "heartbeat_at")?,
            timeout: row.try_get("heartbeat_timeout")?,
            began: decode::maybe_at(row, "counts_from")?,
            lost_at: decode::maybe_at(row, "heartbeat_lost_at")?,
            set: row.try_get("heartbeat_timeout_set")?,
            held: row.try_get::<Option<bool>, _>("heartbeat_held")?.unwrap_or_default(),
            why: row.try_get("heartbeats_why")?,
        })
    }

    /// Explains why silence does not count, if there is no timeout.
    pub(super) const fn does_not_count(&self) -> &'static str {
        if self.set {
            "heartbeatTimeout is Never, so that heartbeats do not count"
        } else {
            "no heartbeatTimeout is set"
        }
    }

    /// Adds to `seen` why the silence does not count, if it does not.
    pub(super) fn and_whether_it_counts(&self, seen: String, predicate: &StalenessPredicate<'_>) -> String {
        if self.timeout.is_none() {
            return seen;
        }
        match &self.why {
            Some(why) if self.held && self.lost_at.is_some() => {
                format!("{seen}; that it is lost is held for one heartbeatTimeout, since {why}")
            }
            _ if self.at.is_some() && matches!(predicate.rules, Rules::Memory) => format!(
                "{seen}; that it is lost does not count, since the operator's own tables are not there, in which it is kept whether \
                 workers stopped together: run `jobexec schema --apply`"
            ),
            _ if self.at.is_some() && self.began.is_none() => {
                format!("{seen}; that it is lost does not count, since it is not known when this run began")
            }
            _ => seen,
        }
    }
}
