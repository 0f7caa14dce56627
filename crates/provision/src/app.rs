//! A second client, `app`, which may use keys and do nothing else: made over gRPC, as an administrator does it.

use std::net::SocketAddr;

use super::certificates::APP;
use super::{Error, Layout, key_store, write_variables};
use client::{self, Client};
use model::id::Scope;
use proto::v1::{AttachPolicyRequest, CreatePrincipalRequest, attach_policy_request};

/// What it is attached to: the policy for those who use keys, which is part of the program.
const POLICY: &str = "KeyUser";

/// Makes the app's principal and writes `app.env`; gives its ARN. One that was made whole before stays as it is: the
/// file tells. After an error it can be called again.
pub async fn prepare(layout: &Layout, grpc: SocketAddr, ops: SocketAddr, scope: &Scope) -> Result<String, Error> {
    let client = key_store::client(layout, grpc).await?;
    let arn = format!("arn:{}:iam::{}:user/{APP}", scope.partition, scope.account);
    let there = is_there(&client, &arn).await?;
    if !there {
        let request = CreatePrincipalRequest {
            arn: arn.clone(),
            description: "uses keys; made by keystored dev".to_owned(),
            identities: vec![format!("cn:{APP}")],
            ..Default::default()
        };
        client.create_principal(request).await.map_err(|error| failed(&error))?;
    }
    if !there || !layout.app_env.exists() {
        let to = Some(attach_policy_request::To::Principal(arn.clone()));
        let request = AttachPolicyRequest { policy: POLICY.to_owned(), to };
        client.attach_policy(request).await.map_err(|error| failed(&error))?;
    }
    write_variables(&layout.app_env, &layout.app, grpc, ops)?;
    Ok(arn)
}

async fn is_there(client: &Client, arn: &str) -> Result<bool, Error> {
    match client.describe_principal(arn).await {
        Ok(_) => Ok(true),
        Err(error) if error.exception.as_deref() == Some("NotFoundException") => Ok(false),
        Err(error) => Err(failed(&error)),
    }
}

fn failed(error: &client::Error) -> Error {
    Error::Wrong(format!("principal {APP}: {error}"))
}
