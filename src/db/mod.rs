//! All SQL of the operator. Everything here accesses one database on behalf of one store.
//!
//! - [`url`] and [`connect`] turn a Secret's URL into connections, and provide transactions with timeouts (`timeouts`). Stores with
//!   the same login share connections ([`pool`]). The [`relay`] checks what a server sends before sqlx reads it, and an [`error`]
//!   quotes the text of the server (`server_text`).
//! - [`mapping`] turns the names of a spec into quoted SQL, after [`validate`] has read the types of the `columns` from the catalog
//!   and checked that row-level security hides nothing (`visibility`). `ids` and `intervals` convert texts that Postgres reads.
//! - [`decode`] reads instants and arrays, in which a server may send anything.
//! - [`staleness`] is the only predicate that decides which executions are stale, and for which `reason`. [`sweep`], [`observe`],
//!   [`warnings`] and [`execution`] use it and nothing else; so do [`running`] and [`cleanup`] at a person's request ([`manual_request`]),
//!   which may concern executions with a `suspicion`.
//! - [`cancel`] ends an execution at a person's request, [`extend`] gives it more time (`granted`), and [`promise`] ensures that
//!   none of that time is lost.
//! - [`workloads`], `suspects`, [`observations`], [`again`] and [`history`] collect what the predicate uses in addition
//!   to the rows themselves.
//! - [`held`] finds stale rows that other transactions lock, [`late`] finds executions that were ended although they were alive.
//! - [`identity`] finds the record of a table. [`ledger`], [`stores`] and [`rules`] maintain the operator's own tables, which
//!   [`schema`] creates, and whose faults (`record_fault`) are not the fault of an execution ([`own`]). [`extras`] are additions to
//!   the application's table; [`refusals`] and [`change_notifier`] read what they report. [`audit`] reads what was done,
//!   [`samples`] earlier counts, and [`stats`] how long executions take and how they end. [`retention`] deletes old records.
//! - [`outbox`] and [`messages`] store the notifications that are still to be sent. [`adopt`] takes over what another store left.
//!
//! No two files use each other, neither directly nor through others.

pub mod adapter;
pub mod adopt;
pub mod again;
pub mod audit;
pub mod cancel;
mod catalog;
pub mod change_notifier;
pub mod cleanup;
mod columns;
pub mod connect;
pub mod decode;
mod ending;
pub mod error;
pub mod execution;
pub mod explain;
pub mod extend;
pub mod extras;
mod granted;
pub mod health;
pub mod heartbeats;
pub mod held;
pub mod history;
pub mod identity;
mod ids;
mod intervals;
pub mod late;
pub mod ledger;
pub mod list;
pub mod manual_request;
pub mod mapping;
pub mod messages;
pub mod observations;
pub mod observe;
pub mod outbox;
pub mod own;
pub mod pool;
pub mod promise;
mod reason;
mod record_fault;
pub mod refusals;
pub mod relay;
pub mod retention;
pub mod retry;
pub mod rules;
pub mod running;
pub mod samples;
pub mod schema;
mod server_text;
mod set_up;
pub mod staleness;
pub mod stats;
pub mod stores;
mod suspects;
mod suspicion;
pub mod sweep;
mod timeouts;
pub mod url;
pub mod validate;
mod visibility;
pub mod warnings;
pub mod workloads;

pub use connect::Database;
pub use ending::Ending;
pub use error::DbError;
pub use ledger::Ledger;
pub use mapping::{Layout, Mapping};
pub use pool::Pools;
pub use staleness::StalenessPredicate;
