//! `keystorectl key rotation …`

use clap::{Args, Subcommand};
use serde::Serialize;

use crate::Context;
use crate::failure::Failure;
use crate::names::{Named, permitted};
use crate::printer::{Report, facts, table};
use crate::status::yes_or_no;
use client::Client;
use model::limits;
use proto::v1 as wire;

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Rotate a key automatically every so many days, counted from now
    Enable(Enable),
    /// Stop that; the key is still rotated on demand, and when a version wears out
    Disable(Named),
    /// Show whether and when a key is rotated automatically
    Status(Named),
    /// List a key's material, oldest first
    List(List),
}

#[derive(Debug, Args)]
pub(crate) struct Enable {
    #[command(flatten)]
    named: Named,
    /// Days between two rotations, 90 to 2,560 [default: 365]
    #[arg(long, value_name = "DAYS")]
    period: Option<u32>,
}

#[derive(Debug, Args)]
pub(crate) struct List {
    #[command(flatten)]
    named: Named,
    /// Leave out the material that the key was made with
    #[arg(long)]
    rotations_only: bool,
}

#[derive(Serialize)]
struct Status {
    key_arn: String,
    key_rotation_enabled: bool,
    rotation_period_in_days: Option<u32>,
    next_rotation_date: Option<String>,
    on_demand_rotation_in_progress: bool,
}

/// What somebody sees who may change it and not look at it.
#[derive(Serialize)]
struct Changed {
    key_id: String,
    key_rotation_enabled: bool,
}

#[derive(Serialize)]
struct Rotations {
    rotations: Vec<Rotation>,
}

#[derive(Serialize)]
struct Rotation {
    version: u32,
    key_material_id: String,
    key_material_state: String,
    rotation_date: Option<String>,
    rotation_type: Option<&'static str>,
    rotation_cause: Option<&'static str>,
}

impl Report for Status {
    fn text(&self) -> String {
        let period = self.rotation_period_in_days.map_or_else(|| "none".to_owned(), |days| format!("{days} days"));
        facts([
            ("Key ARN", self.key_arn.clone()),
            ("Rotated by itself", yes_or_no(self.key_rotation_enabled).to_owned()),
            ("Period", period),
            ("Next rotation", self.next_rotation_date.clone().unwrap_or_else(|| "none".to_owned())),
            ("On demand, under way", yes_or_no(self.on_demand_rotation_in_progress).to_owned()),
        ])
    }
}

impl Report for Changed {
    fn text(&self) -> String {
        facts([("Key", self.key_id.clone()), ("Rotated by itself", yes_or_no(self.key_rotation_enabled).to_owned())])
    }
}

impl Report for Rotations {
    fn text(&self) -> String {
        if self.rotations.is_empty() {
            return "The key was not rotated so far.".to_owned();
        }
        let row = |one: &Rotation| {
            vec![
                one.version.to_string(),
                one.key_material_state.clone(),
                one.rotation_date.clone().unwrap_or_default(),
                one.rotation_type.unwrap_or("").to_owned(),
                one.rotation_cause.unwrap_or("made with the key").to_owned(),
                one.key_material_id.clone(),
            ]
        };
        table(&["version", "state", "since", "type", "why", "key material id"], self.rotations.iter().map(row))
    }
}

pub(super) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    let client = context.connection.connect().await?;
    match command {
        Command::Enable(Enable { named, period }) => {
            let key_id = named.id(&client).await?;
            client.enable_key_rotation(&key_id, period).await?;
            changed(context, &client, key_id, true).await
        }
        Command::Disable(named) => {
            let key_id = named.id(&client).await?;
            client.disable_key_rotation(&key_id).await?;
            changed(context, &client, key_id, false).await
        }
        Command::Status(named) => {
            let key_id = named.id(&client).await?;
            context.printer.report(&status(client.get_key_rotation_status(&key_id).await?))
        }
        Command::List(List { named, rotations_only }) => {
            let include = match rotations_only {
                true => wire::IncludeKeyMaterial::RotationsOnly,
                false => wire::IncludeKeyMaterial::AllKeyMaterial,
            };
            let key_id = named.id(&client).await?;
            let (mut rotations, mut marker, mut more) = (Vec::new(), String::new(), true);
            while more {
                let request = wire::ListKeyRotationsRequest {
                    key_id: key_id.clone(),
                    include_key_material: include.into(),
                    limit: Some(limits::LIST_LIMIT),
                    marker,
                };
                let page = client.list_key_rotations(request).await?;
                (more, marker) = (page.truncated && !page.rotations.is_empty(), page.next_marker);
                rotations.extend(page.rotations.into_iter().map(rotation));
            }
            context.printer.report(&Rotations { rotations })
        }
    }
}

/// Shows how the rotation of a key stands that was switched on or off; to whoever may not see that, that it was.
async fn changed(context: &Context, client: &Client, key_id: String, to: bool) -> Result<(), Failure> {
    match permitted(client.get_key_rotation_status(&key_id).await)? {
        Some(now) => context.printer.report(&status(now)),
        None => context.printer.report(&Changed { key_id, key_rotation_enabled: to }),
    }
}

fn status(status: wire::GetKeyRotationStatusResponse) -> Status {
    Status {
        key_arn: status.key_id,
        key_rotation_enabled: status.key_rotation_enabled,
        rotation_period_in_days: status.key_rotation_enabled.then_some(status.rotation_period_in_days),
        next_rotation_date: status.next_rotation_date.map(|date| date.to_string()),
        on_demand_rotation_in_progress: status.on_demand_rotation_in_progress,
    }
}

fn rotation(one: wire::KeyRotation) -> Rotation {
    Rotation {
        version: one.version,
        rotation_type: match one.rotation_type() {
            wire::RotationType::Unspecified => None,
            wire::RotationType::Automatic => Some("AUTOMATIC"),
            wire::RotationType::OnDemand => Some("ON_DEMAND"),
        },
        rotation_cause: cause(one.rotation_cause()),
        key_material_id: one.key_material_id,
        key_material_state: one.key_material_state,
        rotation_date: one.rotation_date.map(|date| date.to_string()),
    }
}

/// Why a version was made, for people; `None` for a key's first one.
pub(super) const fn cause(cause: wire::RotationCause) -> Option<&'static str> {
    match cause {
        wire::RotationCause::Unspecified => None,
        wire::RotationCause::Request => Some("somebody asked for it"),
        wire::RotationCause::Period => Some("its period was over"),
        wire::RotationCause::Wear => Some("the version before wore out"),
    }
}
