//! One HSM of the configuration.

use std::time::Duration;

use toml::Spanned;

use super::check::Context;
use super::{Error, Hsm, raw};
use model::profile::{Capabilities, Profile};
use model::text;

impl Context<'_> {
    pub(super) fn hsm(&self, hsm: &Spanned<raw::Hsm>) -> Result<Hsm, Error> {
        let raw = hsm.get_ref();
        self.without_pin(raw)?;
        if let Some(serial) = &raw.token_serial {
            return Err(
                self.at(serial, "write token_serials = [\"…\"]: a token may have one of several serial numbers")
            );
        }
        text::token_label(raw.token_label.get_ref()).map_err(|wrong| self.at(&raw.token_label, wrong.to_string()))?;
        for serial in &raw.token_serials {
            text::token_serial(serial.get_ref())
                .map_err(|wrong| self.at(serial, format!("{wrong}; leave it out to go by the label")))?;
        }
        for (name, value) in &raw.env {
            if name.get_ref().is_empty() || name.get_ref().contains(['=', '\0']) || value.contains('\0') {
                return Err(self.at(name, format!("{:?} cannot be set in an environment", name.get_ref())));
            }
        }
        let profile = raw.profile.unwrap_or(Profile::Generic);
        let capabilities = self.capabilities(hsm, profile)?;
        let (run, calls) = (&capabilities.run, &capabilities.calls);
        let environment = raw.env.iter().map(|(name, value)| (name.get_ref().clone(), value.clone())).collect();
        let narrow = |n: usize| u16::try_from(n).unwrap_or(u16::MAX);
        let workers = narrow(self.count(raw.workers.as_ref(), run.workers.into(), 1..=64)?);
        let sessions = narrow(self.count(raw.sessions.as_ref(), run.sessions.into(), 1..=256)?);
        let needed = (u64::from(workers) + 1) * (u64::from(sessions) + 1);
        if calls.sessions != 0 && needed > calls.sessions {
            let message = format!(
                "{workers} workers with {sessions} sessions each need {needed}, with the control worker and one more for \
                 each process, and the HSM has {} (capabilities.calls.sessions)",
                calls.sessions
            );
            let place = raw.sessions.as_ref().or(raw.workers.as_ref()).map_or_else(|| hsm.span(), Spanned::span);
            return Err(self.error(Some(place), message));
        }
        let in_place = capabilities.keys.in_place();
        let hot_copies = match &raw.hot_copies {
            Some(wanted) if *wanted.get_ref() && in_place => {
                let message =
                    "keys that are made in place (capabilities.keys.made) cannot be copied; take the line out";
                return Err(self.at(wanted, message));
            }
            // What the profile has for its other keys.
            None => run.hot_copies && !in_place,
            Some(wanted) => *wanted.get_ref(),
        };
        Ok(Hsm {
            id: self.name(&raw.id, "HSM id")?.into(),
            zone: self.zone_of(hsm, &capabilities)?,
            module: self.path(&raw.module)?,
            token_label: raw.token_label.get_ref().clone(),
            token_serials: raw.token_serials.iter().map(|serial| serial.get_ref().clone()).collect(),
            certificate: self.certificate(raw, &capabilities)?,
            profile,
            workers,
            sessions,
            hot_copies,
            require_mlock: raw.require_mlock.unwrap_or(false),
            sandbox: self.sandbox(raw.sandbox.as_ref(), profile, &environment)?,
            environment,
            kill: self.kill(&raw.kill, &capabilities)?,
            queue: (
                self.count(raw.queue.items.as_ref(), 8_192, 1..=1_000_000)?,
                self.count(raw.queue.bytes.as_ref(), 64 << 20, 64 << 10..=1 << 32)?,
            ),
            capabilities,
        })
    }

    fn without_pin(&self, raw: &raw::Hsm) -> Result<(), Error> {
        if let Some(pin) = &raw.pin {
            return Err(self.at(
                pin,
                "a PIN does not belong in this file; take the line out, change the PIN, and give it to the key store \
                 (keystorectl key-store create or update)",
            ));
        }
        if let Some(pin_file) = &raw.pin_file {
            return Err(self.at(
                pin_file,
                "the daemon reads no PIN from a file; take the line out, and give the PIN to the key store (keystorectl \
                 key-store create or update)",
            ));
        }
        Ok(())
    }

    /// Kill limits. A module that moves to another HSM within a call is not killed for that, and so none is shorter than
    /// what it may take for it.
    fn kill(&self, kill: &raw::Kill, capabilities: &Capabilities) -> Result<[Duration; 4], Error> {
        let retry = capabilities.calls.retry_ms;
        let more = usize::try_from(retry).unwrap_or(usize::MAX);
        let limits = [
            (&kill.crypto_ms, 250, 10..=60_000),
            (&kill.place_ms, 5_000, 100..=600_000),
            (&kill.generate_ms, 30_000, 100..=600_000),
            // A worker that is killed inside C_Login can take its token with it.
            (&kill.login_ms, 60_000, 10_000..=600_000),
        ];
        let mut checked = [Duration::ZERO; 4];
        for (place, (said, usual, range)) in checked.iter_mut().zip(limits) {
            if let Some(said) = said
                && range.contains(said.get_ref())
                && *said.get_ref() < retry
            {
                let message = format!(
                    "{} is less than the {retry} that the module itself may take to try again within a call \
                     (capabilities.calls.retry_ms); its workers would be killed for that",
                    said.get_ref()
                );
                return Err(self.at(said, message));
            }
            *place = self.millis(said.as_ref(), more.saturating_add(usual), range)?;
        }
        Ok(checked)
    }
}
