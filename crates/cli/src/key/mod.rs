//! `keystorectl key …`

mod cancel_deletion;
mod create;
mod describe;
mod destroy_material;
mod disable;
mod enable;
mod last_usage;
mod list;
mod metadata;
mod policy;
mod rotate;
mod rotation;
mod schedule_deletion;
mod tags;
mod update_description;

use clap::Subcommand;
use serde::Serialize;

use super::Context;
use super::failure::Failure;
use super::printer::Report;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Create a key in every HSM of a key store
    Create(create::Arguments),
    /// Show a key: its state, its names, its version and which HSMs hold it
    Describe(describe::Arguments),
    /// Enable a disabled key
    Enable(enable::Arguments),
    /// Disable a key until it is enabled again
    Disable(disable::Arguments),
    /// List keys: all of them, or those that match the filters
    List(list::Arguments),
    /// Tag a key, so that it can be found by its tags
    Tag(tags::Set),
    /// Remove tags from a key
    Untag(tags::Remove),
    /// List the tags of a key
    Tags(tags::Show),
    /// Put or print a key's policy: the root of who may do what with it
    #[command(subcommand)]
    Policy(policy::Command),
    /// Change a key's description
    UpdateDescription(update_description::Arguments),
    /// Rotate a key now: it gets new material, keeps its id and ARN, and still decrypts old ciphertexts
    Rotate(rotate::Arguments),
    /// Rotate keys automatically, and show their material
    #[command(subcommand)]
    Rotation(rotation::Command),
    /// Show when a key was last used
    LastUsage(last_usage::Arguments),
    /// Delete a key after a waiting period of 7 to 30 days; it becomes unusable at once
    ScheduleDeletion(schedule_deletion::Arguments),
    /// Cancel the deletion of a key, which is disabled then
    CancelDeletion(cancel_deletion::Arguments),
    /// Destroy a key's material in the HSMs now; what was encrypted under it is lost for good
    DestroyMaterial(destroy_material::Arguments),
}

pub(super) async fn run(context: &Context, command: Command) -> Result<(), Failure> {
    match command {
        Command::Create(arguments) => create::run(context, arguments).await,
        Command::Describe(arguments) => describe::run(context, arguments).await,
        Command::Enable(arguments) => enable::run(context, arguments).await,
        Command::Disable(arguments) => disable::run(context, arguments).await,
        Command::List(arguments) => list::run(context, arguments).await,
        Command::Tag(arguments) => tags::set(context, arguments).await,
        Command::Untag(arguments) => tags::remove(context, arguments).await,
        Command::Tags(arguments) => tags::show(context, arguments).await,
        Command::Policy(command) => policy::run(context, command).await,
        Command::UpdateDescription(arguments) => update_description::run(context, arguments).await,
        Command::Rotate(arguments) => rotate::run(context, arguments).await,
        Command::Rotation(command) => rotation::run(context, command).await,
        Command::LastUsage(arguments) => last_usage::run(context, arguments).await,
        Command::ScheduleDeletion(arguments) => schedule_deletion::run(context, arguments).await,
        Command::CancelDeletion(arguments) => cancel_deletion::run(context, arguments).await,
        Command::DestroyMaterial(arguments) => destroy_material::run(context, arguments).await,
    }
}

/// What the commands that switch a key tell.
#[derive(Serialize)]
struct Switched {
    key_id: String,
    enabled: bool,
}

impl Report for Switched {
    fn text(&self) -> String {
        format!("{} {}", if self.enabled { "Enabled" } else { "Disabled" }, self.key_id)
    }
}
