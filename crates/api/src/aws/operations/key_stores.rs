//! Custom key stores, by AWS's names: Create, Update, Delete, Describe, Connect, Disconnect.

use serde::Serialize;

use super::Answer;
use super::asked::{number, secret, text, without};
use super::output::{Time, json, no_members};
use crate::aws::error::Failure;
use crate::aws::model::{Input, Object};
use service::{CreateKeyStoreInput, KeyStoreView, Page, RequestContext, Service, UpdateKeyStoreInput};

/// The one type that there is.
const TYPE: &str = "AWS_CLOUDHSM";
/// Members of key stores of another type, and why they are refused.
const EXTERNAL: &[&str] = &[
    "XksProxyUriEndpoint",
    "XksProxyUriPath",
    "XksProxyVpcEndpointServiceName",
    "XksProxyVpcEndpointServiceOwner",
    "XksProxyAuthenticationCredential",
    "XksProxyConnectivity",
];
/// See [`EXTERNAL`].
const NO_PROXIES: &str = "external key stores are not supported: the custom key stores here are over clusters of HSMs";

/// Makes a key store.
pub(super) async fn create(service: &Service, call: &RequestContext, asked: &mut Input) -> Answer {
    let input = input(asked)?;
    created(service.create_key_store(call, input).await?.to_string())
}

/// Changes a key store. That an officer has reset the PIN, or in which HSMs, can be said over gRPC alone.
pub(super) async fn update(service: &Service, call: &RequestContext, asked: &mut Input) -> Answer {
    without(asked, EXTERNAL, NO_PROXIES)?;
    let given = |member| asked.text(member).map(str::to_owned);
    let input = UpdateKeyStoreInput {
        key_store_id: text(asked, "CustomKeyStoreId"),
        new_name: given("NewCustomKeyStoreName"),
        password: secret(asked, "KeyStorePassword"),
        cluster_id: given("CloudHsmClusterId"),
        ..UpdateKeyStoreInput::default()
    };
    service.update_key_store(call, input).await?;
    Ok(no_members())
}

/// Forgets a key store.
pub(super) async fn delete(service: &Service, call: &RequestContext, asked: &mut Input) -> Answer {
    service.delete_key_store(call, &text(asked, "CustomKeyStoreId")).await?;
    Ok(no_members())
}

/// Shows key stores.
pub(super) async fn describe(service: &Service, call: &RequestContext, asked: &mut Input) -> Answer {
    let (id, name) = (text(asked, "CustomKeyStoreId"), text(asked, "CustomKeyStoreName"));
    let (limit, marker) = (number(asked, "Limit"), text(asked, "Marker"));
    described(service.describe_key_stores(call, &id, &name, limit, &marker).await?)
}

/// Begins to log in to a key store's HSMs.
pub(super) async fn connect(service: &Service, call: &RequestContext, asked: &mut Input) -> Answer {
    service.connect_key_store(call, &text(asked, "CustomKeyStoreId")).await?;
    Ok(no_members())
}

/// Ends the use of a key store's keys.
pub(super) async fn disconnect(service: &Service, call: &RequestContext, asked: &mut Input) -> Answer {
    service.disconnect_key_store(call, &text(asked, "CustomKeyStoreId")).await?;
    Ok(no_members())
}

fn input(asked: &Object) -> Result<CreateKeyStoreInput, Failure> {
    if asked.text("CustomKeyStoreType").is_some_and(|kind| kind != TYPE) {
        return Err(Failure::unsupported(format!("CustomKeyStoreType: {NO_PROXIES}")));
    }
    without(asked, EXTERNAL, NO_PROXIES)?;
    let needed = ["CloudHsmClusterId", "TrustAnchorCertificate", "KeyStorePassword"];
    if let Some(absent) = needed.into_iter().find(|member| !asked.has(member)) {
        return Err(Failure::validation(format!("{absent} is required for a custom key store of type {TYPE}.")));
    }
    Ok(CreateKeyStoreInput {
        name: text(asked, "CustomKeyStoreName"),
        cluster_id: text(asked, "CloudHsmClusterId"),
        trust_anchor: text(asked, "TrustAnchorCertificate"),
        password: secret(asked, "KeyStorePassword").unwrap_or_default(),
    })
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct CreatedAnswer {
    custom_key_store_id: String,
}

pub(super) fn created(id: String) -> Answer {
    json(&CreatedAnswer { custom_key_store_id: id })
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct KeyStoresAnswer {
    custom_key_stores: Vec<KeyStore>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next_marker: Option<String>,
    truncated: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct KeyStore {
    cloud_hsm_cluster_id: String,
    /// In FAILED alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    connection_error_code: Option<&'static str>,
    connection_state: &'static str,
    creation_date: Time,
    custom_key_store_id: String,
    custom_key_store_name: String,
    custom_key_store_type: &'static str,
    trust_anchor_certificate: String,
}

/// AWS shows no HSMs and says the code of what failed alone; the rest is shown over gRPC.
pub(super) fn described(page: Page<KeyStoreView>) -> Answer {
    let key_store = |KeyStoreView { store, .. }: KeyStoreView| KeyStore {
        cloud_hsm_cluster_id: store.cluster.to_string(),
        connection_error_code: store.error.as_ref().map(|(code, _)| code.name()),
        connection_state: store.state.name(),
        creation_date: Time::of(store.created_at),
        custom_key_store_id: store.id.to_string(),
        custom_key_store_name: store.name.clone(),
        custom_key_store_type: TYPE,
        trust_anchor_certificate: store.trust_anchor.clone(),
    };
    json(&KeyStoresAnswer {
        truncated: page.next_marker.is_some(),
        next_marker: page.next_marker,
        custom_key_stores: page.items.into_iter().map(key_store).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aws::operations::tests::input as read;
    use serde_json::{Value, json};

    fn asked(more: Value) -> Input {
        let mut asked = json!({
            "CustomKeyStoreName": "main",
            "CloudHsmClusterId": "cluster-2222222222b",
            "TrustAnchorCertificate": "PEM",
            "KeyStorePassword": "kmsPswd1",
        });
        let (Value::Object(asked_for), Value::Object(more)) = (&mut asked, more) else { panic!("objects") };
        asked_for.extend(more);
        asked_for.retain(|_, value| !value.is_null());
        read("CreateCustomKeyStore", &asked)
    }

    #[test]
    fn a_key_store_is_over_a_cluster() {
        for good in [json!({}), json!({ "CustomKeyStoreType": "AWS_CLOUDHSM" })] {
            let input = input(&asked(good)).unwrap();
            assert_eq!((input.name.as_str(), input.cluster_id.as_str()), ("main", "cluster-2222222222b"));
            assert_eq!((input.password.expose(), input.trust_anchor.as_str()), (&b"kmsPswd1"[..], "PEM"));
        }
        for external in [
            json!({ "CustomKeyStoreType": "EXTERNAL_KEY_STORE" }),
            json!({ "XksProxyUriEndpoint": "https://xks.example.com" }),
            json!({ "XksProxyConnectivity": "PUBLIC_ENDPOINT" }),
        ] {
            assert_eq!(input(&asked(external)).unwrap_err().name, "UnsupportedOperationException");
        }
        for absent in ["CloudHsmClusterId", "TrustAnchorCertificate", "KeyStorePassword"] {
            let failure = input(&asked(json!({ absent: null }))).unwrap_err();
            assert_eq!(failure.name, "ValidationException");
            assert!(failure.message.starts_with(absent));
        }
    }
}
