//! SIGHUP: the configuration is read again. What takes effect at once is who administrators are, the list of HSMs, how
//! clusters hedge and verify, the seal keys, which calls others have to approve, and rate limits; what else is a cluster's
//! or an HSM's waits for a connect, everything else for a restart.

use std::path::PathBuf;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};

use super::administrators::Administrators;
use super::files::Files;
use super::{parts, requests, settings};
use service::Service;
use telemetry::watchdog::Heartbeat;

/// Reads the file again at each signal, for ever. A file that is wrong changes nothing.
pub(super) async fn on_sighup(
    file: PathBuf,
    service: Service,
    administrators: Arc<Administrators>,
    files: Arc<Files>,
    heartbeat: Heartbeat,
) {
    let mut hangups = match signal(SignalKind::hangup()) {
        Ok(hangups) => hangups,
        Err(error) => {
            tracing::error!(%error, "SIGHUP cannot be heard; the configuration is read at a start only");
            return;
        }
    };
    while heartbeat.idle(hangups.recv()).await.is_some() {
        let read = config::load(&file).map_err(|error| error.to_string());
        let seals = read.and_then(|config| {
            let seals = parts::seals(&config.seal).map_err(|error| error.to_string())?;
            Ok((config, seals))
        });
        match seals {
            Ok((config, seals)) => {
                // In force when the log says that the file was read; and nobody is an administrator before what
                // administrators need the approval of others for is known.
                requests::take_approvals(&service, settings::approvals(&config));
                requests::take_rate_limits(&service, settings::rate_limits(&config));
                administrators.take_over(config.administrators.clone());
                requests::look_for_approvers(&service);
                tracing::info!(file = %file.display(), "SIGHUP: the configuration was read again");
                service.set_seals(seals);
                // Waits its turn behind whatever happens to each key store.
                heartbeat.idle(service.reconfigure(settings::clusters(&config, files.found))).await;
                files.reconfigured(&config);
            }
            Err(error) => tracing::error!(error, "SIGHUP: the configuration cannot be used; nothing was changed"),
        }
    }
}
