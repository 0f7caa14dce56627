//! `keystorectl grant create`

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use serde::Serialize;
use zeroize::Zeroizing;

use crate::Context;
use crate::failure::Failure;
use crate::names::Named;
use crate::parse;
use crate::payload::map_of;
use crate::printer::{Report, facts};
use proto::v1::{CreateGrantRequest, GrantConstraints};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    key: Named,
    /// ARN of the principal whom it allows something; an account's root leaves it to the policies of its principals
    #[arg(long, value_name = "ARN")]
    grantee: String,
    /// ARN of a principal who may retire it
    #[arg(long, value_name = "ARN", value_parser = NonEmptyStringValueParser::new())]
    retiring: Option<String>,
    /// What it allows: Encrypt, Decrypt, ReEncryptFrom, ReEncryptTo, GenerateDataKey, GenerateDataKeyWithoutPlaintext,
    /// DescribeKey, CreateGrant, RetireGrant; may be given several times
    #[arg(long = "operation", value_name = "OPERATION", required = true)]
    operations: Vec<String>,
    /// Only for encryption contexts that have at least this pair; may be given several times
    #[arg(long = "context-subset", value_name = "NAME=VALUE", value_parser = parse::pair)]
    subset: Vec<(String, String)>,
    /// Only for the encryption context of exactly these pairs; may be given several times
    #[arg(long = "context-equals", value_name = "NAME=VALUE", value_parser = parse::pair, conflicts_with = "subset")]
    equals: Vec<(String, String)>,
    /// The same name with the same parameters gives the same grant, so that the command can be repeated
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    name: String,
}

#[derive(Serialize)]
struct Created {
    key_id: String,
    grant_id: String,
    grant_token: Zeroizing<String>,
}

impl Report for Created {
    fn text(&self) -> String {
        facts([("Grant", self.grant_id.clone()), ("Token", self.grant_token.to_string())])
    }
}

pub(super) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let encryption_context_subset = map_of("--context-subset", arguments.subset)?.into_iter().collect();
    let encryption_context_equals = map_of("--context-equals", arguments.equals)?.into_iter().collect();
    let constraints = GrantConstraints { encryption_context_subset, encryption_context_equals };
    let client = context.connection.connect().await?;
    let key_id = arguments.key.id(&client).await?;
    let request = CreateGrantRequest {
        key_id: key_id.clone(),
        grantee_principal: arguments.grantee,
        retiring_principal: arguments.retiring.unwrap_or_default(),
        operations: arguments.operations,
        constraints: (constraints != GrantConstraints::default()).then_some(constraints),
        name: arguments.name,
        ..CreateGrantRequest::default()
    };
    let made = client.create_grant(request).await?;
    let grant_token = Zeroizing::new(made.grant_token);
    context.printer.report(&Created { key_id, grant_id: made.grant_id, grant_token })
}
