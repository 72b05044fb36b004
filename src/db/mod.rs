//! All SQL of this house. Everything here speaks to one database on behalf of one store.
//!
//! - [`url`] and [`connect`] turn a Secret's URL into connections, and hand out transactions with their timeouts set (`timeouts`);
//!   stores that log in alike share them ([`pool`]), and what a server sends is checked before sqlx sees it ([`relay`]); what it
//!   objects to is an [`error`], in its own words (`server_text`);
//! - [`mapping`] turns the names of a spec into quoted SQL, once the catalog has told the types of the `columns` ([`validate`]) and
//!   that row-level security hides nothing (`visibility`); `ids` and `intervals` are texts that Postgres reads;
//! - [`decode`] reads instants and arrays of which a server may say anything;
//! - [`judge`] is the one predicate that says which executions are stale, and for which `reason`: [`sweep`], [`observe`],
//!   [`warnings`] and [`execution`] use it and nothing else; so do [`running`] and [`cleanup`], where a person asks ([`asked`]),
//!   perhaps about those of which there is a `suspicion`;
//! - [`cancel`] ends what a person asked to have ended, [`extend`] gives it more time (`granted`), of which nothing is lost
//!   ([`promise`]);
//! - [`evidence`], [`observations`], [`again`] and [`history`] gather what it judges by beside the rows themselves;
//! - [`held`] says which stale rows others hold, [`late`] finds what was ended and had lived;
//! - [`identity`] says which record is a table's; [`ledger`], [`stores`] and [`rules`] keep the operator's own tables, which
//!   [`schema`] creates, and whose faults (`record_fault`) are no execution's ([`own`]); [`extras`] are additions to the
//!   application's table, with [`refusals`] and [`hints`] to read what they tell; [`audit`] reads what was done, [`samples`] what
//!   the figures were, [`stats`] how long executions take and how they end; [`retention`] forgets;
//! - [`outbox`] and [`messages`] keep what people are still to be told of; [`adopt`] takes over what another store has left.
//!
//! No two files use each other, neither directly nor through others.

pub mod adopt;
pub mod again;
pub mod asked;
pub mod audit;
pub mod cancel;
mod catalog;
pub mod cleanup;
mod columns;
pub mod connect;
pub mod decode;
pub mod error;
pub mod evidence;
pub mod execution;
pub mod explain;
pub mod extend;
pub mod extras;
mod granted;
pub mod health;
pub mod heartbeats;
pub mod held;
pub mod hints;
pub mod history;
pub mod identity;
mod ids;
mod intervals;
pub mod judge;
pub mod late;
pub mod ledger;
pub mod list;
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
pub mod rules;
pub mod running;
pub mod samples;
pub mod schema;
mod server_text;
pub mod stats;
pub mod stores;
mod suspicion;
pub mod sweep;
mod timeouts;
pub mod url;
pub mod validate;
mod visibility;
pub mod warnings;

pub use connect::Database;
pub use error::DbError;
pub use judge::Judge;
pub use ledger::Ledger;
pub use mapping::{Layout, Mapping};
pub use pool::Pools;
