//! `keystored check`: tries everything that the configuration names and says how to mend what is wrong.

use std::io::{self, Write};

use super::{parts, settings, tls};
use crate::config::{self, Config, Hsm};
use crate::hsm::protocol::{Abilities, Class, Fault, Ready, Role};
use crate::hsm::supervisor::{StartError, Worker};
use crate::model::clock::Clock;
use crate::telemetry::WORKER_LOG;

/// Reads each HSM through a worker and prints what it can do; false when something must be mended.
///
/// Runs beside a daemon: it takes no lock that the daemon holds, and no request away from it.
pub async fn check(config: &Config, clock: &Clock, out: &mut (dyn Write + Send)) -> bool {
    // A terminal that has gone away is no fault of the HSMs; the answer is in the exit code too.
    examine(config, clock, out).await.unwrap_or(false)
}

async fn examine(config: &Config, clock: &Clock, out: &mut (dyn Write + Send)) -> io::Result<bool> {
    let mut good = true;
    match tls::Tls::load(&config.grpc) {
        Ok(_) => writeln!(out, "TLS: certificate, key and client CAs can be used")?,
        Err(error) => {
            good = false;
            writeln!(out, "TLS: {error}")?;
        }
    }
    if let Err(error) = parts::make_state_dir(config) {
        writeln!(out, "{error}")?;
        return Ok(false);
    }
    for cluster in &config.clusters {
        writeln!(out, "\ncluster {} (key store {:?})", cluster.id, cluster.name)?;
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
    let pin = match config::read_pin(hsm) {
        Ok(pin) => pin,
        Err(error) => {
            writeln!(out, "    wrong: {error}")?;
            return Ok(false);
        }
    };
    let mut settings = settings::hsm(config, hsm);
    settings.lock_file = settings::lock_file(config, &hsm.id, "check.lock");
    // What the worker would log is printed here in better words.
    settings.environment.insert(WORKER_LOG[1].to_owned(), "off".to_owned());
    let started = Worker::start(&settings, Role::Control, Some(pin), clock).await;
    let _ = std::fs::remove_file(&settings.lock_file);
    match started {
        Ok(worker) => {
            let good = describe(worker.ready(), out);
            worker.stop().await;
            good
        }
        Err(error) => {
            writeln!(out, "    wrong: {error}\n    to do: {}", remedy(&error, hsm))?;
            Ok(false)
        }
    }
}

fn describe(ready: &Ready, out: &mut (dyn Write + Send)) -> io::Result<bool> {
    writeln!(out, "    module: {}", ready.module)?;
    writeln!(out, "    token: {:?}, serial number {}", ready.label, ready.serial)?;
    writeln!(out, "    keys: {}", ready.keys.len())?;
    let mut good = true;
    for (mechanism, there, needed) in mechanisms(&ready.abilities) {
        writeln!(out, "    {mechanism}: {}", if there { "yes" } else { "no" })?;
        if needed && !there {
            good = false;
            writeln!(
                out,
                "    wrong: keystored cannot use a token without {mechanism}\n    to do: enable it in the HSM's policy, or use another HSM"
            )?;
        }
    }
    let ceremony = &ready.ceremony;
    let objects = [
        ("transport key pair", ceremony.transport),
        ("canary key", ceremony.canary),
        ("cluster wrapping key", ceremony.wrapping),
    ];
    let missing: Vec<&str> = objects.iter().filter(|(_, there)| !there).map(|(name, _)| *name).collect();
    if missing.is_empty() {
        writeln!(out, "    ceremony: carried out")?;
    } else {
        good = false;
        let missing = missing.join(", ");
        writeln!(
            out,
            "    wrong: the token lacks {missing}\n    to do: carry the key ceremony out for the whole cluster"
        )?;
    }
    for sentence in &ready.degraded {
        writeln!(out, "    note: {sentence}")?;
    }
    Ok(good)
}

/// Each mechanism, whether it is there, and whether it is needed.
fn mechanisms(abilities: &Abilities) -> [(&'static str, bool, bool); 6] {
    [
        ("AES-GCM with 256-bit keys", abilities.aes_gcm, true),
        ("AES key generation", abilities.aes_key_gen, true),
        ("AES key wrap", abilities.aes_key_wrap, true),
        ("AES key wrap with padding", abilities.aes_key_wrap_pad, false),
        ("RSA-OAEP", abilities.rsa_oaep, true),
        ("random numbers", abilities.random, true),
    ]
}

/// What to do about a worker that did not start.
fn remedy(error: &StartError, hsm: &Hsm) -> String {
    let module = hsm.module.display();
    match error {
        StartError::Spawn { .. } => {
            "see whether this program may still be executed and processes may be made".to_owned()
        }
        StartError::Died(_) => format!(
            "the module crashed or hangs; try it with another PKCS#11 client and the environment of [cluster.hsm.env], \
             look at its log, and try `sandbox = false` in case it needs files that confined workers may not open: {module}"
        ),
        StartError::Refused(Fault { class: Class::Login, .. }) => format!(
            "{} must hold the PIN of the token's user; it was tried once and is not tried again by itself, because HSMs \
             lock users after some wrong PINs",
            hsm.pin_file.display()
        ),
        StartError::Refused(Fault { class: Class::Refused, .. }) => {
            "change the setting that is named, or what it asks for on this machine".to_owned()
        }
        StartError::Refused(_) => {
            let serial =
                hsm.token_serial.as_ref().map(|serial| format!(" and serial number {serial}")).unwrap_or_default();
            format!(
                "see whether the module finds a token with label {:?}{serial} (pkcs11-tool --module {module} -L, with the \
                 same environment), and whether the daemon's user may read its files or reach the HSM",
                hsm.token_label
            )
        }
    }
}
