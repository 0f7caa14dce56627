//! `keystorectl key rotate`

use clap::Args;
use serde::Serialize;

use crate::Context;
use crate::failure::Failure;
use crate::names::{Named, permitted};
use crate::printer::Report;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    key: Named,
}

#[derive(Serialize)]
struct Rotated {
    key_arn: String,
    /// Absent, as the next one, where the caller may not know it.
    current_version: Option<u32>,
    current_key_material_id: Option<String>,
}

impl Report for Rotated {
    fn text(&self) -> String {
        let version =
            self.current_version.map_or_else(|| "a new version".to_owned(), |number| format!("version {number}"));
        format!("Rotated {}: {version} encrypts from now on", self.key_arn)
    }
}

pub(super) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let client = context.connection.connect().await?;
    let key_arn = client.rotate_key_on_demand(&arguments.key.id(&client).await?).await?;
    // Whoever is told of a failure would rotate it once more.
    let key = permitted(client.describe_key(&key_arn).await)?;
    let (current_version, current_key_material_id) =
        key.map(|key| (key.current_version, key.current_key_material_id)).unzip();
    context.printer.report(&Rotated { key_arn, current_version, current_key_material_id })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rotation_is_told_of_to_whoever_may_not_see_what_came_of_it() {
        let rotated =
            |current_version| Rotated { key_arn: "arn".to_owned(), current_version, current_key_material_id: None };
        assert_eq!(rotated(Some(7)).text(), "Rotated arn: version 7 encrypts from now on");
        assert_eq!(rotated(None).text(), "Rotated arn: a new version encrypts from now on");
    }
}
