//! Stage 2, sync rules: brings the rules in effect in line with the objects, including the timeouts computed from
//! history.

use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt as _;

use super::state::StoreState;
use crate::api::ExecutionStore;
use crate::db::DbError;
use crate::runtime::cluster::Cluster;
use crate::session::rules::EffectiveRules;
use crate::session::session::Session;

/// The longest that the first reconcile waits for the `JobExecution` and `ExecutionPolicy` caches to sync.
const CACHE_SYNC_LIMIT: Duration = Duration::from_secs(5);

/// The rules in effect; `None`: the caches have not synced yet.
pub(super) async fn sync_rules(
    cluster: &Cluster,
    store: &ExecutionStore,
    session: &Arc<Session>,
    state: &mut StoreState,
) -> Result<Option<Arc<EffectiveRules>>, DbError> {
    if state.swept.is_none() {
        cluster.wait_for_overrides(&store.namespace().unwrap_or_default(), CACHE_SYNC_LIMIT).await;
    }
    let Some(rules) = session.sync_rules(cluster, store, false).await? else { return Ok(None) };
    // The database's time at the last reconcile, or at the start of the session, is accurate enough.
    let now = state.now.unwrap_or(session.opened);
    let enqueue = cluster.queue.enqueuer(store);
    if state.session.history.ask(&store.name_any(), session, &rules, now, enqueue).await {
        return session.sync_rules(cluster, store, false).await;
    }
    Ok(Some(rules))
}

/// The rules in effect before an execution is ended: also compared with the database, since another operator may have
/// changed them.
pub(super) async fn confirm_rules(
    cluster: &Cluster,
    store: &ExecutionStore,
    session: &Session,
    known: &Arc<EffectiveRules>,
) -> Result<Arc<EffectiveRules>, DbError> {
    Ok(session.sync_rules(cluster, store, true).await?.unwrap_or_else(|| known.clone()))
}
