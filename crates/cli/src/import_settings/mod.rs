//! `keystorectl import-settings`: what the AWS CLI printed of an account's keys is made here, under new keys.
//!
//! Files are read into an [`read::Account`], names made to those of this installation ([`wanted`]), compared with what is
//! here ([`here`]), and the difference is the plan ([`plan`]), which [`apply`] carries out. Nothing is remembered between
//! two imports but what they made: keys have a tag with the ARN of the old key.

mod apply;
mod here;
mod mapping;
mod plan;
mod policy;
mod read;
mod shapes;
mod show;
mod wanted;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};

use clap::Args;

use super::failure::{Exit, Failure};
use super::{Context, payload, terminal};
use client::seal;
use client::seal::target::{Permission, Target};
use mapping::Mapping;
use plan::{Making, Plan};
use show::{Shown, mapping_lines};

/// Longest file of names.
const MAP_BYTES: usize = 16 << 20;

/// Keys of an AWS account, as the AWS CLI printed them: new keys with their descriptions, tags, aliases, policies and
/// grants. Shows what it would do, and does it with --apply.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Folder with what the AWS CLI printed: list-aliases.json, and for each key KEYID/describe-key.json,
    /// get-key-policy.json, list-grants.json and list-resource-tags.json
    folder: PathBuf,
    /// Key store that keeps the new keys; needed where there are several
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    key_store: String,
    /// What stands here for an ARN or for an account's number, in policies and grants; may be given several times
    #[arg(long, value_name = "OLD=NEW", value_parser = mapping::pair)]
    map: Vec<(String, String)>,
    /// File with such pairs, one on each line
    #[arg(long, value_name = "FILE")]
    map_file: Option<PathBuf>,
    /// Also policies by which you could not put another one afterwards; only the configuration's administrators may be
    /// able to then
    #[arg(long)]
    bypass_lockout_check: bool,
    /// Do it; shows the plan and asks first, unless --plan names it
    #[arg(long)]
    apply: bool,
    /// Do not ask
    #[arg(long, requires = "apply")]
    yes: bool,
    /// Only if the plan is still this one
    #[arg(long, value_name = "SHA256", requires = "apply")]
    plan: Option<String>,
    /// Write the new ARNs of old ones to this file, OLD=NEW on each line
    #[arg(long, value_name = "FILE", requires = "apply")]
    out: Option<PathBuf>,
    /// Replace the file of --out when it exists
    #[arg(long, requires = "out")]
    force: bool,
}

pub(super) async fn run(context: &Context, arguments: Arguments) -> Result<(), Failure> {
    let Arguments { folder, key_store: key_store_id, map, map_file, bypass_lockout_check, .. } = arguments;
    let mapping = names(context, map, map_file.as_deref()).await?;
    // On panic: the command fails.
    let reading = tokio::task::spawn_blocking(move || read::read(&folder));
    let mut account = reading.await.map_err(|_| Failure::local("reading the files failed"))??;
    let client = context.connection.connect().await?;

    let old_arns: BTreeSet<&str> = account.keys.iter().map(|key| key.metadata.arn.as_str()).collect();
    let keys = here::made(&client, &old_arns).await?;
    let made: BTreeMap<String, String> = keys.iter().map(|key| (key.old_arn.clone(), key.arn.clone())).collect();
    let wanted = wanted::wanted(&account, &mapping, &made)?;
    let here = here::look(&client, keys, &wanted).await?;
    let left_out = std::mem::take(&mut account.left_out);
    let plan = plan::plan(wanted, left_out, &here, Making { key_store_id, bypass_lockout_check });
    let digest = plan.digest().map_err(|error| Failure::local(error.to_string()))?;

    let stopped = stopped(&plan, &digest, arguments.plan.as_deref());
    let asks = arguments.apply && !arguments.yes && arguments.plan.is_none() && plan.steps() > 0;
    let shown = Shown { digest: &digest, plan: &plan, asks };
    if !arguments.apply || stopped.is_some() {
        context.printer.report(&shown)?;
        return stopped.map_or(Ok(()), Err);
    }
    if asks {
        agreed(context, &shown).await?;
    }
    let out = arguments.out.map(|path| target(path, arguments.force)).transpose()?;
    let (applied, outcome) = apply::apply(&client, &context.printer, &plan, &mapping).await;
    // What was made is told, whatever came after it.
    let written = out.map_or(Ok(()), |(path, target)| write(&path, target, &mapping_lines(&applied)));
    context.printer.report(&applied)?;
    outcome.and(written)
}

/// Has a person agree to a plan that nobody has named.
async fn agreed(context: &Context, shown: &Shown<'_>) -> Result<(), Failure> {
    if context.printer.json() || !terminal::can_ask() {
        return Err(Failure::usage("nobody can be asked: standard input is no terminal, or the output is JSON")
            .with_hint("give --plan with the name of a plan that was looked at, or --yes"));
    }
    context.printer.report(shown)?;
    match terminal::confirm("Do it?".to_owned()).await? {
        true => Ok(()),
        false => Err(Failure::new(Exit::Interrupted, "nothing was done")),
    }
}

/// Why the plan is not carried out.
fn stopped(plan: &Plan, digest: &str, demanded: Option<&str>) -> Option<Failure> {
    let problems = match plan.problems() {
        0 => None,
        1 => Some("it cannot be done because of a problem".to_owned()),
        problems => Some(format!("it cannot be done because of {problems} problems")),
    };
    if let Some(problems) = problems {
        return Some(Failure::new(Exit::Refused, problems));
    }
    let other = demanded.filter(|demanded| !demanded.eq_ignore_ascii_case(digest))?;
    let what = format!("the plan is not {other}, but {digest}; nothing was done");
    Some(Failure::new(Exit::Refused, what).with_hint("look at the plan again"))
}

async fn names(context: &Context, mut pairs: Vec<(String, String)>, file: Option<&Path>) -> Result<Mapping, Failure> {
    if let Some(file) = file {
        let bytes = payload::read(context, file, MAP_BYTES, "mapping", "").await?;
        let wrong = |why: String| Failure::local(format!("{}: {why}", file.display()));
        let text = std::str::from_utf8(bytes.expose()).map_err(|_| wrong("this is not text".to_owned()))?;
        pairs.extend(mapping::pairs(text).map_err(wrong)?);
    }
    Mapping::new(pairs).map_err(Failure::usage)
}

/// The file of --out, before anything is done that it could not be told of.
fn target(path: PathBuf, force: bool) -> Result<(PathBuf, Target), Failure> {
    if !force && std::fs::symlink_metadata(&path).is_ok() {
        return Err(seal::Error::Exists(path).into());
    }
    let target = Target::create(&path, Permission { overwrite: force, mode: 0o666 })?;
    Ok((path, target))
}

fn write(path: &Path, mut target: Target, text: &str) -> Result<(), Failure> {
    let failed = |cause| seal::Error::Output { path: path.to_owned(), cause };
    target.file().write_all(text.as_bytes()).map_err(failed)?;
    Ok(target.finish()?)
}
