//! The state that enforcement needs, at one moment.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::{AssertSqlSafe, Row as _};

use crate::db::decode;
use crate::db::staleness::Selection;
use crate::db::{Database, DbError, StalenessPredicate};

/// The state that enforcement needs, at one moment. Reading it costs the same with any number of healthy executions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadlineSnapshot {
    /// The moment, by the database's clock.
    pub now: DateTime<Utc>,
    /// Executions that are stale and to be ended.
    pub stale: i64,
    /// The next deadline of an execution that is not stale yet, if one is known to come within the horizon.
    pub next_deadline: Option<DateTime<Utc>>,
}

/// Reads the stale executions and the next deadline within `horizon`, by the indexes on running executions.
pub async fn pulse(
    database: &Database,
    predicate: &StalenessPredicate<'_>,
    horizon: TimeDelta,
) -> Result<DeadlineSnapshot, DbError> {
    let sql = look(predicate, horizon);
    let mut tx = database.read().await?;
    let query = predicate.bind(sqlx::query(AssertSqlSafe(sql.as_str()))).persistent(false);
    let row = query.fetch_one(&mut *tx).await?;
    tx.commit().await?;
    Ok(DeadlineSnapshot {
        now: decode::at(&row, "now")?,
        stale: row.try_get("stale")?,
        next_deadline: decode::maybe_at(&row, "next_deadline")?,
    })
}

fn look(predicate: &StalenessPredicate<'_>, horizon: TimeDelta) -> String {
    format!(
        "WITH {ctes} SELECT statement_timestamp() AS now, (SELECT count(*) FROM stale) AS stale,
                            {next_deadline} AS next_deadline",
        ctes = predicate.ctes(Selection::Look(horizon)),
        next_deadline = predicate.next_deadline(horizon),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::Limit;
    use crate::api::identifier::Identifier;
    use crate::api::table::{Jobs, StatusText};
    use crate::db::mapping::{IdType, RelatedTable, RelatedTypes, TimeType, Types};
    use crate::db::staleness::Rules;
    use crate::db::{Layout, Mapping};
    use crate::rules::{Policy, RuleSet, Sourced, StoreDefaults, Warn, compile};

    const TYPES: Types = Types {
        id: IdType::Integer,
        started_at: TimeType::Instant,
        completed_at: TimeType::Instant,
        job_id: Some(IdType::Integer),
        job_type_is_text: false,
        heartbeat_at: None,
        checkpoint_at: None,
        created_at: None,
        timeout_is_interval: true,
        deadline_at: None,
        scheduled_at: None,
        job_leads: false,
        indexed_by_job: true,
        indexed_by_type: false,
        indexed_by_end: true,
        can_cancel: true,
        ends_keys: false,
        related: [RelatedTypes { alike: true, time: None }; RelatedTable::COUNT],
        error_limit: None,
        unusable_ids: false,
        jobs_comparable: true,
        versions: true,
    };

    fn identifier(name: &str) -> Identifier {
        Identifier(name.to_owned())
    }

    /// Returns a mapping in which every column is mapped.
    fn widest(started_at: TimeType, zone: &str, of_jobs: bool) -> Mapping {
        let mut layout = Layout::default();
        let columns = &mut layout.table.columns;
        columns.created_at = Some(identifier("created_at"));
        columns.paused_seconds = Some(identifier("paused_seconds"));
        columns.heartbeat_at = Some(identifier("heartbeat_at"));
        columns.checkpoint_at = Some(identifier("checkpoint_at"));
        columns.worker = Some(identifier("worker"));
        columns.workload = Some(identifier("workload"));
        columns.job_type = (!of_jobs).then(|| identifier("job_type"));
        layout.table.time_zone = zone.to_owned();
        layout.table.statuses.paused = vec![StatusText("paused".to_owned())];
        let mut jobs = Jobs::default();
        jobs.columns.type_ = of_jobs.then(|| identifier("job_type"));
        jobs.columns.finished_at = Some(identifier("finished_at"));
        layout.jobs = Some(jobs);
        let times = Some(started_at);
        let types = Types {
            completed_at: started_at,
            started_at,
            job_type_is_text: true,
            heartbeat_at: times,
            checkpoint_at: times,
            ..TYPES
        };
        Mapping::new(
            layout,
            Types {
                created_at: times,
                related: [RelatedTypes { alike: true, time: times }; RelatedTable::COUNT],
                indexed_by_type: true,
                ..types
            },
        )
    }

    /// Returns rules for jobs and types, and a grace period for executions that run again.
    fn effective_rules() -> RuleSet {
        let hour = TimeDelta::hours(1);
        let base = StoreDefaults {
            timeout: Sourced::new(Limit::After(hour), "ExecutionStore/s"),
            grace: Sourced::new(hour, "ExecutionStore/s"),
            heartbeat: Some(Sourced::new(Limit::After(hour), "ExecutionStore/s")),
            on_stale: Sourced::new(crate::api::OnStale::Fail, "ExecutionStore/s"),
            retry: None,
            warn: Sourced::new(Warn::After(hour), "ExecutionStore/s"),
            overruled: Vec::new(),
            store: "ExecutionStore/s".to_owned(),
        };
        let policy = Policy {
            name: "p".to_owned(),
            created: 0,
            jobs: vec!["1".to_owned()],
            types: vec!["etl".to_owned()],
            all: false,
            timeout: Some(Limit::After(hour)),
            grace: None,
            heartbeat: None,
            on_stale: None,
            retry: None,
            warn: None,
            dynamic: None,
            notifies: false,
        };
        compile(base, Vec::new(), vec![policy])
    }

    fn length(mapping: &Mapping) -> usize {
        let effective_rules = effective_rules();
        let predicate = StalenessPredicate {
            single_active_execution: Some(TimeDelta::hours(1)),
            workloads: Some(TimeDelta::hours(1)),
            ..StalenessPredicate::new(mapping, &effective_rules, Rules::Table(1), DateTime::default())
                .with_evidence(false)
        };
        look(&predicate, TimeDelta::hours(1)).len()
    }

    #[test]
    fn a_look_for_deadlines_stays_short() {
        let plain = Mapping::new(Layout::default(), TYPES);
        let lengths = [
            length(&plain),
            length(&widest(TimeType::Instant, "UTC", false)),
            length(&widest(TimeType::Instant, "UTC", true)),
            length(&widest(TimeType::Local, "UTC", false)),
            length(&widest(TimeType::Local, "Europe/Berlin", false)),
            length(&widest(TimeType::Local, "Europe/Berlin", true)),
        ];
        let bounds = [24, 48, 48, 48, 48, 48].map(|kib: usize| kib << 10);
        let short = lengths.iter().zip(bounds).all(|(length, bound)| *length <= bound);
        assert!(short, "{lengths:?}, and at most {bounds:?}");
    }
}
