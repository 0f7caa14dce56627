//! The life of keys: rotation and deletion.

use super::{Client, Error};
use proto::v1 as wire;

impl Client {
    /// Has a key deleted after a waiting period; `None` for the longest one. At once it cannot be used any more.
    pub async fn schedule_key_deletion(
        &self,
        key_id: &str,
        window_days: Option<u32>,
    ) -> Result<wire::ScheduleKeyDeletionResponse, Error> {
        let request =
            wire::ScheduleKeyDeletionRequest { key_id: key_id.to_owned(), pending_window_in_days: window_days };
        Ok(self.keys().schedule_key_deletion(self.request(request)).await?.into_inner())
    }

    /// Keeps a key that was to be deleted; it is disabled then. Gives its ARN.
    pub async fn cancel_key_deletion(&self, key_id: &str) -> Result<String, Error> {
        let request = wire::CancelKeyDeletionRequest { key_id: key_id.to_owned() };
        Ok(self.keys().cancel_key_deletion(self.request(request)).await?.into_inner().key_id)
    }

    /// Destroys a key's material in the HSMs now, which nothing undoes. `confirm_key_arn` is the key's ARN.
    pub async fn destroy_key_material(
        &self,
        key_id: &str,
        confirm_key_arn: &str,
    ) -> Result<wire::DestroyKeyMaterialResponse, Error> {
        let request =
            wire::DestroyKeyMaterialRequest { key_id: key_id.to_owned(), confirm_key_arn: confirm_key_arn.to_owned() };
        Ok(self.keys().destroy_key_material(self.request(request)).await?.into_inner())
    }

    /// Shows when a key was used last.
    pub async fn get_key_last_usage(&self, key_id: &str) -> Result<wire::GetKeyLastUsageResponse, Error> {
        let request = wire::GetKeyLastUsageRequest { key_id: key_id.to_owned() };
        Ok(self.keys().get_key_last_usage(self.request(request)).await?.into_inner())
    }

    /// Gives a key new material now. Gives its ARN when that encrypts.
    pub async fn rotate_key_on_demand(&self, key_id: &str) -> Result<String, Error> {
        let request = wire::RotateKeyOnDemandRequest { key_id: key_id.to_owned() };
        Ok(self.keys().rotate_key_on_demand(self.request(request)).await?.into_inner().key_id)
    }

    /// Has a key given new material by itself, every so many days; `None` for 365.
    pub async fn enable_key_rotation(&self, key_id: &str, period_days: Option<u32>) -> Result<(), Error> {
        let request =
            wire::EnableKeyRotationRequest { key_id: key_id.to_owned(), rotation_period_in_days: period_days };
        self.keys().enable_key_rotation(self.request(request)).await?;
        Ok(())
    }

    /// Ends that.
    pub async fn disable_key_rotation(&self, key_id: &str) -> Result<(), Error> {
        let request = wire::DisableKeyRotationRequest { key_id: key_id.to_owned() };
        self.keys().disable_key_rotation(self.request(request)).await?;
        Ok(())
    }

    /// Shows whether a key is given new material by itself.
    pub async fn get_key_rotation_status(&self, key_id: &str) -> Result<wire::GetKeyRotationStatusResponse, Error> {
        let request = wire::GetKeyRotationStatusRequest { key_id: key_id.to_owned() };
        Ok(self.keys().get_key_rotation_status(self.request(request)).await?.into_inner())
    }

    /// One page of the material that a key was given.
    pub async fn list_key_rotations(
        &self,
        request: wire::ListKeyRotationsRequest,
    ) -> Result<wire::ListKeyRotationsResponse, Error> {
        Ok(self.keys().list_key_rotations(self.request(request)).await?.into_inner())
    }
}
