//! `keystorectl cluster init`

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::pins::{self, PinFile, pin_file};
use super::place::{Place, get_ready, interruptible, shown};
use crate::Context;
use crate::failure::Failure;
use crate::printer::{Report, facts, table};
use ceremony::{self, Participant};
use client::fingerprint;
use config::Cluster;
use model::id::HsmId;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    place: Place,
    /// File with kmsuser's PIN, or the one that it is to have, which only you may read; HSM=FILE for one HSM; - is
    /// standard input. May be given several times [default: ask once on the terminal]
    #[arg(long = "pin-file", value_name = "[HSM=]FILE", value_parser = pin_file)]
    pin_files: Vec<PinFile>,
    /// File with the security officer's PIN, or the one that a blank token is to have, likewise. Needed only for tokens
    /// without a user
    #[arg(long = "so-pin-file", value_name = "[HSM=]FILE", value_parser = pin_file)]
    so_pin_files: Vec<PinFile>,
    /// Ask on the terminal for the security officer's PIN of the HSMs for which no file is named
    #[arg(long)]
    ask_so_pin: bool,
}

#[derive(Serialize)]
struct Initialised {
    cluster: String,
    trust_anchor: PathBuf,
    /// By which others tell it from another authority's: of the certificate, in hexadecimal digits.
    trust_anchor_sha256: Option<String>,
    hsms: Vec<Hsm>,
}

#[derive(Serialize)]
struct Hsm {
    hsm_id: String,
    zone: String,
    serial: String,
}

impl Report for Initialised {
    fn text(&self) -> String {
        let facts = facts([
            ("Cluster", self.cluster.clone()),
            ("Trust anchor", shown(&self.trust_anchor)),
            ("SHA-256", self.trust_anchor_sha256.clone().unwrap_or_default()),
        ]);
        let rows = self.hsms.iter().map(|hsm| vec![hsm.hsm_id.clone(), hsm.zone.clone(), hsm.serial.clone()]);
        format!("{facts}\n\n{}", table(&["hsm", "zone", "token serial"], rows))
    }
}

pub(super) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let Arguments { place, pin_files, so_pin_files, ask_so_pin } = arguments;
    let (config, cluster) = place.read()?;
    let folder = place.folder()?;
    let pin_files = pins::files(&pin_files, &cluster, "--pin-file")?;
    let so_pin_files = pins::files(&so_pin_files, &cluster, "--so-pin-file")?;
    pins::only_one_from_standard_input(&pin_files, &so_pin_files)?;
    get_ready(context, &config)?;

    let hsms: Vec<&HsmId> = cluster.hsms.iter().map(|hsm| &hsm.id).collect();
    let mut so_pins =
        pins::read(&so_pin_files, &hsms, ask_so_pin, "the security officer's PIN", "--so-pin-file").await?;
    let mut pins = pins::read(&pin_files, &hsms, true, "kmsuser's PIN", "--pin-file").await?;
    let participant = |hsm: &config::Hsm| {
        let pin = pins.remove(&hsm.id).unwrap_or_default();
        Participant::of(&config, hsm, pin, so_pins.remove(&hsm.id))
    };
    let participants: Vec<Participant> = cluster.hsms.iter().map(participant).collect();

    let mut progress = |words: &str| context.printer.note(words);
    let carried_out = ceremony::run(&cluster.id, &participants, &folder, &context.clock, &mut progress);
    let serials = interruptible(carried_out).await?;
    let trust_anchor = ceremony::trust_anchor(&folder);
    context.printer.report(&Initialised {
        cluster: cluster.id.to_string(),
        trust_anchor: trust_anchor.clone(),
        trust_anchor_sha256: std::fs::read_to_string(&trust_anchor).ok().and_then(|pem| fingerprint(&pem)),
        hsms: of(&cluster, serials),
    })?;
    let kept = match cluster.hsms.iter().any(|hsm| hsm.capabilities.keys.in_place()) {
        true => "it certifies tokens as HSMs of this cluster",
        false => "with the PINs it brings further HSMs into the cluster",
    };
    context.printer.note(format!(
        "\nNext:\n  keystored check --config {}\n  keystorectl key-store create NAME --cluster {} --trust-anchor {}\n\
         Keep {} where the daemon cannot read it: {kept}.",
        shown(&place.config),
        cluster.id,
        shown(&trust_anchor),
        shown(&folder),
    ));
    Ok(())
}

fn of(cluster: &Cluster, serials: Vec<String>) -> Vec<Hsm> {
    let hsms = cluster.hsms.iter().zip(serials);
    hsms.map(|(hsm, serial)| Hsm { hsm_id: hsm.id.to_string(), zone: hsm.zone.to_string(), serial }).collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        arguments: Arguments,
    }

    #[test]
    fn pins_are_no_arguments() {
        let line = ["init", "--config", "keystored.toml", "--folder", "ceremony"];
        assert!(Line::try_parse_from(line).is_ok());
        assert!(Line::try_parse_from([&line[..], &["--pin-file", "a", "--pin-file", "hsm-b=b"]].concat()).is_ok());
        for more in [&["--pin", "1234"][..], &["--pin=1234"], &["--so-pin", "1234"], &["1234"]] {
            assert!(Line::try_parse_from([&line[..], more].concat()).is_err(), "{more:?}");
        }
    }

    #[test]
    fn the_answer_names_every_token() {
        let done = Initialised {
            cluster: "cluster-keystoredev".to_owned(),
            trust_anchor: "/c/customerCA.crt".into(),
            trust_anchor_sha256: Some("ab12".to_owned()),
            hsms: of(&super::super::fixture::cluster(), vec!["01".to_owned(), "02".to_owned()]),
        };
        let text = done.text();
        assert!(text.contains("Trust anchor  /c/customerCA.crt\nSHA-256       ab12\n"), "{text}");
        assert!(text.contains("hsm-b  b     02"), "{text}");
        let json = serde_json::to_value(done).unwrap();
        assert_eq!((&json["cluster"], &json["hsms"][0]["serial"]), (&"cluster-keystoredev".into(), &"01".into()));
    }
}
