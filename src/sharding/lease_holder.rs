//! A replica's own Lease: taken, renewed and released, each time by an update of the version that was last seen, so that
//! nobody's change is overwritten unnoticed.

use std::time::{Duration, Instant};

use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{DeleteParams, ListParams, PostParams, Preconditions};
use kube::{Api, Client, ResourceExt as _};

use super::error::LeaseError;
use super::lease;
use super::options::Options;
use crate::kubernetes::error::ReconcileError;

/// The number of immediate tries of a write while somebody else also writes.
const CONFLICTS: usize = 3;

/// The time to try to release the Lease.
const RELEASE: Duration = Duration::from_secs(1);

/// The reason why a call failed.
pub(super) enum Failure {
    /// A retry is useless.
    Final(LeaseError),
    /// A retry may succeed.
    Passing(ReconcileError),
}

/// The holder of this replica's own Lease.
pub(super) struct LeaseHolder {
    api: Api<Lease>,
    options: Options,
    name: String,
    /// The holder's name: that of the replica, with a part that distinguishes this process from an earlier one of the
    /// same name.
    holder: String,
    /// The Lease as it was last seen.
    there: Option<Lease>,
    /// The time when the last successful renewal began; `None`: the Lease is not held.
    renewed: Option<Instant>,
}

impl LeaseHolder {
    pub(super) fn new(client: Client, options: Options) -> Self {
        let process = uuid::Uuid::new_v4();
        Self {
            api: Api::namespaced(client, &options.namespace),
            name: options.lease_name(),
            holder: format!("{}_{process}", options.identity),
            options,
            there: None,
            renewed: None,
        }
    }

    /// The time when the Lease counts as lost, if it is not renewed for `span`.
    pub(super) fn lost_after(&self, span: Duration) -> Option<Instant> {
        self.renewed.map(|at| at + span)
    }

    /// The error for a Lease that could not be renewed for `span`, with the reason.
    pub(super) fn lost(&self, span: Duration, why: &ReconcileError) -> LeaseError {
        LeaseError::NotRenewed { name: self.name.clone(), span, why: why.to_string() }
    }

    /// Reports whether this is the own Lease, and no longer as this process left it.
    pub(super) fn was_modified(&self, lease: &Lease) -> bool {
        lease.name_any() == self.name && lease::holder(lease) != Some(&self.holder)
    }

    /// Takes or renews the Lease. When this process starts, it takes over a Lease that another process holds under this
    /// replica's name: that is an earlier process, which has ended. Later that means that two replicas have the same
    /// name.
    pub(super) async fn renew(&mut self) -> Result<(), Failure> {
        let begun = Instant::now();
        for _ in 0..CONFLICTS {
            if self.there.is_none() {
                self.there = self.call("get", self.api.get_opt(&self.name)).await?;
            }
            let new = self.there.is_none();
            if let (Some(there), true) = (&self.there, self.renewed.is_some())
                && let Some(other) = lease::holder(there).filter(|holder| *holder != self.holder)
            {
                let (name, holder) = (self.name.clone(), other.to_owned());
                return Err(Failure::Final(LeaseError::Taken { name, holder }));
            }
            let (names, duration) = ((&*self.name, &*self.options.group), self.options.duration);
            let mut wanted = lease::held(self.there.take(), names, &self.holder, duration);
            let labels = wanted.metadata.labels.get_or_insert_default();
            labels.insert(lease::SCOPE.to_owned(), self.options.scope.clone());
            let params = PostParams::default();
            let written = if new {
                self.call("create", self.api.create(&params, &wanted)).await
            } else {
                self.call("update", self.api.replace(&self.name, &params, &wanted)).await
            };
            match written {
                Ok(lease) => {
                    self.there = Some(lease);
                    self.renewed = Some(begun);
                    return Ok(());
                }
                // Somebody has written, created or deleted it.
                Err(Failure::Passing(error)) if matches!(error.code(), Some(404 | 409)) => {}
                Err(failure) => return Err(failure),
            }
        }
        Err(Failure::Passing(ReconcileError::Timeout))
    }

    /// Lists every Lease of the group.
    pub(super) async fn list(&self) -> Result<Vec<Lease>, Failure> {
        let params = ListParams::default().labels(&self.options.selector());
        Ok(self.call("list", self.api.list(&params)).await?.items)
    }

    /// Deletes the Lease of a replica that is gone for good, unless it has changed.
    pub(super) async fn delete_expired(&self, name: &str, version: Preconditions) {
        let params = DeleteParams { preconditions: Some(version), ..DeleteParams::default() };
        match self.call("delete", self.api.delete(name, &params)).await {
            Ok(_) => tracing::info!(lease = name, "deleted the Lease of a replica that is gone"),
            Err(Failure::Passing(error)) if matches!(error.code(), Some(404 | 409)) => {}
            Err(failure) => {
                tracing::info!(lease = name, %failure, "the Lease of a replica that is gone stays");
            }
        }
    }

    /// Releases the Lease by deleting it, so that others need not wait until it expires.
    pub(super) async fn release(&mut self) {
        self.renewed = None;
        let given_back = tokio::time::timeout(RELEASE, async {
            for _ in 0..CONFLICTS {
                let there = match self.there.take() {
                    Some(there) => Some(there),
                    None => self.call("get", self.api.get_opt(&self.name)).await?,
                };
                let Some(there) = there.filter(|there| lease::holder(there) == Some(&self.holder)) else {
                    break;
                };
                let version = Preconditions { uid: there.uid(), resource_version: there.resource_version() };
                let params = DeleteParams { preconditions: Some(version), ..DeleteParams::default() };
                match self.call("delete", self.api.delete(&self.name, &params)).await {
                    Err(Failure::Passing(error)) if error.code() == Some(409) => {}
                    Err(Failure::Passing(error)) if error.code() == Some(404) => break,
                    outcome => return outcome.map(|_| ()),
                }
            }
            Ok(())
        });
        match given_back.await {
            Ok(Ok(())) => tracing::info!(lease = self.name, "gave the Lease back"),
            Ok(Err(failure)) => tracing::warn!(lease = self.name, %failure, "the Lease ends by itself"),
            Err(_) => {
                tracing::warn!(lease = self.name, "the API server does not answer, the Lease ends by itself");
            }
        }
    }

    /// Bounds a call so that there is time for another one before the Lease is lost.
    async fn call<T>(
        &self,
        verb: &'static str,
        call: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, Failure> {
        let lost = self.lost_after(self.options.renew_deadline());
        // After that time, a replica that goes on has the full limit again.
        let left = lost.map(|at| at.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero());
        let limit = self.options.call_limit().min(left.unwrap_or(Duration::MAX));
        let outcome = tokio::time::timeout(limit, call).await.map_err(|_| ReconcileError::Timeout);
        let error = match outcome.and_then(|answer| answer.map_err(ReconcileError::from)) {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let namespace = || self.options.namespace.clone();
        Err(match error.code() {
            // A permission from a moment ago may come back: the Role may be changing.
            Some(403) if self.renewed.is_none() => {
                Failure::Final(LeaseError::Forbidden { verb, namespace: namespace() })
            }
            Some(404) if verb == "create" => Failure::Final(LeaseError::NamespaceMissing(namespace())),
            _ => Failure::Passing(error),
        })
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Final(error) => error.fmt(f),
            Self::Passing(error) => error.fmt(f),
        }
    }
}
