//! The way to operations without items: on one key, on a key store, on a cluster, on the account. In the order of
//! [`super::pipeline`]: admission, permission, the approval of others where it is needed, work, record, permission once
//! more, result.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::access::{Details, Named};
use super::authority::Judge;
use super::key_access::KeyAccess;
use super::naming::alias_in;
use super::recorder::Ending;
use crate::core::Core;
use crate::core::pipeline::guarded;
use crate::core::release::Looked;
use crate::{Error, RequestContext};
use model::given::Given;
use model::id::KeyId;
use model::operation::{Effect, Operation};
use store::Key;
use store::access::Principal;

/// Says whether what was done may still be given out.
type Still = Box<dyn Fn(&Core) -> Result<(), Error> + Send + Sync>;

impl Core {
    /// Carries out an operation on one key, which it gives to `work` if the caller may do this with it in its present
    /// state.
    pub(crate) async fn on_key<T: Send + 'static, W>(
        &self,
        call: &RequestContext,
        operation: Operation,
        key_id: &str,
        work: impl FnOnce(Core, Arc<Key>) -> W + Send + 'static,
    ) -> Result<T, Error>
    where
        W: Future<Output = Result<T, Error>> + Send,
    {
        self.on_key_with(call, operation, key_id, Details::default(), work).await
    }

    /// The same, of an operation on whose parameters conditions may depend.
    pub(crate) async fn on_key_with<T: Send + 'static, W>(
        &self,
        call: &RequestContext,
        operation: Operation,
        key_id: &str,
        details: Details,
        work: impl FnOnce(Core, Arc<Key>) -> W + Send + 'static,
    ) -> Result<T, Error>
    where
        W: Future<Output = Result<T, Error>> + Send,
    {
        let details = Details { alias: alias_in(key_id), ..details.named_by("keyId", key_id) };
        let (named, resource) = self.one_key(call, operation, key_id, &details);
        let (core, call_of_task) = (self.clone(), call.clone());
        let work = async move {
            let id = named?;
            let key = core.open_key(&call_of_task, operation, id, &details)?;
            work(core, key).await
        };
        self.on_one(call, operation, resource, work).await
    }

    /// The key that a request names, and what permission is asked about before it is looked up.
    fn one_key(
        &self,
        call: &RequestContext,
        operation: Operation,
        key_id: &str,
        details: &Details,
    ) -> (Result<KeyId, Error>, Named) {
        let named = self.key_named(call, operation, key_id, &self.store().catalogue());
        // That there is no such alias is told to who may do this with a key.
        let resource = match &named {
            unknown if self.is_unknown_alias(operation, key_id, unknown) => Named::no_key(self.scope()),
            Ok(id) => Named::key(*id, self.scope().key_arn(*id)),
            Err(error) => Named::refused(error.clone()),
        };
        let resource = resource.with(details.clone());
        (named, resource)
    }

    /// A key as an operation on it would find it, within the caller's rate and with its permission; without a record,
    /// which is left to who refuses the call whatever the key is.
    pub(crate) fn look_at_key(
        &self,
        call: &RequestContext,
        operation: Operation,
        key_id: &str,
    ) -> Result<Arc<Key>, Error> {
        let details = Details { alias: alias_in(key_id), ..Details::default() };
        let (named, resource) = self.one_key(call, operation, key_id, &details);
        self.in_rate(call, 1)?;
        resource.is_a_name()?;
        resource.is_allowed(self, call, operation)?;
        self.open_key(call, operation, named?, &details)
    }

    /// A key, if the caller may do this with it in its present state.
    pub(crate) fn open_key(
        &self,
        call: &RequestContext,
        operation: Operation,
        id: KeyId,
        details: &Details,
    ) -> Result<Arc<Key>, Error> {
        let (keyring, authority) = (self.keyring(), self.authority());
        let judge = Judge::new(self, &keyring, &authority, call);
        let access = KeyAccess::new(&judge, operation);
        Ok(Arc::clone(&access.open(id, details.parameters())?.key))
    }

    /// Carries out an operation on what has this ARN: admission and permission, `work` in a task of its own, permission
    /// once more. `work` itself sees to the state of what it works on.
    pub(crate) async fn on_one<T: Send + 'static>(
        &self,
        call: &RequestContext,
        operation: Operation,
        resource: Named,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
    ) -> Result<T, Error> {
        self.on_one_that(call, operation, resource, work, |_, _| Ok(())).await
    }

    /// The same, of a result that is given out only while `still` finds that it may be.
    pub(crate) async fn on_one_that<T: Send + 'static>(
        &self,
        call: &RequestContext,
        operation: Operation,
        resource: Named,
        work: impl Future<Output = Result<T, Error>> + Send + 'static,
        still: impl Fn(&Core, &T) -> Result<(), Error> + Send + Sync + 'static,
    ) -> Result<T, Error> {
        let given = Given::default();
        let [of_work, looked_at] = [&given; 2].map(Given::clone);
        let work = async move {
            of_work.put(work.await?);
            Ok(())
        };
        let still = move |core: &Core| looked_at.look(|done| still(core, done)).unwrap_or(Ok(()));
        self.on_one_whatever(call, operation, resource, Box::pin(work), Box::new(still)).await?;
        given.take().ok_or_else(|| Error::internal("a call that succeeded gave nothing"))
    }

    /// The same, whatever the work gives.
    async fn on_one_whatever(
        &self,
        call: &RequestContext,
        operation: Operation,
        resource: Named,
        work: BoxFuture<'static, Result<(), Error>>,
        still: Still,
    ) -> Result<(), Error> {
        call.trace.take();
        let (started, caller) = (self.clock().now(), self.keyring().caller(&call.principal));
        if let Err(error) = self.in_rate(call, 1) {
            return Err(self.turned_away(call, (operation, started), 1, error).await);
        }
        let (allowed, decided_by) = match resource.is_a_name() {
            Ok(()) => resource.is_allowed_because(self, call, operation),
            Err(error) => (Err(error), None),
        };
        if let Err(error) = allowed {
            let ending = Ending::new(call, operation, started).of_one(self, caller, &resource);
            self.refused(Ending { decided_by, ..ending }, 1, &error).await;
            return Err(error);
        }
        let permit = match self.admit(&self.keyring(), call, 1) {
            Ok(permit) => permit,
            Err(error) => return Err(self.turned_away(call, (operation, started), 1, error).await),
        };
        let (core, call_of_task) = (self.clone(), call.clone());
        let work = Box::pin(async move {
            let (call, asked) = (&call_of_task, &resource);
            let ending = Ending::new(call, operation, started).of_one(&core, caller, asked);
            let mut ending = Ending { decided_by, ..ending };
            let work = async {
                let _turn = core.agreed(call, operation, asked).await?;
                if operation.spec().effect == Effect::Changes && !ending.about.is_dry_run() {
                    core.intend(&mut ending).await?;
                }
                match operation.changes_access() {
                    true => core.in_turn(call, operation, asked, work).await,
                    false => work.await,
                }
            };
            let mut result = [guarded(work).await.unwrap_or_else(|| Err(Error::broken_off()))];
            core.conclude(ending, &mut result, |_, result| withhold(&core, call, operation, asked, result, &still))
                .await;
            let [result] = result;
            result
        });
        self.detached(call, permit, work).await
    }

    /// The turn of a change of who may do what.
    pub(crate) async fn access_turn(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.inner.access_turn.lock().await
    }

    /// Makes a change of who may do what. Such changes are made one after the other, each looked at once more when its
    /// turn has come: what was answered before forbids it, so that nothing that somebody had in hand is left behind by it.
    /// Ends when nothing is given out any more that the change forbids, whatever is answered: it may have been made although
    /// that could not be told.
    async fn in_turn(
        &self,
        call: &RequestContext,
        operation: Operation,
        asked: &Named,
        work: BoxFuture<'static, Result<(), Error>>,
    ) -> Result<(), Error> {
        let _turn = self.access_turn().await;
        asked.is_allowed(self, call, operation)?;
        let done = work.await;
        self.wait_for_releases();
        done
    }

    /// Carries out an operation that only reads the catalogue, about what has this ARN.
    pub(crate) async fn on_catalogue<T: Send + 'static>(
        &self,
        call: &RequestContext,
        operation: Operation,
        resource: Named,
        read: impl FnOnce(&Core) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let core = self.clone();
        self.on_one(call, operation, resource, async move { read(&core) }).await
    }
}

impl Ending<'_> {
    /// The same, of a call that names this.
    pub(crate) fn of_one(self, core: &Core, caller: Option<Arc<Principal>>, named: &Named) -> Self {
        let resources = if named.is_something() { vec![Arc::clone(&named.arn)] } else { Vec::new() };
        Self { caller, resources, about: named.about(core), ..self }
    }
}

/// The last look at a result.
fn withhold(
    core: &Core,
    call: &RequestContext,
    operation: Operation,
    resource: &Named,
    result: &mut [Result<(), Error>],
    still: &Still,
) -> Looked {
    let nothing = Looked { results: 1, withheld: 0 };
    let [result] = result else { return nothing };
    if result.is_err() {
        return nothing;
    }
    match resource.is_still_allowed(core, call, operation).and_then(|()| still(core)) {
        Ok(()) => nothing,
        Err(error) => {
            *result = Err(error);
            Looked { results: 1, withheld: 1 }
        }
    }
}
