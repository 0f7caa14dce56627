//! GenerateRandom.

use serde::Serialize;

use super::Answer;
use super::asked::{extras, number, text};
use super::output::{Base64, json};
use crate::aws::model::Input;
use model::secret::Secret;
use service::{RequestContext, Service};

/// Gives random bytes: of the key store that is named, or of any that is connected.
pub(super) async fn generate(service: &Service, call: &RequestContext, asked: &mut Input) -> Answer {
    let (bytes, key_store) = (number(asked, "NumberOfBytes"), text(asked, "CustomKeyStoreId"));
    shown(&service.generate_random(call, bytes, &key_store, extras(asked)).await?)
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct RandomAnswer {
    plaintext: Base64,
}

pub(super) fn shown(random: &Secret) -> Answer {
    json(&RandomAnswer { plaintext: Base64::of(random.expose()) })
}
