//! Access keys of principals: an id and a secret, with which calls are signed where others come with a certificate.

use zeroize::Zeroizing;

use crate::core::access_key::{new_secret, sealed};
use crate::core::meant::Whom;
use crate::core::notes::Notes;
use crate::core::page;
use crate::core::proposal::Proposal;
use crate::core::room;
use crate::core::{Core, validate};
use crate::{Error, Page, RequestContext, Service};
use audit::event::Fields;
use model::exception::Exception;
use model::id::{AccessKeyId, PrincipalId};
use model::limits;
use model::operation::Operation;
use store::access::{LastAccess, NewAccessKey, Principal};

/// An access key that was made. It has no Debug: the secret is told here and never again.
pub struct CreatedAccessKey {
    /// What is told of it later on too.
    pub key: AccessKeyView,
    /// The secret. It is not to be logged.
    pub secret: Zeroizing<String>,
}

/// An access key as it is shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessKeyView {
    /// Its id.
    pub id: AccessKeyId,
    /// The ARN of its principal.
    pub principal: String,
    /// Calls may be signed with it.
    pub active: bool,
    /// Milliseconds since the Unix epoch.
    pub created_at: i64,
    /// Its last use, if there was one.
    pub last_used: Option<LastAccess>,
}

impl Service {
    /// Gives a principal a further access key, which counts when this returns. Nobody is told its secret again.
    pub async fn create_access_key(&self, call: &RequestContext, principal: &str) -> Result<CreatedAccessKey, Error> {
        let operation = Operation::CreateAccessKey;
        let (whom, notes) = (Whom::named(principal), Notes::default());
        let [said, looked] = [&whom, &whom].map(Clone::clone);
        let resource = self
            .core
            .arn_of(operation, principal)
            .noting(&notes)
            .asking(move |core, say| say.principal(core, "principalArn", &said));
        let resource = resource.if_before(move |core, call| {
            let principal = looked.now(core)?;
            may_sign_for(core, call, &principal)?;
            core.has_room(|_| room::for_access_key(&principal))
        });
        let (core, of_task) = (self.core.clone(), call.clone());
        let work = async move {
            let principal = whom.now(&core)?;
            may_sign_for(&core, &of_task, &principal)?;
            let (id, secret) = (AccessKeyId::random(), new_secret()?);
            let new = NewAccessKey {
                sealed: sealed(&core.registry().seals.load(), &id, &principal.id, &secret)?,
                id: id.clone(),
                principal: principal.id.clone(),
                most: limits::ACCESS_KEYS_PER_PRINCIPAL,
            };
            core.store().create_access_key(new).await.map_err(|error| core.of_store(error))?;
            notes.answer(Fields::new().text("accessKeyId", id.as_str()).text("principalArn", &principal.arn));
            tracing::info!(access_key = %id, principal = %principal.arn, id = %principal.id, "access key made");
            let key = of_principal(&core, &*core.principal(&principal.arn)?).find(|key| key.id == id);
            let key = key.ok_or_else(|| Error::internal("an access key that was made is not there"))?;
            Ok(CreatedAccessKey { key, secret })
        };
        self.core.on_one(call, operation, resource, work).await
    }

    /// Lists the access keys of a principal in the order of their ids.
    pub async fn list_access_keys(
        &self,
        call: &RequestContext,
        principal: &str,
        limit: Option<u32>,
        marker: &str,
    ) -> Result<Page<AccessKeyView>, Error> {
        let (operation, arn, marker) = (Operation::ListAccessKeys, principal.to_owned(), marker.to_owned());
        let said = marker.clone();
        let resource = self.core.arn_of(operation, principal).asking(move |_, say| say.page(limit, &said));
        let read = move |core: &Core| {
            let limit = validate::page_limit(limit)?;
            let after = page::after('c', &marker, |text| Some(AccessKeyId::from(text)))?;
            let principal = core.principal(&arn)?;
            let keys = of_principal(core, &principal).filter(|key| after.as_ref().is_none_or(|after| key.id > *after));
            Ok(page::cut('c', keys, limit, |key| key.id.clone()))
        };
        self.core.on_catalogue(call, operation, resource, read).await
    }

    /// Has calls be signed with an access key again; a success where they may be.
    pub async fn enable_access_key(&self, call: &RequestContext, principal: &str, id: &str) -> Result<(), Error> {
        self.on_access_key(call, Operation::EnableAccessKey, principal, id, |core, of, id| async move {
            core.store().switch_access_key(&of, &id, true).await.map_err(|error| core.of_store(error))
        })
        .await
    }

    /// Has no call be signed with an access key any more: when this returns, calls that are on open connections are
    /// refused as well. A success where it is disabled.
    pub async fn disable_access_key(&self, call: &RequestContext, principal: &str, id: &str) -> Result<(), Error> {
        self.on_access_key(call, Operation::DisableAccessKey, principal, id, |core, of, id| async move {
            core.store().switch_access_key(&of, &id, false).await.map_err(|error| core.of_store(error))
        })
        .await
    }

    /// Takes an access key away, as if it were disabled first.
    pub async fn delete_access_key(&self, call: &RequestContext, principal: &str, id: &str) -> Result<(), Error> {
        self.on_access_key(call, Operation::DeleteAccessKey, principal, id, |core, of, id| async move {
            core.store().delete_access_key(&of, &id).await.map_err(|error| core.of_store(error))
        })
        .await
    }

    async fn on_access_key<W>(
        &self,
        call: &RequestContext,
        operation: Operation,
        principal: &str,
        id: &str,
        work: impl FnOnce(Core, PrincipalId, AccessKeyId) -> W + Send + 'static,
    ) -> Result<(), Error>
    where
        W: Future<Output = Result<(), Error>> + Send,
    {
        let [said, looked, id] = [id; 3].map(str::to_owned);
        let say = move |say: Proposal| say.text("accessKeyId", &said);
        let look = move |core: &Core, call: &RequestContext, principal: &Principal| {
            if operation == Operation::EnableAccessKey {
                // As good as one more: its secret may be known to others than to whoever it was made for.
                may_sign_for(core, call, principal)?;
            }
            let id = read(&looked)?;
            let has = principal.access_keys.iter().any(|key| key.id == id);
            if has { Ok(()) } else { Err(none(&looked)) }
        };
        let work = move |core: Core, of: PrincipalId| async move {
            let id = read(&id)?;
            work(core, of, id.clone()).await?;
            tracing::info!(access_key = %id, operation = operation.spec().label, "access key changed");
            Ok(())
        };
        self.on_principal(call, operation, principal, (say, look), work).await
    }

    /// The access key with this id, for whoever verifies that calls are signed with it. Absent where it is unknown or
    /// disabled. From memory.
    #[must_use]
    pub fn access_key(&self, id: &str) -> Option<crate::AccessKey> {
        self.core.access_key(id)
    }

    /// Takes note that a call was signed with an access key, for the service of this name: `kms`, `sts`. Nothing is
    /// written for it: it is put on record now and then.
    pub fn access_key_used(&self, id: &str, service: &'static str) {
        self.core.access_key_used(id, service);
    }
}

/// Whether the caller may have calls be signed for a principal.
fn may_sign_for(core: &Core, call: &RequestContext, principal: &Principal) -> Result<(), Error> {
    core.may_sign_for(call, principal.identities.iter().map(|identity| identity.name.as_str()))
}

/// An id as a request has it.
fn read(id: &str) -> Result<AccessKeyId, Error> {
    validate::length("accessKeyId", id.len(), 1, limits::ACCESS_KEY_ID_CHARS)?;
    AccessKeyId::parse(id).ok_or_else(|| none(id))
}

fn none(id: &str) -> Error {
    Error::permanent(Exception::NotFound, format!("there is no access key {}", validate::shown(id)))
}

fn of_principal(core: &Core, principal: &Principal) -> impl Iterator<Item = AccessKeyView> {
    principal.access_keys.iter().map(|key| AccessKeyView {
        id: key.id.clone(),
        principal: principal.arn.to_string(),
        active: key.active,
        created_at: key.created_at,
        last_used: core.access_uses().of(&key.id).last(),
    })
}
