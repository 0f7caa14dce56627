//! `keystorectl cluster add-hsm`
//!
//! Certified here, wrapped for by the daemon, kept here, let in by the daemon. The folder remembers what was certified
//! and wrapped, so that the command can be repeated after the daemon has let the HSM in: from then on the daemon holds
//! it, and has changed its PIN. No HSM joins before its wrapped copy is in the folder.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use clap::Args;
use serde::Serialize;

use super::pins;
use super::place::{self, Place, get_ready, interruptible};
use crate::failure::{Exit, Failure};
use crate::printer::Report;
use crate::{Context, parse};
use ceremony::{self, NewMember, Participant};
use config::{Config, Hsm};
use model::id::{ClusterId, HsmId};
use model::secret::Secret;
use proto::v1::{AddHsmRequest, ClusterHsm};

/// Long enough for the daemon to start workers, to change a PIN and to have the wrapping key handed on.
const LETTING_IN: Duration = Duration::from_secs(120);

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The new HSM, which the configuration names already
    #[arg(value_parser = parse::hsm_id)]
    hsm: String,
    #[command(flatten)]
    place: Place,
    /// Member of the cluster that hands the wrapping key on [default: any in the folder]
    #[arg(long, value_name = "MEMBER", value_parser = parse::hsm_id)]
    from: Option<String>,
    /// File with kmsuser's PIN in the new HSM, or the one that it is to have, which only you may read; - is standard
    /// input [default: ask on the terminal]
    #[arg(long, value_name = "FILE")]
    pin_file: Option<PathBuf>,
    /// File with the security officer's PIN, or the one that a blank token is to have. Needed only for a token without
    /// a user
    #[arg(long, value_name = "FILE")]
    so_pin_file: Option<PathBuf>,
    /// Ask for the security officer's PIN on the terminal
    #[arg(long, conflicts_with = "so_pin_file")]
    ask_so_pin: bool,
    /// Certify the HSM again, although the folder holds its certificates: its token was initialised anew before it ever
    /// joined. A member whose token was lost is replaced under a new HSM id
    #[arg(long)]
    certify_again: bool,
}

#[derive(Serialize)]
struct Added {
    cluster: String,
    hsm_id: String,
    serial: String,
    keys_to_place: u64,
    /// Before this command.
    was_member: bool,
}

impl Report for Added {
    fn text(&self) -> String {
        let Self { cluster, hsm_id, serial, keys_to_place, was_member } = self;
        let keys = match keys_to_place {
            0 => "no key has to be placed in it".to_owned(),
            1 => "1 key version is being placed in it".to_owned(),
            count => format!("{count} key versions are being placed in it"),
        };
        match was_member {
            true => format!("HSM {hsm_id} (token {serial}) is a member of {cluster} already; {keys}"),
            false => format!("HSM {hsm_id} (token {serial}) has joined {cluster}; {keys}"),
        }
    }
}

pub(super) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let Arguments { hsm, place, from, pin_file, so_pin_file, ask_so_pin, certify_again } = arguments;
    let (config, cluster) = place.read()?;
    let folder = place.folder()?;
    if !folder.is_dir() {
        return Err(Failure::local(format!("{} is no folder", folder.display()))
            .with_hint("name the folder of the ceremony that made this cluster"));
    }
    let hsm = place::hsm(&cluster, &hsm)?;
    let from = from.map(|from| place::hsm(&cluster, &from).map(|member| member.id.clone())).transpose()?;
    if from.as_ref() == Some(&hsm.id) {
        return Err(Failure::usage("--from names the new HSM itself; a member has to hand the wrapping key on"));
    }
    // Known before anything is done to the token.
    let client = context.connection.connect_for(LETTING_IN).await?;
    let hsms = client.describe_clusters(Some(cluster.id.as_str())).await?;
    let hsms: Vec<ClusterHsm> = hsms.into_iter().flat_map(|cluster| cluster.hsms).collect();
    let itself = hsms.iter().find(|known| id_of(known) == hsm.id.as_str());
    if let Some(member) = itself.filter(|itself| itself.member && !certify_again) {
        return report_member(context, &cluster.id, member.clone(), &folder);
    }
    let members: Vec<HsmId> = hsms.iter().filter(|hsm| hsm.member).map(|hsm| HsmId::from(id_of(hsm))).collect();
    let (member, member_wrapped_key) = ceremony::member_parcel(&folder, from.as_ref(), &members, &hsm.id)?;

    let certified = if certify_again { None } else { ceremony::certified(&folder, &hsm.id)? };
    let known = certified.is_some();
    let pins = Pins { pin_file, so_pin_file, ask_so_pin };
    let (pin, newcomer) = match certified {
        Some(newcomer) => {
            context.printer.note(format!("HSM {}: certified before (token {})", hsm.id, newcomer.serial));
            (pins.pin(&hsm.id).await?, newcomer)
        }
        None => certify(context, &config, &cluster.id, hsm, &folder, pins).await?,
    };
    let request = AddHsmRequest {
        cluster_id: cluster.id.to_string(),
        hsm_id: hsm.id.to_string(),
        identity_certificate: newcomer.identity_certificate,
        transport_certificate: newcomer.transport_certificate.clone(),
        member_hsm_id: member.to_string(),
        member_wrapped_key: member_wrapped_key.into(),
        ..Default::default()
    };
    let transport = &newcomer.transport_certificate;
    let mut parcel = ceremony::own_parcel(&folder, &hsm.id, transport, &context.clock)?;
    if parcel.is_none() {
        context
            .printer
            .note(format!("HSM {}: the daemon lets it in, and HSM {member} hands the wrapping key on", hsm.id));
        let request = AddHsmRequest { wrap_only: true, ..request.clone() };
        let answer = client.add_hsm(request, &pin).await.map_err(|error| refused(error.into(), known))?;
        // Empty: the token holds the key already.
        parcel = Some(Bytes::from(answer.wrapped_key)).filter(|blob| !blob.is_empty());
        if let Some(blob) = &parcel {
            ceremony::keep_parcel(&folder, &member, &hsm.id, transport, blob.clone(), &context.clock).await?;
        }
    }
    context.printer.note(format!("HSM {}: the daemon has it join", hsm.id));
    let request = AddHsmRequest { wrapped_key: parcel.unwrap_or_default().into(), ..request };
    let answer = client.add_hsm(request, &pin).await.map_err(|error| refused(error.into(), known))?;
    context.printer.report(&Added {
        cluster: cluster.id.to_string(),
        hsm_id: hsm.id.to_string(),
        serial: newcomer.serial,
        keys_to_place: answer.keys_to_place,
        was_member: false,
    })?;
    if answer.keys_to_place > 0 {
        context.printer.note(format!("`keystorectl cluster status {}` shows how many are missing yet.", cluster.id));
    }
    Ok(())
}

fn id_of(hsm: &ClusterHsm) -> &str {
    hsm.status.as_ref().map_or("", |status| &status.hsm_id)
}

/// There is nothing to be done: an earlier run has done it, and only its answer was lost.
fn report_member(context: &Context, cluster: &ClusterId, member: ClusterHsm, folder: &Path) -> Result<(), Failure> {
    let status = member.status.unwrap_or_default();
    let hsm = HsmId::from(status.hsm_id.as_str());
    if !ceremony::holds_parcel(folder, &hsm)? {
        context.printer.note(format!(
            "note: {} holds no wrapped copy for HSM {hsm}, so that it cannot hand the wrapping key on to further HSMs; those \
             whose copy is there can. Look for the copy in a backup of the folder: none is made for a member",
            folder.display()
        ));
    }
    context.printer.report(&Added {
        cluster: cluster.to_string(),
        hsm_id: status.hsm_id,
        serial: status.token_serial,
        keys_to_place: member.keys_missing,
        was_member: true,
    })
}

/// Where the new HSM's PINs come from.
struct Pins {
    pin_file: Option<PathBuf>,
    so_pin_file: Option<PathBuf>,
    ask_so_pin: bool,
}

impl Pins {
    async fn pin(&self, hsm: &HsmId) -> Result<Secret, Failure> {
        let pin = read(&self.pin_file, hsm, true, "kmsuser's PIN", "--pin-file").await?;
        Ok(pin.unwrap_or_default())
    }

    async fn so_pin(&self, hsm: &HsmId) -> Result<Option<Secret>, Failure> {
        read(&self.so_pin_file, hsm, self.ask_so_pin, "the security officer's PIN", "--so-pin-file").await
    }
}

async fn read(
    file: &Option<PathBuf>,
    hsm: &HsmId,
    ask: bool,
    whose: &str,
    flag: &str,
) -> Result<Option<Secret>, Failure> {
    let files = file.iter().map(|file| (hsm.clone(), file.clone())).collect();
    Ok(pins::read(&files, &[hsm], ask, whose, flag).await?.remove(hsm))
}

async fn certify(
    context: &Context,
    config: &Config,
    cluster: &ClusterId,
    hsm: &Hsm,
    folder: &Path,
    pins: Pins,
) -> Result<(Secret, NewMember), Failure> {
    if pins.pin_file == Some("-".into()) && pins.so_pin_file == Some("-".into()) {
        return Err(Failure::usage("standard input holds one PIN: name a file for --pin-file or for --so-pin-file"));
    }
    get_ready(context, config)?;
    let so_pin = pins.so_pin(&hsm.id).await?;
    let pin = pins.pin(&hsm.id).await?;
    let participant = Participant::of(config, hsm, pin.clone(), so_pin);
    let mut progress = |words: &str| context.printer.note(words);
    let certified = ceremony::certify(cluster, &participant, folder, &context.clock, &mut progress);
    Ok((pin, interruptible(certified).await?))
}

/// A daemon that does not let in what was certified before may have found another token.
fn refused(failure: Failure, known: bool) -> Failure {
    if known && failure.exit == Exit::Refused {
        return failure.with_hint("if its token was initialised anew since it was certified, give --certify-again");
    }
    match failure.exit {
        Exit::Refused => failure,
        _ => failure.with_hint("the same command goes on from where it stopped"),
    }
}
