//! Notifications that a table has changed: only ever a hint, since they are lost across reconnects and poolers.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgListener, PgPoolOptions};
use tokio_util::task::AbortOnDropHandle;

use super::extras::CHANNEL;

/// However often a table changes, that is told no oftener than this.
const PACE: Duration = Duration::from_secs(1);

/// The pause before another try to listen.
const RETRY: Duration = Duration::from_secs(10);

/// Calls `changed` when the table `relation` has changed, on a connection of its own, until the handle is dropped.
pub fn listen(
    options: PgConnectOptions,
    relation: String,
    changed: impl Fn() + Send + Sync + 'static,
) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        loop {
            let Err(error) = follow(options.clone(), &relation, &changed).await;
            tracing::info!(%error, relation, "cannot listen for changes; they are found at the next poll");
            tokio::time::sleep(RETRY).await;
        }
    }))
}

async fn follow(
    options: PgConnectOptions,
    relation: &str,
    changed: &impl Fn(),
) -> Result<std::convert::Infallible, sqlx::Error> {
    let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(options);
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.listen(CHANNEL).await?;
    // What changed before is not told any more.
    let mut more = true;
    loop {
        if !more {
            next(&mut listener, relation).await?;
        }
        changed();
        more = false;
        let mut pace = std::pin::pin!(tokio::time::sleep(PACE));
        loop {
            tokio::select! {
                () = &mut pace => break,
                told = next(&mut listener, relation) => { told?; more = true; }
            }
        }
    }
}

async fn next(listener: &mut PgListener, relation: &str) -> Result<(), sqlx::Error> {
    loop {
        match listener.try_recv().await? {
            Some(told) if told.payload() != relation => {}
            // What was told while the connection was lost is lost too, so that counts as a change.
            Some(_) | None => return Ok(()),
        }
    }
}
