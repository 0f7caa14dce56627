//! GenerateDataKey and GenerateDataKeyWithoutPlaintext.

use serde::Serialize;

use super::Answer;
use super::asked::{extras, map, number, text};
use super::crypto::only;
use super::output::{Base64, json};
use crate::aws::model::{Input, Object};
use model::key::DataKeySpec;
use service::{DataKeyInput, GeneratedDataKey, RequestContext, RequestedSpec, Service};

/// Makes a data key, in clear and encrypted.
pub(super) async fn generate(service: &Service, call: &RequestContext, asked: &mut Input) -> Answer {
    shown(&only(service.generate_data_keys(call, vec![input(asked)], false).await)?)
}

/// Makes a data key, encrypted only.
pub(super) async fn generate_without_plaintext(service: &Service, call: &RequestContext, asked: &mut Input) -> Answer {
    shown(&only(service.generate_data_keys(call, vec![input(asked)], true).await)?)
}

fn input(asked: &Object) -> DataKeyInput {
    let spec = |name: &str| match name {
        "AES_256" => RequestedSpec::Known(DataKeySpec::Aes256),
        "AES_128" => RequestedSpec::Known(DataKeySpec::Aes128),
        _ => RequestedSpec::Unknown,
    };
    DataKeyInput {
        key_id: text(asked, "KeyId"),
        key_spec: asked.text("KeySpec").map(spec),
        number_of_bytes: number(asked, "NumberOfBytes"),
        context: map(asked, "EncryptionContext"),
        extras: extras(asked),
    }
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DataKeyAnswer<'a> {
    ciphertext_blob: Base64,
    key_id: &'a str,
    key_material_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    plaintext: Option<Base64>,
}

/// The plaintext is empty where none was asked for: no data key has no bytes.
pub(super) fn shown(made: &GeneratedDataKey) -> Answer {
    let plaintext = (!made.plaintext.is_empty()).then(|| Base64::of(made.plaintext.expose()));
    json(&DataKeyAnswer {
        ciphertext_blob: Base64::of(&made.ciphertext),
        key_id: &made.key_arn,
        key_material_id: &made.material_id,
        plaintext,
    })
}
