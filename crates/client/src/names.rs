//! What keys are called: aliases, tags, descriptions.

use super::{Client, Error};
use proto::v1 as wire;

impl Client {
    /// Gives a key a further name.
    pub async fn create_alias(&self, request: wire::CreateAliasRequest) -> Result<(), Error> {
        self.keys().create_alias(self.request(request)).await?;
        Ok(())
    }

    /// Gives an alias to another key, by key id or key ARN.
    pub async fn update_alias(&self, alias_name: &str, target_key_id: &str) -> Result<(), Error> {
        let request =
            wire::UpdateAliasRequest { alias_name: alias_name.to_owned(), target_key_id: target_key_id.to_owned() };
        self.keys().update_alias(self.request(request)).await?;
        Ok(())
    }

    /// Takes an alias away.
    pub async fn delete_alias(&self, alias_name: &str) -> Result<(), Error> {
        let request = wire::DeleteAliasRequest { alias_name: alias_name.to_owned() };
        self.keys().delete_alias(self.request(request)).await?;
        Ok(())
    }

    /// One page of the list of aliases.
    pub async fn list_aliases(&self, request: wire::ListAliasesRequest) -> Result<wire::ListAliasesResponse, Error> {
        Ok(self.keys().list_aliases(self.request(request)).await?.into_inner())
    }

    /// Describes a key anew, by key id or key ARN.
    pub async fn update_key_description(&self, key_id: &str, description: &str) -> Result<(), Error> {
        let request =
            wire::UpdateKeyDescriptionRequest { key_id: key_id.to_owned(), description: description.to_owned() };
        self.keys().update_key_description(self.request(request)).await?;
        Ok(())
    }

    /// Gives a key tags, by key id or key ARN.
    pub async fn tag_resource(&self, key_id: &str, tags: Vec<wire::Tag>) -> Result<(), Error> {
        self.keys().tag_resource(self.request(wire::TagResourceRequest { key_id: key_id.to_owned(), tags })).await?;
        Ok(())
    }

    /// Takes tags away from a key, by key id or key ARN.
    pub async fn untag_resource(&self, key_id: &str, tag_keys: Vec<String>) -> Result<(), Error> {
        let request = wire::UntagResourceRequest { key_id: key_id.to_owned(), tag_keys };
        self.keys().untag_resource(self.request(request)).await?;
        Ok(())
    }

    /// One page of the tags of a key.
    pub async fn list_resource_tags(
        &self,
        request: wire::ListResourceTagsRequest,
    ) -> Result<wire::ListResourceTagsResponse, Error> {
        Ok(self.keys().list_resource_tags(self.request(request)).await?.into_inner())
    }
}
