//! Rotation in place: now, by itself every so many days, and what came of it. The key's id, ARN and aliases stay; what was
//! encrypted before opens as before.

use std::sync::Arc;

use crate::core::access::Details;
use crate::core::{Core, page, validate};
use crate::{Error, Page, RequestContext, Service};
use model::exception::Exception;
use model::key::{KeyState, RotationCause};
use model::limits::{ROTATION_PERIOD_DAYS, ROTATION_PERIOD_DEFAULT};
use model::operation::Operation;
use store::{Key, Version};

/// How a key is rotated by itself.
#[derive(Clone, Debug)]
pub struct RotationStatus {
    /// The key's ARN.
    pub key_arn: String,
    /// Whether it is. Not while it is pending deletion.
    pub enabled: bool,
    /// Days between two rotations.
    pub period_days: Option<u32>,
    /// When the next one is due, in milliseconds since the Unix epoch.
    pub next: Option<i64>,
    /// A version is being made that somebody asked for.
    pub on_demand_under_way: bool,
}

/// Material of a key.
#[derive(Clone, Debug)]
pub struct KeyRotation {
    /// The version's number.
    pub version: u32,
    /// The material's name.
    pub material_id: Arc<str>,
    /// New data are encrypted with it.
    pub current: bool,
    /// When it became the current one, in milliseconds since the Unix epoch.
    pub date: i64,
    /// Why; absent for the material that the key was made with.
    pub cause: Option<RotationCause>,
}

impl Service {
    /// Gives a key new material now; gives its ARN when that encrypts.
    pub async fn rotate_key_on_demand(&self, call: &RequestContext, key_id: &str) -> Result<String, Error> {
        let lifecycle = self.lifecycle.clone();
        let work = move |core: Core, key: Arc<Key>| async move {
            may_be_rotated(&core, &key)?;
            lifecycle.rotate(key.id, RotationCause::Request).await?;
            Ok(core.scope().key_arn(key.id))
        };
        let look = |core: &Core, _: &RequestContext, id| match core.store().catalogue().key(id) {
            Some(key) => {
                may_be_rotated(core, key)?;
                match key.unfinished() {
                    Some(version) if version.cause != Some(RotationCause::Request) => {
                        Err(core.of_store(store::Error::Rotating(id)))
                    }
                    Some(_) => Ok(()),
                    None => {
                        let (_, members) = core.connected_store(key.key_store.as_str())?;
                        members.room(&core.store().catalogue(), &key.key_store)
                    }
                }
            }
            None => Ok(()),
        };
        let details = Details::default().asking(|_, say| say).if_before(look);
        self.core.on_key_with(call, Operation::RotateKeyOnDemand, key_id, details, work).await
    }

    /// Has a key given new material every 90 to 2,560 days, 365 unless told otherwise, counted from now.
    pub async fn enable_key_rotation(
        &self,
        call: &RequestContext,
        key_id: &str,
        period_days: Option<u32>,
    ) -> Result<(), Error> {
        let work = move |core: Core, key: Arc<Key>| async move {
            let days = period(period_days)?;
            core.store().set_rotation(key.id, Some(days)).await.map_err(|error| core.of_store(error))?;
            tracing::info!(key = %key.id, days, "the key is rotated by itself");
            Ok(())
        };
        let rotation_period_days = Some(period_days.unwrap_or(ROTATION_PERIOD_DEFAULT));
        let details = Details { rotation_period_days, ..Details::default() }
            .asking(move |_, say| say.number("rotationPeriodInDays", rotation_period_days))
            .if_before(move |_, _, _| period(period_days).map(drop));
        self.core.on_key_with(call, Operation::EnableKeyRotation, key_id, details, work).await
    }

    /// Has a key keep its material, but for rotations on demand and by wear.
    pub async fn disable_key_rotation(&self, call: &RequestContext, key_id: &str) -> Result<(), Error> {
        let work = move |core: Core, key: Arc<Key>| async move {
            core.store().set_rotation(key.id, None).await.map_err(|error| core.of_store(error))?;
            tracing::info!(key = %key.id, "the key is not rotated by itself any more");
            Ok(())
        };
        let details = Details::default().asking(|_, say| say);
        self.core.on_key_with(call, Operation::DisableKeyRotation, key_id, details, work).await
    }

    /// Shows whether a key is rotated by itself.
    pub async fn get_key_rotation_status(&self, call: &RequestContext, key_id: &str) -> Result<RotationStatus, Error> {
        let work = move |core: Core, key: Arc<Key>| async move {
            let rotation = key.rotation.filter(|_| key.state != KeyState::PendingDeletion);
            let asked_for = |version: &Version| version.cause == Some(RotationCause::Request);
            Ok(RotationStatus {
                key_arn: core.scope().key_arn(key.id),
                enabled: rotation.is_some(),
                period_days: rotation.map(|rotation| rotation.period),
                next: rotation.map(|rotation| rotation.next),
                on_demand_under_way: key.unfinished().is_some_and(asked_for),
            })
        };
        self.core.on_key(call, Operation::GetKeyRotationStatus, key_id, work).await
    }

    /// Lists the rotations of a key, oldest first; with the material that it was made with if `all`. Gives its ARN with it.
    pub async fn list_key_rotations(
        &self,
        call: &RequestContext,
        key_id: &str,
        all: bool,
        limit: Option<u32>,
        marker: &str,
    ) -> Result<(String, Page<KeyRotation>), Error> {
        let [said, marker] = [marker; 2].map(str::to_owned);
        let details = Details::default().asking(move |_, say| {
            let say = say.page(limit, &said);
            say.in_record(|fields| if all { fields.text("includeKeyMaterial", "ALL_KEY_MATERIAL") } else { fields })
        });
        let work = move |core: Core, key: Arc<Key>| async move {
            let limit = validate::page_limit(limit)?;
            let after = page::after('r', &marker, |text| text.parse::<u32>().ok())?.unwrap_or(0);
            let rotation = |version: &Version| {
                Some(KeyRotation {
                    version: version.id.version,
                    material_id: Arc::clone(&version.material_id),
                    current: version.id.version == key.current_version,
                    date: version.current_since?,
                    cause: version.cause,
                })
            };
            let rotations = key.versions.iter().filter_map(rotation);
            let rotations = rotations.filter(|one| one.version > after && (all || one.cause.is_some()));
            Ok((core.scope().key_arn(key.id), page::cut('r', rotations, limit, |one| one.version)))
        };
        self.core.on_key_with(call, Operation::ListKeyRotations, key_id, details, work).await
    }
}

/// Whether a key may be given new material on demand once more.
pub(crate) fn may_be_rotated(core: &Core, key: &Key) -> Result<(), Error> {
    let (arn, most) = (core.scope().key_arn(key.id), core.quotas().on_demand_rotations);
    let asked_for = |version: &&Version| version.cause == Some(RotationCause::Request);
    let done = key.versions.iter().filter(asked_for).filter(|version| version.current_since.is_some()).count();
    if done < most {
        return Ok(());
    }
    Err(Error::permanent(
        Exception::LimitExceeded,
        format!(
            "{arn} was rotated on demand {done} times, and no more than {most} are allowed \
             (limits.on_demand_rotations); it can still be rotated by itself."
        ),
    ))
}

/// The period, in days.
fn period(days: Option<u32>) -> Result<u32, Error> {
    let (least, most) = ROTATION_PERIOD_DAYS;
    validate::number("rotationPeriodInDays", days.unwrap_or(ROTATION_PERIOD_DEFAULT), least, most)
}
