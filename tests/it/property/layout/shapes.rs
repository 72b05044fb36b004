//! Every shape that the tables of a case may have.

use super::{JobsShape, Shape};

const PLAIN: Shape = Shape {
    id: "bigint",
    job_id: "bigint",
    job_type: None,
    status: "text",
    started_at: "timestamptz",
    completed_at: "timestamptz",
    heartbeat_at: None,
    of_workers: false,
    checkpoint_at: None,
    created_at: None,
    zone: "UTC",
    jobs: None,
    cancels: true,
    error: false,
    pauses: false,
    paused_seconds: None,
    timeout: None,
    deadline_at: None,
    indexed: false,
    partitioned: false,
    filtered: false,
};

#[allow(clippy::unnecessary_wraps, reason = "it makes the table below readable")]
const fn jobs(id: &'static str, type_: Option<&'static str>, grace: &'static str) -> Option<JobsShape> {
    Some(JobsShape { id, type_, grace, finished_at: None })
}

/// The same for jobs with a known end.
#[allow(clippy::unnecessary_wraps, reason = "it makes the table below readable")]
const fn dated(
    id: &'static str,
    type_: Option<&'static str>,
    grace: &'static str,
    finished_at: &'static str,
) -> Option<JobsShape> {
    Some(JobsShape { id, type_, grace, finished_at: Some(finished_at) })
}

const INSTANT: &str = "timestamptz";
pub(super) const LOCAL: &str = "timestamp";

pub(in crate::property) const SHAPES: [Shape; 23] = [
    PLAIN,
    Shape {
        job_type: Some("text"),
        heartbeat_at: Some(INSTANT),
        checkpoint_at: Some("created_at"),
        created_at: Some(LOCAL),
        zone: "Europe/Berlin",
        pauses: true,
        jobs: dated("bigint", None, "20m", INSTANT),
        indexed: true,
        ..PLAIN
    },
    Shape {
        job_type: Some("text"),
        heartbeat_at: Some(INSTANT),
        checkpoint_at: Some("heartbeat_at"),
        jobs: dated("bigint", None, "20m", INSTANT),
        indexed: true,
        ..PLAIN
    },
    Shape {
        indexed: true,
        error: true,
        heartbeat_at: Some(INSTANT),
        created_at: Some(INSTANT),
        pauses: true,
        ..PLAIN
    },
    Shape {
        job_type: Some("text"),
        indexed: true,
        heartbeat_at: Some(INSTANT),
        created_at: Some(INSTANT),
        pauses: true,
        paused_seconds: Some("integer"),
        timeout: Some("interval"),
        jobs: dated("bigint", None, "20m", INSTANT),
        ..PLAIN
    },
    Shape {
        id: "uuid",
        job_id: "uuid",
        jobs: jobs("uuid", Some("text"), "0s"),
        indexed: true,
        heartbeat_at: Some(INSTANT),
        ..PLAIN
    },
    Shape {
        id: "text",
        job_id: "text",
        job_type: Some("enum"),
        status: "enum",
        indexed: true,
        created_at: Some(INSTANT),
        jobs: jobs("text", None, "30m"),
        ..PLAIN
    },
    Shape {
        job_id: "numeric",
        job_type: Some("varchar(20)"),
        started_at: LOCAL,
        completed_at: LOCAL,
        heartbeat_at: Some(LOCAL),
        timeout: Some("integer"),
        indexed: true,
        ..PLAIN
    },
    Shape {
        job_type: Some("text"),
        started_at: LOCAL,
        completed_at: LOCAL,
        heartbeat_at: Some(LOCAL),
        created_at: Some(LOCAL),
        zone: "Europe/Berlin",
        jobs: dated("bigint", Some("text"), "10m", LOCAL),
        indexed: true,
        paused_seconds: Some("numeric"),
        deadline_at: Some(LOCAL),
        error: true,
        ..PLAIN
    },
    Shape {
        id: "integer",
        job_id: "integer",
        started_at: LOCAL,
        zone: "Europe/Berlin",
        created_at: Some(INSTANT),
        heartbeat_at: Some(LOCAL),
        jobs: jobs("bigint", Some("enum"), "1h"),
        pauses: true,
        paused_seconds: Some("real"),
        ..PLAIN
    },
    Shape {
        id: "varchar(60)",
        job_id: "text",
        jobs: jobs("varchar(60)", Some("text"), "10m"),
        heartbeat_at: Some(LOCAL),
        created_at: Some(INSTANT),
        indexed: true,
        ..PLAIN
    },
    Shape {
        job_id: "varchar(8)",
        // A different type than in the table of executions.
        jobs: jobs("numeric", Some("smallint"), "10m"),
        heartbeat_at: Some(INSTANT),
        indexed: true,
        cancels: false,
        ..PLAIN
    },
    Shape {
        id: "uuid",
        job_type: Some("smallint"),
        created_at: Some(LOCAL),
        zone: "Europe/Berlin",
        status: "varchar(10)",
        cancels: false,
        ..PLAIN
    },
    Shape {
        job_type: Some("text"),
        heartbeat_at: Some(INSTANT),
        created_at: Some(INSTANT),
        jobs: dated("bigint", Some("text"), "40m", LOCAL),
        deadline_at: Some(INSTANT),
        indexed: true,
        partitioned: true,
        ..PLAIN
    },
    Shape {
        id: "smallint",
        job_id: "char(12)",
        jobs: dated("char(12)", Some("varchar(20)"), "20m", INSTANT),
        heartbeat_at: Some(INSTANT),
        error: true,
        ..PLAIN
    },
    Shape {
        id: "text",
        job_id: "bigint",
        started_at: LOCAL,
        created_at: Some(LOCAL),
        indexed: true,
        jobs: jobs("bigint", Some("text"), "20m"),
        ..PLAIN
    },
    Shape {
        job_type: Some("text"),
        heartbeat_at: Some(INSTANT),
        jobs: jobs("integer", None, "0s"),
        timeout: Some("double precision"),
        ..PLAIN
    },
    Shape {
        job_type: Some("text"),
        started_at: LOCAL,
        zone: "Europe/Berlin",
        indexed: true,
        created_at: Some(INSTANT),
        ..PLAIN
    },
    Shape { filtered: true, ..PLAIN },
    Shape {
        job_type: Some("text"),
        heartbeat_at: Some(INSTANT),
        of_workers: true,
        created_at: Some(INSTANT),
        pauses: true,
        jobs: dated("bigint", None, "20m", INSTANT),
        indexed: true,
        ..PLAIN
    },
    Shape {
        id: "text",
        started_at: LOCAL,
        heartbeat_at: Some(LOCAL),
        of_workers: true,
        zone: "Europe/Berlin",
        error: true,
        ..PLAIN
    },
    Shape {
        job_type: Some("text"),
        heartbeat_at: Some(INSTANT),
        created_at: Some(INSTANT),
        jobs: jobs("bigint", None, "20m"),
        indexed: true,
        filtered: true,
        ..PLAIN
    },
    Shape {
        id: "uuid",
        job_id: "text",
        started_at: LOCAL,
        zone: "Europe/Berlin",
        jobs: jobs("text", Some("text"), "10m"),
        indexed: true,
        filtered: true,
        ..PLAIN
    },
];
