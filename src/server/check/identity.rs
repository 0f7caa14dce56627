//! Whether an HSM's identity is certified, as far as can be seen without a login and without a trust anchor: in its token, or
//! in its file.

use std::io::{self, Write};
use std::time::SystemTime;

use model::text;
use pki::identity::{Kind, claimed, fingerprint};
use protocol::Ready;
use supervisor::{Settings, certificate_remedy};

/// Looks, and says how to mend what is wrong; false when something is. `file` is how the HSM is run where its certificate is
/// in a file.
pub(super) fn look(
    file: Option<&Settings>,
    ready: &Ready,
    now: SystemTime,
    out: &mut (dyn Write + Send),
) -> io::Result<bool> {
    match file {
        Some(settings) => in_file(settings, ready, now, out),
        None if ready.identity.is_some() => {
            writeln!(out, "    ceremony: the token holds an identity certificate")?;
            Ok(true)
        }
        None => {
            writeln!(
                out,
                "    wrong: the token holds no identity certificate\n    to do: carry the key ceremony out (keystorectl \
                 cluster init, or add-hsm for a further HSM)"
            )?;
            Ok(false)
        }
    }
}

fn in_file(settings: &Settings, ready: &Ready, now: SystemTime, out: &mut (dyn Write + Send)) -> io::Result<bool> {
    let found = settings.certificate_of_file();
    let (der, file) = match (&found, &settings.certificate) {
        (Ok(Some(der)), Some(file)) => (der, file.display()),
        (Ok(_), _) => return Ok(true),
        (Err(error), _) => {
            writeln!(out, "    wrong: the certificate file {} {}", error.file.display(), text::shown(&error.why))?;
            writeln!(out, "    to do: {}", error.remedy)?;
            return Ok(false);
        }
    };
    let wrong = match claimed(Kind::Identity, der, now) {
        Ok(claim) if claim.hsm != settings.hsm => Some(format!("it is the certificate of HSM {}", claim.hsm)),
        Ok(claim) if claim.serial != ready.serial => Some(format!(
            "it is of a token with the serial number {}, and this one has {}",
            text::shown(&claim.serial),
            text::shown(&ready.serial)
        )),
        Ok(_) => None,
        Err(error) => Some(error.to_string()),
    };
    match wrong {
        None => {
            writeln!(
                out,
                "    ceremony: its identity certificate is in {file} (SHA-256 {}); whether its key store's authority has \
                 signed it, and whether the token holds its key, is seen when the key store is connected",
                fingerprint(der)
            )?;
            Ok(true)
        }
        Some(why) => {
            writeln!(
                out,
                "    wrong: the certificate file {file} is not this HSM's: {why}\n    to do: {}",
                certificate_remedy(&settings.hsm)
            )?;
            Ok(false)
        }
    }
}
