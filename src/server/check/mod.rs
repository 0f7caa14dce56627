//! `keystored check`: tries everything that the configuration names and says how to mend what is wrong.

mod administrators;
mod approvals;
mod audit;
mod certificates;
mod database;
mod disk;
mod host;
mod identity;

use std::io::{self, Write};

use super::terms::Terms;
use super::{parts, tls};
use config::{Config, Hsm};
use model::clock::Clock;
use model::profile::{Basis, Need, notes};
use model::text;
use protocol::{Class, Fault, Ready, Role, UserFlags};
use supervisor::{Settings, StartError, Worker, lock_file};
use telemetry::WORKER_LOG;

/// How an operator sees what a module was denied: the kernel tells its administrator alone.
const DENIED: &str = "as root, strace -f -Z -e trace=file,network keystored check … lists it; write it into `sandbox`";

/// Looks at each HSM through a worker, without logging in, and prints what it can do; false when something must be
/// mended.
///
/// Runs beside a daemon: it takes no lock that the daemon holds, and no request away from it.
pub async fn check(config: &Config, clock: &Clock, out: &mut (dyn Write + Send)) -> bool {
    // A terminal that has gone away is no fault of the HSMs; the answer is in the exit code too.
    examine(config, clock, out).await.unwrap_or(false)
}

async fn examine(config: &Config, clock: &Clock, out: &mut (dyn Write + Send)) -> io::Result<bool> {
    let mut good = true;
    for terms in std::iter::once(Terms::grpc(&config.grpc)).chain(config.aws.as_ref().map(Terms::aws)) {
        let of = if terms.section == "aws" { "TLS of aws" } else { "TLS" };
        match tls::Tls::load(terms) {
            Ok(tls) => {
                let files = match tls.terms().client_ca() {
                    Some(_) => "certificate, key and client CAs",
                    None => "certificate and key",
                };
                writeln!(out, "{of}: {files} can be loaded and belong together")?;
                good &= certificates::look(&tls, clock.calendar(), out)?;
            }
            Err(error) => {
                good = false;
                writeln!(out, "{of}: {error}")?;
            }
        }
    }
    match parts::seals(&config.seal) {
        Ok(_) => writeln!(out, "seal key: can be used")?,
        Err(error) => {
            good = false;
            writeln!(out, "{error}")?;
        }
    }
    good &= host::files(config, out)?;
    if let Err(error) = parts::make_state_dir(config) {
        writeln!(out, "{error}")?;
        return Ok(false);
    }
    // After the state directory, which it may be, or be in.
    good &= host::locks(config, out)?;
    good &= disk::examine(config, out)?;
    good &= database::examine(config, out)?;
    good &= audit::examine(config, out)?;
    good &= administrators::examine(config, out)?;
    approvals::examine(config, out)?;
    for cluster in &config.clusters {
        writeln!(out, "\ncluster {}", cluster.id)?;
        for hsm in &cluster.hsms {
            good &= examine_hsm(config, hsm, clock, out).await?;
        }
    }
    writeln!(out, "\n{}", if good { "everything is as it should be" } else { "something must be mended: see above" })?;
    Ok(good)
}

async fn examine_hsm(config: &Config, hsm: &Hsm, clock: &Clock, out: &mut (dyn Write + Send)) -> io::Result<bool> {
    writeln!(out, "\n  HSM {} in zone {}: token {:?} in {}", hsm.id, hsm.zone, hsm.token_label, hsm.module.display())?;
    if !hsm.module.exists() {
        writeln!(
            out,
            "    wrong: the module is not there\n    to do: install the vendor's PKCS#11 module, or correct `module`"
        )?;
        return Ok(false);
    }
    writeln!(out, "    profile: {}", profile(hsm))?;
    if hsm.capabilities.keys.in_place() {
        writeln!(
            out,
            "    keys: made in it and never taken out; what is in {} is what its module has put there, and no backup of \
             keystored's has it",
            hsm.zone.names().collect::<Vec<_>>().join(" and ")
        )?;
    }
    for note in notes(&hsm.capabilities) {
        writeln!(out, "    note: {note}")?;
    }
    let mut settings = Settings::of(config, hsm);
    settings.lock_file = lock_file(config, &hsm.id, "check.lock");
    // All else can be looked at without it.
    let in_file = settings.certificate.is_some().then(|| settings.clone());
    settings.certificate = None;
    // What the worker would log is printed here in better words.
    settings.environment.insert(WORKER_LOG[1].to_owned(), "off".to_owned());
    let started = Worker::start(&settings, Role::Control, clock).await;
    let _ = std::fs::remove_file(&settings.lock_file);
    match started {
        Ok(worker) => {
            let (ready, now) = (worker.ready(), clock.calendar());
            let described = describe(ready, hsm, out);
            let good = described.and_then(|good| Ok(identity::look(in_file.as_ref(), ready, now, out)? && good));
            worker.stop().await;
            good
        }
        Err(error) => {
            let error_shown = error.to_string();
            writeln!(out, "    wrong: {}\n    to do: {}", text::shown(&error_shown), remedy(&error, hsm))?;
            Ok(false)
        }
    }
}

fn describe(ready: &Ready, hsm: &Hsm, out: &mut (dyn Write + Send)) -> io::Result<bool> {
    writeln!(out, "    module: {}", text::shown(&ready.module))?;
    writeln!(out, "    token: {:?}, serial number {}", ready.label, text::shown(&ready.serial))?;
    let mut good = user(&ready.user, out)?;
    for need in Need::ALL.into_iter().filter(|need| need.is_one_of(&hsm.capabilities)) {
        let has = match need {
            _ if ready.abilities.missing.contains(&need) => "no",
            _ if ready.abilities.unclear.contains(&need) => "its list does not say",
            _ => "yes",
        };
        writeln!(out, "    {}: {has}", need.name())?;
    }
    if let Some(why) = ready.abilities.refusal(&hsm.capabilities) {
        good = false;
        writeln!(
            out,
            "    wrong: {why}\n    to do: take this HSM out of the configuration, or let it do what is missing"
        )?;
    }
    if let Some(doubt) = ready.abilities.doubt() {
        writeln!(out, "    note: {doubt}")?;
    }
    writeln!(
        out,
        "    note: what the token does in truth is examined once kmsuser has logged in, when the key store is connected; \
         keystorectl key-store describe and keystorectl cluster doctor show what was found"
    )?;
    for sentence in &ready.degraded {
        writeln!(out, "    note: {}", text::shown(sentence))?;
    }
    Ok(good)
}

/// By which vendor's habits it is run, and how far they are to be trusted.
fn profile(hsm: &Hsm) -> String {
    let from = match hsm.capabilities.basis {
        Basis::Measured => "measured on the module itself",
        Basis::Documents => "from documents, not run on the device",
        Basis::Standard => "what the standard says",
    };
    format!("{} ({from})", hsm.profile.name())
}

/// What the token says of kmsuser.
fn user(flags: &UserFlags, out: &mut (dyn Write + Send)) -> io::Result<bool> {
    let officer =
        "have the security officer set kmsuser's PIN, and give it to the key store (keystorectl key-store update)";
    let wrong = match flags {
        UserFlags { initialised: false, .. } => "the token has no user",
        UserFlags { locked: true, .. } => "the token has locked kmsuser",
        UserFlags { final_try: true, .. } => "one more wrong PIN would lock kmsuser",
        UserFlags { count_low: true, .. } => {
            writeln!(out, "    note: a wrong PIN was entered since kmsuser last logged in")?;
            return Ok(true);
        }
        UserFlags { .. } => return Ok(true),
    };
    writeln!(out, "    wrong: {wrong}\n    to do: {officer}")?;
    Ok(false)
}

/// What to do about a worker that did not start.
fn remedy(error: &StartError, hsm: &Hsm) -> String {
    let module = hsm.module.display();
    match error {
        StartError::Spawn { .. } => {
            "see whether this program may still be executed and processes may be made".to_owned()
        }
        StartError::Certificate(error) => error.remedy.clone(),
        StartError::Died(_) => format!(
            "the module crashed or hangs; try it with another PKCS#11 client and the environment of [cluster.hsm.env], \
             look at its log, and at what it was denied in case it needs what confined workers may not reach ({DENIED}): \
             {module}"
        ),
        StartError::Refused(Fault { class: Class::Refused, .. }) => {
            "change the setting that is named, or what it asks for on this machine".to_owned()
        }
        StartError::Refused(_) => {
            let serial = match &hsm.token_serials[..] {
                [] => String::new(),
                serials => format!(" and serial number {}", serials.join(" or ")),
            };
            format!(
                "see whether the module finds a token with label {:?}{serial} (pkcs11-tool --module {module} -L, with the \
                 same environment), and whether the daemon's user may read its files or reach the HSM; a module that works \
                 there and not here may need more than its sandbox has ({DENIED})",
                hsm.token_label
            )
        }
    }
}
