//! Looks up the stores that a caller may use.

use std::collections::BTreeSet;
use std::sync::Arc;

use kube::ResourceExt as _;
use kube::runtime::reflector::ObjectRef;

use super::app::App;
use super::auth::{Caller, Permission, User, refusal};
use super::problem::Problem;
use super::stores::{RemoteStore, Store, StoreAccess, StoreName};

impl App {
    /// Returns the store of this name.
    ///
    /// Fails with [`Problem::StoreNotFound`], or with [`Problem::StoresNotSeen`] while the cache is not synced.
    pub(super) fn store(&self, name: &StoreName) -> Result<Store, Problem> {
        let object = self.context.store(&name.namespace, &name.name);
        match object {
            Some(object) => {
                let key = ObjectRef::from_obj(&*object);
                if self.context.owns(&name.namespace, &name.name) {
                    let handle = self.context.known_handle(&key);
                    let status = self.context.status_of(&object, handle.as_ref());
                    return Ok(Store { name: name.clone(), status, access: StoreAccess::Local(handle) });
                }
                let status = self.context.status_of(&object, None);
                let (context, reader) = (self.context.clone(), self.context.reader(&key));
                let access = StoreAccess::Remote(Arc::new(RemoteStore { context, reader, object }));
                Ok(Store { name: name.clone(), status, access })
            }
            None if self.context.stores().unseen_in(&name.namespace) => Err(Problem::StoresNotSeen),
            None => Err(Problem::StoreNotFound(name.to_string())),
        }
    }

    /// Returns all stores, sorted by name.
    pub(super) fn stores(&self) -> Result<Vec<Store>, Problem> {
        if !self.context.stores().seen() {
            return Err(Problem::StoresNotSeen);
        }
        let names = self.context.all_stores().into_iter().map(|object| StoreName {
            namespace: object.namespace().unwrap_or_default(),
            name: object.name_any(),
        });
        let names: BTreeSet<StoreName> = names.collect();
        // Stores that were deleted in the meantime are left out.
        Ok(names.iter().filter_map(|name| self.store(name).ok()).collect())
    }

    /// Returns the stores that the request may read: the named one, or all if the caller may read all of them.
    pub(super) async fn readable_stores(
        &self,
        caller: &Caller,
        name: Option<StoreName>,
    ) -> Result<Vec<Store>, Problem> {
        self.permitted_stores(caller, name, |name| {
            Permission::Executions(name.map(|name| name.namespace.clone()))
        })
        .await
    }

    /// Returns the store of this name, if the caller may read its executions.
    pub(super) async fn readable_store(&self, caller: &Caller, name: &StoreName) -> Result<Store, Problem> {
        self.reject_unknown_store(&caller.0, name)?;
        self.authorizer.authorize(&caller.0, &Permission::Executions(Some(name.namespace.clone()))).await?;
        self.store(name)
    }

    /// Returns the stores that the request may clean up: the named one, or all if the caller may clean up all of them.
    pub(super) async fn cleanable_stores(
        &self,
        caller: &Caller,
        name: Option<StoreName>,
    ) -> Result<Vec<Store>, Problem> {
        self.permitted_stores(caller, name, |name| {
            Permission::CleanUp(name.map(|name| (name.namespace.clone(), name.name.clone())))
        })
        .await
    }

    /// Returns the stores that the caller may read, and the names of those that the caller may clean up. Fails if
    /// there are none.
    pub(super) async fn stores_visible_to(
        &self,
        Caller(user): &Caller,
    ) -> Result<(Vec<Store>, BTreeSet<StoreName>), Problem> {
        if user.is_anonymous() {
            return Err(Problem::Unauthenticated);
        }
        let (mut readable, mut cleanable) = (Vec::new(), BTreeSet::new());
        for store in self.stores()? {
            let StoreName { namespace, name } = store.name.clone();
            if self.authorizer.is_allowed(user, &Permission::Executions(Some(namespace.clone()))).await? {
                if self.authorizer.is_allowed(user, &Permission::CleanUp(Some((namespace, name)))).await? {
                    cleanable.insert(store.name.clone());
                }
                readable.push(store);
            }
        }
        if readable.is_empty() {
            self.authorizer.authorize(user, &Permission::Executions(None)).await?;
        }
        Ok((readable, cleanable))
    }

    /// Returns whether the caller may clean up at least one store. Kubernetes is asked only once about anonymous
    /// callers, not for each store.
    pub(super) async fn can_clean_any(&self, Caller(user): &Caller) -> Result<bool, Problem> {
        if self.authorizer.is_allowed(user, &Permission::CleanUp(None)).await? {
            return Ok(true);
        }
        if user.is_anonymous() {
            return Ok(false);
        }
        for StoreName { namespace, name } in self.stores()?.into_iter().map(|store| store.name) {
            if self.authorizer.is_allowed(user, &Permission::CleanUp(Some((namespace, name)))).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Rejects unknown store names of anonymous callers without asking Kubernetes.
    fn reject_unknown_store(&self, user: &User, name: &StoreName) -> Result<(), Problem> {
        if user.is_anonymous() && self.store(name).is_err() {
            return Err(Problem::Unauthenticated);
        }
        Ok(())
    }

    async fn permitted_stores(
        &self,
        Caller(user): &Caller,
        name: Option<StoreName>,
        permission_for: impl Fn(Option<&StoreName>) -> Permission,
    ) -> Result<Vec<Store>, Problem> {
        if let Some(name) = name {
            self.reject_unknown_store(user, &name)?;
            self.authorizer.authorize(user, &permission_for(Some(&name))).await?;
            return Ok(vec![self.store(&name)?]);
        }
        let all = permission_for(None);
        if self.authorizer.is_allowed(user, &all).await? {
            return self.stores();
        }
        let stores =
            self.stores().map_err(|why| if user.is_anonymous() { Problem::Unauthenticated } else { why })?;
        let each: BTreeSet<Permission> =
            stores.iter().map(|store| permission_for(Some(&store.name))).collect();
        for permission in &each {
            if !self.authorizer.is_allowed(user, permission).await? {
                return Err(refusal(user, all.to_string()));
            }
        }
        if each.is_empty() { Err(refusal(user, all.to_string())) } else { Ok(stores) }
    }
}
