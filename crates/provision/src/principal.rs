//! The development principals: one whose access keys may do everything, and the app, which may use keys and do nothing
//! else. Made over gRPC, as an administrator does it.

use super::certificates::APP;
use super::{Error, Layout, Listening, access_keys, key_store, write_variables};
use client::{self, Client};
use model::id::Scope;
use proto::v1::{AttachPolicyRequest, CreatePrincipalRequest, attach_policy_request};

/// The name of the principal whose access keys may do everything. The administrator's certificate needs none: the
/// configuration names it.
const ADMINISTRATOR: &str = "administrator";

/// A principal to be made.
struct Wanted<'a> {
    name: &'a str,
    /// By what its certificate is known, where it has one.
    identity: Option<String>,
    description: &'a str,
    /// What it is attached to: a policy that is part of the program.
    policy: &'a str,
    /// Its making was broken off, if it is there already.
    broken_off: bool,
}

/// Makes the app's principal and writes `app.env`. After an error it can be called again.
pub async fn app(layout: &Layout, listening: Listening, scope: &Scope) -> Result<(), Error> {
    let client = key_store::client(layout, listening.grpc).await?;
    let (identity, description) = (Some(format!("cn:{APP}")), "uses keys; made by keystored dev");
    let broken_off = !layout.app_env.exists();
    let arn = make(&client, &Wanted { name: APP, identity, description, policy: "KeyUser", broken_off }, scope).await?;
    let pair = match listening.aws {
        Some(_) => access_keys::of(&client, &arn, &access_keys::file(layout, APP)).await?,
        None => None,
    };
    write_variables(&layout.app_env, &layout.app, listening, scope, pair.as_ref())
}

/// Writes `dev.env`, with an access key of a principal that may do everything where AWS's clients are listened for. After
/// an error it can be called again.
pub async fn administrator(layout: &Layout, listening: Listening, scope: &Scope) -> Result<(), Error> {
    let pair = match listening.aws {
        Some(_) => {
            let client = key_store::client(layout, listening.grpc).await?;
            let kept = access_keys::file(layout, ADMINISTRATOR);
            let description = "the administrator, as AWS's clients come; made by keystored dev";
            let (policy, broken_off) = ("Administrator", !kept.exists());
            let wanted = Wanted { name: ADMINISTRATOR, identity: None, description, policy, broken_off };
            let arn = make(&client, &wanted, scope).await?;
            access_keys::of(&client, &arn, &kept).await?
        }
        None => None,
    };
    write_variables(&layout.env, &layout.client, listening, scope, pair.as_ref())
}

/// Makes a principal; gives its ARN. One that was made whole before stays as it is.
async fn make(client: &Client, wanted: &Wanted<'_>, scope: &Scope) -> Result<String, Error> {
    let Wanted { name, identity, description, policy, broken_off } = wanted;
    let failed = |error: client::Error| Error::Wrong(format!("principal {name}: {error}"));
    let arn = format!("arn:{}:iam::{}:user/{name}", scope.partition, scope.account);
    let there = match client.describe_principal(&arn).await {
        Ok(_) => true,
        Err(error) if error.exception.as_deref() == Some("NotFoundException") => false,
        Err(error) => return Err(failed(error)),
    };
    if !there {
        let request = CreatePrincipalRequest {
            arn: arn.clone(),
            description: (*description).to_owned(),
            identities: identity.iter().cloned().collect(),
            ..Default::default()
        };
        client.create_principal(request).await.map_err(failed)?;
    }
    if !there || *broken_off {
        let to = Some(attach_policy_request::To::Principal(arn.clone()));
        let request = AttachPolicyRequest { policy: (*policy).to_owned(), to };
        client.attach_policy(request).await.map_err(failed)?;
    }
    Ok(arn)
}
